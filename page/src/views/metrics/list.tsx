/** All metrics in a table, and where their series come from. */
import { useMemo } from "preact/hooks";
import { type Catalogue, type Metric, MOST_METRICS, OWN_JOB, unitIdOf } from "../../catalogue/catalogue";
import { FirstStart } from "../../catalogue/first_start";
import { useCatalogue } from "../../catalogue/overview";
import { LastValue, Sparkline, useSeen, useSummary } from "../../catalogue/sparkline";
import { formatCount } from "../../format/numbers";
import { changedQuery, hrefOf, place, setQuery } from "../../router";
import { Empty, ErrorBox, Loading } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { Tabs } from "../../ui/tabs";
import { Cardinality } from "./cardinality";

const TABS = [
  { id: "list", name: "List" },
  { id: "cardinality", name: "Cardinality" },
];
const TYPES = ["counter", "gauge", "histogram", "summary"];

export function List() {
  const { data, error, readAgain } = useCatalogue();
  const tab = place.value.query.get("tab") ?? "list";
  return (
    <div class="stack">
      <h1>Metrics</h1>
      {error && <ErrorBox error={error} title="The metrics could not be read." />}
      {!data && !error && <Loading what="Counting series" />}
      {data && !data.hasOtherThanOwn && <FirstStart onArrival={readAgain} />}
      {data && (
        <Tabs label="Metrics" tabs={TABS} selected={tab} onSelect={(id) => setQuery({ tab: id === "list" ? null : id })}>
          {tab === "cardinality" ? <Cardinality statistics={data.statistics} /> : <MetricTable catalogue={data} />}
        </Tabs>
      )}
    </div>
  );
}

function MetricTable({ catalogue }: { catalogue: Catalogue }) {
  const { query } = place.value;
  const search = query.get("search") ?? "";
  const type = query.get("type") ?? "";
  const found = useMemo(() => matching(catalogue.metrics, search, type), [catalogue, search, type]);
  const write = (change: Record<string, string>) => setQuery(change, { replace: true });
  return (
    <div class="stack">
      <div class="row">
        <label class="grow">
          Search in names, help and units
          <input
            type="search"
            value={search}
            placeholder="words, such as cpu seconds"
            onInput={(event) => write({ search: event.currentTarget.value })}
          />
        </label>
        <label>
          Type
          <select value={type} onChange={(event) => write({ type: event.currentTarget.value })}>
            <option value="">all</option>
            {TYPES.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </div>
      <p class="hint" role="status">
        {formatCount(found.length)} of {formatCount(catalogue.metrics.length)} metrics
        {catalogue.isCut && `; only the ${formatCount(MOST_METRICS)} names with the most series are listed`}
        {!catalogue.hasOtherThanOwn && `; all of them are of the service itself (job ${OWN_JOB})`}
      </p>
      {found.length > 0 ? (
        <div class="metric-table">
          <Table label="Metrics" columns={COLUMNS} rows={found} keyOf={(metric) => metric.name} pageLength={100} />
        </div>
      ) : (
        <Empty title="No metric matches." />
      )}
    </div>
  );
}

/** Metrics that have every word of `search` in their name, help or unit. */
export function matching(metrics: readonly Metric[], search: string, type: string): Metric[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return metrics.filter((metric) => {
    if (type && metric.type !== type) return false;
    const text = `${metric.name} ${metric.help} ${metric.unit}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

const COLUMNS: Column<Metric>[] = [
  { name: "Metric", value: ({ name }) => name, show: (metric) => <Name metric={metric} /> },
  {
    name: "Type",
    value: ({ type }) => type,
    show: ({ type, hasType }) =>
      hasType ? type : <span class="hint" title="Nobody has said so; the name suggests it.">{type}?</span>,
  },
  { name: "Unit", value: ({ name, unit }) => unit || unitIdOf(name, "") },
  { name: "Series", value: ({ series }) => series, show: ({ series }) => formatCount(series), isNumber: true },
  { name: "Now", value: ({ name }) => name, show: (metric) => <Now metric={metric} /> },
];

function Name({ metric }: { metric: Metric }) {
  const query = changedQuery(place.value.query, { metric: metric.name, tab: null });
  return (
    <>
      <a class="mono" href={hrefOf("metrics-explorer", query)}>
        {metric.name}
      </a>
      {metric.help && <div class="hint metric-help">{metric.help}</div>}
    </>
  );
}

function Now({ metric }: { metric: Metric }) {
  const [element, isSeen] = useSeen();
  const summary = useSummary(metric, isSeen);
  return (
    <div
      class="metric-now"
      ref={(found) => {
        element.current = found;
      }}
    >
      <Sparkline summary={summary} label={`${metric.name} over time`} />
      <span class="metric-now-value">
        <LastValue summary={summary} />
      </span>
    </div>
  );
}
