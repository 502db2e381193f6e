/** Targets that the service scrapes, and `up` of all others. */
import { type Labels, type Target, call, query } from "../../api/prometheus";
import { formatSeconds } from "../../format/durations";
import { formatAgo } from "../../format/times";
import { place, setQuery } from "../../router";
import { range } from "../../time/range";
import { Badge, Empty, ErrorBox, LabelList, Loading, Notices } from "../../ui/states";
import { Table } from "../../ui/table";
import { useRequest } from "../../use_request";

interface Row {
  job: string;
  instance: string;
  labels: Labels;
  health: string;
  lastError: string;
  /** Unix seconds; undefined: sent by an agent, which says nothing but `up`. */
  lastScrape: number | undefined;
  seconds: number | undefined;
  url: string;
}

const key = ({ job = "", instance = "" }: Labels) => `${job}\n${instance}`;

/** The own targets first; then who has a series `up`, which another one has scraped. */
function rowsOf(targets: readonly Target[], up: readonly { metric: Labels; value?: [number, string] }[]): Row[] {
  const own = targets.map((target): Row => ({
    job: target.labels.job ?? "",
    instance: target.labels.instance ?? "",
    labels: target.labels,
    health: target.health,
    lastError: target.lastError,
    lastScrape: Date.parse(target.lastScrape) / 1000,
    seconds: target.lastScrapeDuration,
    url: target.scrapeUrl,
  }));
  const known = new Set(own.map((row) => key(row.labels)));
  const others = up
    .filter(({ metric }) => !known.has(key(metric)))
    .map(({ metric, value }): Row => ({
      job: metric.job ?? "",
      instance: metric.instance ?? "",
      labels: metric,
      health: value?.[1] === "1" ? "up" : "down",
      lastError: "",
      lastScrape: undefined,
      seconds: undefined,
      url: "",
    }));
  return [...own, ...others];
}

const TONES: Record<string, "good" | "critical"> = { up: "good", down: "critical" };

export function Targets() {
  const { end } = range.value;
  const health = place.value.query.get("health") ?? "";
  const search = place.value.query.get("search") ?? "";
  const { data, error } = useRequest(
    async (signal) => {
      const [targets, up] = await Promise.all([
        call<{ activeTargets: Target[] }>("targets", { parameters: { state: "active" }, signal }),
        query("up", end, signal),
      ]);
      const series = up.data.resultType === "vector" ? up.data.result : [];
      return { ...targets, rows: rowsOf(targets.data.activeTargets, series) };
    },
    [end],
  );
  if (error) return <ErrorBox error={error} title="The targets could not be read." />;
  if (!data) return <Loading />;
  const rows = data.rows.filter(
    (row) =>
      (!health || row.health === health) &&
      `${row.job} ${row.instance} ${row.url} ${row.lastError}`.toLowerCase().includes(search.toLowerCase()),
  );
  const nUp = data.rows.filter((row) => row.health === "up").length;
  return (
    <div class="stack">
      <Notices warnings={data.warnings} infos={[]} />
      <div class="row">
        <label class="grow">
          Search
          <input
            type="search"
            value={search}
            onInput={(event) => setQuery({ search: event.currentTarget.value }, { replace: true })}
          />
        </label>
        <label>
          Health
          <select value={health} onChange={(event) => setQuery({ health: event.currentTarget.value })}>
            <option value="">all</option>
            <option>up</option>
            <option>down</option>
            <option>unknown</option>
          </select>
        </label>
      </div>
      <p role="status">
        {nUp} of {data.rows.length} targets are up.
      </p>
      {data.rows.length === 0 && <Empty title="There are no targets: nothing is scraped, and nobody sends the metric up." />}
      {rows.length > 0 && (
        <div class="target-table"><Table
          label="Targets"
          rows={rows}
          sortedBy="Health"
          keyOf={({ labels }) => JSON.stringify(labels)}
          columns={[
            { name: "Health", value: (row) => row.health, show: (row) => <Badge tone={TONES[row.health] ?? "neutral"}>{row.health}</Badge> },
            { name: "Job", value: (row) => row.job, show: (row) => <span class="target-job">{row.job}</span> },
            { name: "Target", value: (row) => row.url || row.instance, show: (row) => <span class="mono">{row.url || row.instance}</span> },
            { name: "Labels", value: (row) => JSON.stringify(row.labels), show: (row) => <LabelList labels={row.labels} /> },
            {
              name: "Last scrape",
              value: (row) => row.lastScrape,
              show: (row) => (row.lastScrape === undefined ? <span class="hint">by an agent</span> : formatAgo(row.lastScrape)),
            },
            { name: "Took", value: (row) => row.seconds, show: (row) => (row.seconds === undefined ? "" : formatSeconds(row.seconds)), isNumber: true },
            { name: "Error", value: (row) => row.lastError, show: (row) => <span class="target-error">{row.lastError}</span> },
          ]}
        /></div>
      )}
      {data.rows.length > 0 && rows.length === 0 && <Empty title="No target matches." />}
    </div>
  );
}
