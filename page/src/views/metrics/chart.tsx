/** A chart without PromQL: buckets of the native API, by a form. */
import { useMemo, useRef, useState } from "preact/hooks";
import { native } from "../../api/native";
import { labelValues } from "../../api/prometheus";
import type { Metric, Threshold } from "../../catalogue/catalogue";
import { selectorOf } from "../../catalogue/catalogue";
import { formatDurationMs, parseDurationMs } from "../../format/durations";
import { type LabelFilter, filterText, formatSeries } from "../../format/series";
import { Legend, keyOf } from "../../plot/legend";
import { type Line, Plot } from "../../plot/plot";
import { hrefOf, place } from "../../router";
import { autoStep, range, zoomTo } from "../../time/range";
import { colour, isDark } from "../../theme";
import { Empty, ErrorBox, Loading, Notices } from "../../ui/states";
import { useRequest } from "../../use_request";
import {
  AGGREGATIONS, type ChartState, addFilter, aggregationOf, chartUnit, hasLevels, promqlOf, readChart,
  writeChart,
} from "./chart_state";

const BUCKETS = ["15s", "30s", "1m", "5m", "15m", "30m", "1h", "6h", "1d"];
/** Two samples of a usual scrape interval, which a rate needs. */
const LEAST_BUCKET_SECONDS = 30;

interface Point {
  timestamp: string;
  [value: string]: string | number | null;
}

interface SeriesAnswer {
  aggregation: string;
  series: { labels: Record<string, string>; points: Point[] }[];
  truncated: boolean;
  warnings: string[];
}

export interface ChartProps {
  metric: Metric;
  labels: string[];
  /** The aggregation of the definition. */
  preferred: string | null;
  threshold: Partial<Threshold> | null;
}

export function Chart({ metric, labels, preferred, threshold }: ChartProps) {
  const state = readChart(place.value.query);
  const { start, end } = range.value;
  const bucket = state.bucket || formatDurationMs(autoStep(range.value, 600, LEAST_BUCKET_SECONDS) * 1000);
  const filters = state.filters.map(filterText);
  const by = state.by.join(",");
  const { data, error, isLoading } = useRequest(
    async (signal) => {
      const answer = await native.get<SeriesAnswer>(`/series/${encodeURIComponent(metric.name)}`, {
        parameters: {
          start, end, bucket, fill: "null",
          aggregation: state.aggregation || undefined,
          label: filters,
          group_by: state.by,
          all_series: state.split === "all" || undefined,
        },
        signal,
      });
      return { ...answer, ...linesOf(answer.series), range: { start, end } };
    },
    [metric.name, start, end, bucket, state.aggregation, filters.join("\n"), by, state.split],
  );
  const aggregation = data?.aggregation ?? aggregationOf(state, metric, preferred);
  const expression = promqlOf(metric, state, aggregation, bucket);
  const { query } = place.value;
  const explore = { "g0.expr": expression, "g0.tab": "0", from: query.get("from"), to: query.get("to") };
  return (
    <section class="card stack" aria-label="Chart" aria-busy={isLoading}>
      <ChartForm state={state} labels={labels} bucket={bucket} aggregation={aggregation} metric={metric} />
      {error && <ErrorBox error={error} title="The chart could not be computed." />}
      {!data && !error && <Loading />}
      {data && <Notices warnings={data.warnings} infos={data.truncated ? ["Only some of the series are drawn; group or filter them."] : []} />}
      {data && (data.lines.length ? (
        <Drawn
          {...data}
          unit={chartUnit(metric, aggregation)}
          label={`${metric.name} over time`}
          threshold={hasLevels(metric, aggregation) ? threshold : null}
        />
      ) : (
        <Empty title="There are no samples in this time range." />
      ))}
      <p>
        <a href={hrefOf("explore", explore)}>Open in Explore</a> <span class="hint">as</span> <code>{expression}</code>
      </p>
    </section>
  );
}

function Drawn({
  times, lines, range: drawn, unit, label, threshold,
}: {
  times: number[];
  lines: Line[];
  range: { start: number; end: number };
  unit: string;
  label: string;
  threshold: Partial<Threshold> | null;
}) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const shown = useMemo(() => lines.map((line) => ({ ...line, hidden: hidden.has(keyOf(line)) })), [lines, hidden]);
  const { warning, critical } = threshold ?? {};
  const thresholds = useMemo(
    () => [
      ...(typeof warning === "number" ? [{ value: warning, name: "warning", colour: colour("--warning") }] : []),
      ...(typeof critical === "number" ? [{ value: critical, name: "critical", colour: colour("--critical") }] : []),
    ],
    [warning, critical, isDark.value],
  );
  const levels = thresholds.map(({ name, value }) => `, ${name} at ${value}`).join("");
  return (
    <div>
      <Plot
        label={label + levels}
        times={times}
        lines={shown}
        range={drawn}
        unit={unit}
        height={280}
        thresholds={thresholds}
        onZoom={zoomTo}
      />
      <Legend lines={shown} unit={unit} onHide={setHidden} />
    </div>
  );
}

/** One line for each series, or for each percentile of it, on the times of all buckets. */
function linesOf(series: SeriesAnswer["series"]): { times: number[]; lines: Line[] } {
  const times = [...new Set(series.flatMap(({ points }) => points.map((point) => Date.parse(point.timestamp) / 1000)))];
  times.sort((a, b) => a - b);
  const rows = new Map(times.map((time, row) => [time, row]));
  const lines = series.flatMap(({ labels, points }) => {
    const names = Object.keys(points[0] ?? {}).filter((name) => name !== "timestamp");
    return names.map((name): Line => {
      const values = Array.from<number | null>({ length: times.length }).fill(null);
      for (const point of points) {
        const value = point[name];
        if (typeof value === "number") values[rows.get(Date.parse(point.timestamp) / 1000) ?? -1] = value;
      }
      const text = Object.keys(labels).length ? formatSeries(labels) : "all series";
      return { name: name === "value" ? text : `${text} ${name}`, values };
    });
  });
  return { times, lines };
}

function ChartForm({
  state, labels, bucket, aggregation, metric,
}: {
  state: ChartState;
  labels: string[];
  bucket: string;
  aggregation: string;
  metric: Metric;
}) {
  const buckets = BUCKETS.includes(state.bucket) || !state.bucket ? BUCKETS : [state.bucket, ...BUCKETS];
  const groups = state.split === "by" ? state.by : [];
  return (
    <div class="stack chart-form">
      <div class="row">
        <label>
          Aggregation
          <select value={state.aggregation} onChange={(event) => writeChart({ aggregation: event.currentTarget.value })}>
            <option value="">default{state.aggregation ? "" : ` (${aggregation})`}</option>
            {AGGREGATIONS.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Bucket
          <select value={state.bucket} onChange={(event) => writeChart({ bucket: event.currentTarget.value })}>
            <option value="">auto{state.bucket ? "" : ` (${bucket})`}</option>
            {buckets.map((text) => (
              <option key={text} disabled={parseDurationMs(text) === null}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <label>
          Lines
          <select
            value={state.split}
            onChange={(event) => {
              const split = event.currentTarget.value as ChartState["split"];
              writeChart({ split, by: split === "by" ? labels.slice(0, 1) : [] });
            }}
          >
            <option value="each">each series</option>
            <option value="all">all series together</option>
            {labels.length > 0 && <option value="by">groups by labels</option>}
          </select>
        </label>
        {state.split === "by" && (
          <fieldset class="chart-groups">
            <legend class="hint">Group by</legend>
            {labels.map((name) => (
              <label class="inline" key={name}>
                <input
                  type="checkbox"
                  checked={groups.includes(name)}
                  onChange={() =>
                    writeChart({
                      by: groups.includes(name) ? groups.filter((other) => other !== name) : [...groups, name],
                    })
                  }
                />
                {name}
              </label>
            ))}
          </fieldset>
        )}
      </div>
      {labels.length > 0 && <Filters state={state} labels={labels} metric={metric} />}
    </div>
  );
}

function Filters({ state, labels, metric }: { state: ChartState; labels: string[]; metric: Metric }) {
  const [label, setLabel] = useState(labels[0] ?? "");
  const form = useRef<HTMLFormElement>(null);
  const selector = selectorOf(metric.parts[0] ?? metric.name);
  const { data: values } = useRequest((signal) => labelValues(label, [selector], signal), [label, selector]);
  const remove = (filter: LabelFilter) =>
    writeChart({ filters: state.filters.filter((other) => filterText(other) !== filterText(filter)) });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const read = new FormData(event.currentTarget as HTMLFormElement);
    addFilter({ name: label, operator: String(read.get("operator")), value: String(read.get("value")) });
    form.current?.reset();
  };
  return (
    <form class="row" onSubmit={submit} ref={form} aria-label="Filters">
      <label>
        Filter
        <select value={label} onChange={(event) => setLabel(event.currentTarget.value)}>
          {labels.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      <label>
        Operator
        <select name="operator">
          {["=", "!=", "=~", "!~"].map((operator) => (
            <option key={operator}>{operator}</option>
          ))}
        </select>
      </label>
      <label>
        Value
        <input name="value" list="filter-values" autocomplete="off" />
      </label>
      <datalist id="filter-values">
        {(values ?? []).slice(0, 500).map((value) => (
          <option key={value} value={value} />
        ))}
      </datalist>
      <button type="submit" class="filter-add">
        Add
      </button>
      {state.filters.map((filter) => (
        <button
          type="button"
          key={filterText(filter)}
          class="label filter"
          aria-label={`Remove the filter ${filterText(filter)}`}
          onClick={() => remove(filter)}
        >
          {filterText(filter)} ✕
        </button>
      ))}
    </form>
  );
}
