/** One metric: its chart, its labels, its series and its definition. */
import { useMemo, useState } from "preact/hooks";
import { native } from "../../api/native";
import { type Metadata, call } from "../../api/prometheus";
import { ApiError, sendForJson } from "../../api/transport";
import { type Definition, type Metric, type Threshold, metricsOf, selectorOf, unitIdOf } from "../../catalogue/catalogue";
import { formatCount, formatValue } from "../../format/numbers";
import { escapeRegex } from "../../format/series";
import { formatAgo } from "../../format/times";
import { changedQuery, hrefOf, place, setQuery } from "../../router";
import { range } from "../../time/range";
import { Badge, Empty, ErrorBox, LabelList, Loading } from "../../ui/states";
import { Table } from "../../ui/table";
import { Tabs } from "../../ui/tabs";
import { useRequest } from "../../use_request";
import { LabelValues } from "./cardinality";
import { Chart } from "./chart";
import { addFilter } from "./chart_state";
import { DefinitionForm } from "./definition";

const TABS = [
  { id: "labels", name: "Labels" },
  { id: "series", name: "Newest samples" },
  { id: "definition", name: "Definition" },
];

interface LabelNames {
  cardinality: { label_name: string; label_values_count: number }[];
}

interface Found {
  metric: Metric;
  definition: Definition | null;
  /** Names of labels with how many values each has. */
  labels: { name: string; values: number }[];
  /** A selector of the series that the labels are of. */
  selector: string;
}

async function findMetric(name: string, signal: AbortSignal): Promise<Found> {
  const parts = [name, `${name}_bucket`, `${name}_count`, `${name}_sum`];
  const [metadata, definition, counted] = await Promise.all([
    call<Record<string, Metadata[]>>("metadata", { parameters: { metric: name }, signal }),
    findDefinition(name, signal),
    sendForJson<{ labels: { cardinality: { label_value: string; series_count: number }[] }[] }>(
      "api/v1/cardinality/label_values",
      {
        parameters: {
          "label_names[]": "__name__",
          selector: `{__name__=~${JSON.stringify(parts.map(escapeRegex).join("|"))}}`,
        },
        signal,
      },
    ),
  ]);
  const names = (counted.labels[0]?.cardinality ?? []).map((one) => ({
    name: one.label_value,
    value: one.series_count,
  }));
  const definitions = new Map(definition ? [[name, definition]] : []);
  const metric = metricsOf(names, metadata.data ?? {}, definitions).find((one) => one.name === name);
  if (!metric) throw new ApiError(`The metric ${name} has no samples.`, 404, "Not found");
  const widest = metric.parts.find((part) => part.endsWith("_bucket")) ?? metric.parts[0] ?? name;
  const selector = selectorOf(widest);
  const { cardinality } = await sendForJson<LabelNames>("api/v1/cardinality/label_names", {
    parameters: { selector, limit: 500 },
    signal,
  });
  const labels = cardinality
    .filter(({ label_name }) => label_name !== "__name__")
    .map((one) => ({ name: one.label_name, values: one.label_values_count }));
  return { metric, definition, labels, selector };
}

/** By the list, as most metrics have no definition, and that is no error. */
async function findDefinition(name: string, signal: AbortSignal): Promise<Definition | null> {
  const parameters = { prefix: name, limit: 1 };
  const page = await native.get<{ definitions: Definition[] }>("/definitions", { parameters, signal });
  // Of the names with this prefix, the name itself is the first.
  return page.definitions.find((one) => one.name === name) ?? null;
}

export function Detail({ name }: { name: string }) {
  const { query } = place.value;
  const { data, error, reload } = useRequest((signal) => findMetric(name, signal), [name]);
  // The thresholds as they are being edited are drawn before they are saved.
  const [draft, setDraft] = useState<Partial<Threshold> | null>(null);
  const back = hrefOf(
    "metrics-explorer",
    changedQuery(new URLSearchParams(), {
      search: query.get("search"),
      type: query.get("type"),
      from: query.get("from"),
      to: query.get("to"),
      refresh: query.get("refresh"),
    }),
  );
  return (
    <div class="stack">
      <div>
        <a href={back}>← All metrics</a>
        <h1 class="mono metric-title">{name}</h1>
      </div>
      {error && <ErrorBox error={error} title="The metric could not be read." />}
      {!data && !error && <Loading />}
      {data && (
        <>
          <About {...data} />
          <Chart
            metric={data.metric}
            labels={data.labels.map((label) => label.name)}
            preferred={data.definition?.aggregation ?? null}
            threshold={draft ?? data.definition?.alert_threshold ?? null}
          />
          <Tabs
            label="About the metric"
            tabs={TABS}
            selected={query.get("tab") ?? "labels"}
            onSelect={(tab) => setQuery({ tab: tab === "labels" ? null : tab })}
          >
            {query.get("tab") === "definition" ? (
              <DefinitionForm
                key={data.definition?.version ?? "new"}
                metric={data.metric}
                definition={data.definition}
                onThreshold={setDraft}
                onChange={() => {
                  setDraft(null);
                  reload();
                }}
              />
            ) : query.get("tab") === "series" ? (
              <NewestSamples metric={data.metric} />
            ) : (
              <Labels labels={data.labels} selector={data.selector} />
            )}
          </Tabs>
        </>
      )}
    </div>
  );
}

function About({ metric, definition }: Found) {
  return (
    <div>
      {definition?.display_name && <p>{definition.display_name}</p>}
      {metric.help && <p>{metric.help}</p>}
      <p class="row">
        <Badge>{metric.type}</Badge>
        {metric.unit && <Badge>{metric.unit}</Badge>}
        <span>{metric.series === 1 ? "1 series" : `${formatCount(metric.series)} series`}</span>
        {definition?.retention_days && <span>kept for {formatCount(definition.retention_days)} days</span>}
        {!definition && <span class="hint">without a definition</span>}
      </p>
    </div>
  );
}

function Labels({ labels, selector }: { labels: Found["labels"]; selector: string }) {
  const opened = place.value.query.get("label");
  if (!labels.length) return <Empty title="Its only series has no labels." />;
  return (
    <div class="card-columns">
      <Table
        label="Labels of the metric"
        rows={labels}
        keyOf={({ name }) => name}
        columns={[
          {
            name: "Label",
            value: ({ name }) => name,
            show: ({ name }) => (
              <button type="button" class="quiet mono" aria-expanded={opened === name} onClick={() => setQuery({ label: name })}>
                {name}
              </button>
            ),
          },
          { name: "Values", value: ({ values }) => values, show: ({ values }) => formatCount(values), isNumber: true },
        ]}
      />
      {opened && (
        <LabelValues
          key={opened}
          label={opened}
          selector={selector}
          onClose={() => setQuery({ label: null })}
          onValue={(value) => addFilter({ name: opened, operator: "=", value })}
        />
      )}
    </div>
  );
}

interface LatestSeries {
  labels: Record<string, string>;
  timestamp: string;
  value?: number | string;
  count?: number | string | null;
  sum?: number | string | null;
}

const MOST_SERIES = 200;

function NewestSamples({ metric }: { metric: Metric }) {
  const { data, error } = useRequest(
    (signal) =>
      native.get<{ series: LatestSeries[]; truncated: boolean }>(`/latest/${encodeURIComponent(metric.name)}`, {
        parameters: { limit: MOST_SERIES },
        signal,
      }),
    [metric.name, range.value.end],
  );
  const unit = unitIdOf(metric.name, metric.unit);
  const rows = useMemo(() => data?.series ?? [], [data]);
  const isDistribution = rows.some((row) => row.count !== undefined);
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  const numbers = isDistribution
    ? [
        { name: "Count", of: (row: LatestSeries) => row.count, unit: "short" },
        { name: "Sum", of: (row: LatestSeries) => row.sum, unit },
      ]
    : [{ name: "Value", of: (row: LatestSeries) => row.value, unit }];
  return (
    <>
      {data.truncated && <p class="hint">Only {MOST_SERIES} series are shown.</p>}
      <Table
        label="Newest sample of each series"
        rows={rows}
        columns={[
          { name: "Series", value: ({ labels }) => JSON.stringify(labels), show: ({ labels }) => <LabelList labels={labels} /> },
          ...numbers.map((column) => ({
            name: column.name,
            value: (row: LatestSeries) => toNumber(column.of(row)),
            show: (row: LatestSeries) => formatValue(toNumber(column.of(row)), column.unit),
            isNumber: true,
          })),
          {
            name: "Time",
            value: ({ timestamp }) => timestamp,
            show: ({ timestamp }) => formatAgo(Date.parse(timestamp) / 1000),
          },
        ]}
      />
    </>
  );
}

/** The native API has NaN and the infinities as texts. */
function toNumber(value: number | string | null | undefined): number | null {
  return value === null || value === undefined ? null : Number(value);
}
