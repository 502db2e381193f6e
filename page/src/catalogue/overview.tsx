/** The picture of what is measured: jobs, and metrics of each kind; before, what to do about that. */
import { useMemo } from "preact/hooks";
import { query } from "../api/prometheus";
import { formatCount } from "../format/numbers";
import { hrefOf, place } from "../router";
import { range, reload } from "../time/range";
import { Badge, ErrorBox, Loading } from "../ui/states";
import { useRequest } from "../use_request";
import { type Metric, readCatalogue, unitIdOf } from "./catalogue";
import { FirstStart } from "./first_start";
import { LastValue, Sparkline, useSeen, useSummary } from "./sparkline";

const MOST_GROUPS = 12;
const CARDS_OF_GROUP = 12;

/** The catalogue, and how to read it again with what has arrived since. */
export function useCatalogue() {
  const request = useRequest(readCatalogue, []);
  const readAgain = () => {
    reload();
    request.reload();
  };
  return { ...request, readAgain };
}

/** What the start page shows while no expression is entered. */
export function Overview() {
  const { data, error, readAgain } = useCatalogue();
  const groups = useMemo(() => groupsOf(data?.metrics ?? []), [data]);
  if (error) return <ErrorBox error={error} title="What is measured could not be read." />;
  if (!data) return <Loading what="Looking for what is measured" />;
  return (
    <div class="stack">
      {!data.hasOtherThanOwn && <FirstStart onArrival={readAgain} />}
      <section aria-label="What is measured" class="stack">
        <div class="row">
          <h2>What is measured</h2>
          <a href={hrefOf("metrics-explorer")}>
            {formatCount(data.metrics.length)} metrics, {formatCount(data.statistics.headStats.numSeries)} series
          </a>
          <Jobs />
        </div>
        {groups.map(({ prefix, metrics, shown }) => (
          <section key={prefix} class="metric-group" aria-label={`Metrics of ${prefix}`}>
            <h3>
              <a href={hrefOf("metrics-explorer", { search: prefix })}>{prefix}</a>{" "}
              <span class="hint">
                {metrics.length === 1 ? "1 metric" : `${formatCount(metrics.length)} metrics`}
              </span>
            </h3>
            <div class="metric-cards">
              {shown.map((metric) => (
                <Card key={metric.name} metric={metric} />
              ))}
            </div>
          </section>
        ))}
      </section>
    </div>
  );
}

function Card({ metric }: { metric: Metric }) {
  const [element, isSeen] = useSeen();
  const summary = useSummary(metric, isSeen);
  const { query: asked } = place.value;
  const href = hrefOf("metrics-explorer", { metric: metric.name, from: asked.get("from"), to: asked.get("to") });
  return (
    <a
      class="metric-card"
      href={href}
      title={metric.help || undefined}
      ref={(found) => {
        element.current = found;
      }}
    >
      <span class="metric-card-name">{metric.name}</span>
      <span class="metric-card-value">
        <LastValue summary={summary} />
      </span>
      <Sparkline summary={summary} label={`${metric.name} over time`} />
    </a>
  );
}

/** How many targets of each job are up. */
function Jobs() {
  const { end } = range.value;
  const { data } = useRequest(
    async (signal) => {
      const [up, all] = await Promise.all([
        query("sum by (job) (up)", end, signal),
        query("count by (job) (up)", end, signal),
      ]);
      if (up.data.resultType !== "vector" || all.data.resultType !== "vector") return [];
      const nUp = new Map(up.data.result.map((one) => [one.metric.job ?? "", Number(one.value?.[1])]));
      return all.data.result.map(({ metric, value }) => ({
        job: metric.job ?? "",
        up: nUp.get(metric.job ?? "") ?? 0,
        all: Number(value?.[1]),
      }));
    },
    [end],
  );
  return (
    <span class="row">
      {(data ?? []).map(({ job, up, all }) => (
        <a key={job} href={hrefOf("status", { tab: "targets" })} class="plain-link">
          <Badge tone={up === all ? "good" : "critical"}>
            {job || "no job"}: {up} of {all} up
          </Badge>
        </a>
      ))}
    </span>
  );
}

interface Group {
  prefix: string;
  metrics: Metric[];
  shown: Metric[];
}

/** Metrics by the first word of their names; the service's own come last. */
export function groupsOf(metrics: readonly Metric[]): Group[] {
  const byPrefix = Map.groupBy(metrics, ({ name }) => /^[^_:.]+[_:.]?/.exec(name)?.[0] ?? name);
  const groups = [...byPrefix].map(([prefix, found]) => ({ prefix, metrics: found, shown: oneOfEach(found) }));
  const rank = ({ prefix, metrics: found }: Group): [number, number] => [
    prefix === "promcompat_" ? 2 : /^(go|process|python|scrape|promhttp)_$/.test(prefix) ? 1 : 0,
    -found.length,
  ];
  return groups
    .toSorted((a, b) => {
      const [first, second] = [rank(a), rank(b)];
      return first[0] - second[0] || first[1] - second[1] || (a.prefix < b.prefix ? -1 : 1);
    })
    .slice(0, MOST_GROUPS);
}

/** Words in the names of metrics that people look at first. */
const TELLING = /(usage|used|avail|free|received?|requests|errors|duration|latency|queue)/i;

/** Of each second word (`node_cpu`, `node_disk`) the most telling metric, those of the largest groups first. */
function oneOfEach(metrics: readonly Metric[]): Metric[] {
  const telling = metrics.filter(({ name }) => !/_(info|created)$/.test(name));
  const kinds = Map.groupBy(telling, ({ name }) => name.split(/[_:.]/, 2).join("_"));
  const largest = [...kinds.values()].toSorted((a, b) => b.length - a.length);
  const weight = ({ name, unit, series }: Metric) =>
    (TELLING.test(name) ? 2e9 : 0) + (unitIdOf(name, unit) ? 1e9 : 0) + series;
  const chosen = largest.flatMap((kind) => kind.toSorted((a, b) => weight(b) - weight(a)).slice(0, 1));
  return chosen.slice(0, CARDS_OF_GROUP);
}
