/** Queries that run now, which can be cancelled, and those that took longest. */
import { send, sendForJson } from "../../api/transport";
import { formatDurationMs, formatSeconds, parseDurationMs } from "../../format/durations";
import { formatCount } from "../../format/numbers";
import { formatTime } from "../../format/times";
import { hrefOf, place, setQuery } from "../../router";
import { range } from "../../time/range";
import { ErrorBox, Loading } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { toast, toastError } from "../../ui/toast";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";
import { may } from "../../who";

const AGAIN_MS = 2000;

interface Running {
  /** Seconds with an `s`. */
  duration: string;
  id: string;
  query: string;
  /** Unix milliseconds. */
  start: number;
  end: number;
}

interface Ended {
  query: string;
  timeRangeSeconds: number;
  count: number;
  avgDurationSeconds?: number;
  sumDurationSeconds?: number;
}

interface TopQueries {
  topByCount: Ended[];
  topByAvgDuration: Ended[];
  topBySumDuration: Ended[];
}

export function Queries() {
  return (
    <div class="stack">
      <RunningQueries />
      <TopQueriesOf />
    </div>
  );
}

function RunningQueries() {
  const { data, error, reload, poll } = useRequest(
    (signal) => sendForJson<{ data: Running[] }>("api/v1/status/active_queries", { signal }),
    [],
  );
  useEvery(AGAIN_MS, poll);
  const cancel = (id: string) =>
    send(`api/v1/status/active_queries/${encodeURIComponent(id)}`, { method: "DELETE" })
      .then(() => {
        toast("The query is cancelled.");
        reload();
      })
      .catch(toastError);
  const running = data?.data ?? [];
  const columns: Column<Running>[] = [
    { name: "Runs for", value: ({ duration }) => parseFloat(duration), show: ({ duration }) => formatSeconds(parseFloat(duration)), isNumber: true },
    { name: "Query", value: ({ query }) => query, show: ({ query }) => <QueryLink query={query} /> },
    {
      name: "Time range",
      value: ({ start, end }) => end - start,
      show: ({ start, end }) => (start === end ? formatTime(end / 1000) : `${formatTime(start / 1000)} – ${formatTime(end / 1000)}`),
    },
  ];
  if (may("operate")) {
    columns.push({
      name: "",
      value: () => null,
      show: ({ id, query }) => (
        <button type="button" aria-label={`Cancel ${query}`} onClick={() => cancel(id)}>
          Cancel
        </button>
      ),
    });
  }
  return (
    <section class="card">
      <h2>Running now</h2>
      {error && <ErrorBox error={error} />}
      {data && running.length === 0 && <p class="hint">No query runs in the process that answered.</p>}
      {running.length > 0 && <Table label="Running queries" rows={running} keyOf={({ id }) => id} columns={columns} />}
    </section>
  );
}

const AGES = ["10m", "1h", "6h", "1d"];
const ORDERS = {
  sum: { name: "the longest in total", list: "topBySumDuration" },
  avg: { name: "the longest on average", list: "topByAvgDuration" },
  count: { name: "the most often", list: "topByCount" },
} as const;

function TopQueriesOf() {
  const { query } = place.value;
  const age = parseDurationMs(query.get("age") ?? "") ? (query.get("age") ?? "1h") : "1h";
  const asked = query.get("order") ?? "";
  const order = asked in ORDERS ? (asked as keyof typeof ORDERS) : "sum";
  const { data, error } = useRequest(
    (signal) =>
      sendForJson<TopQueries>("api/v1/status/top_queries", { parameters: { topN: 50, maxLifetime: age }, signal }),
    [age, range.value.end],
  );
  // Each list leaves out what it is not ordered by.
  const measure = order === "avg" ? "avgDurationSeconds" : "sumDurationSeconds";
  const seconds = (one: Ended) => one[measure];
  return (
    <section class="card stack">
      <div class="row">
        <h2 class="grow">Queries that ran {ORDERS[order].name}</h2>
        <label>
          Order
          <select value={order} onChange={(event) => setQuery({ order: event.currentTarget.value })}>
            {Object.entries(ORDERS).map(([id, { name }]) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          In the last
          <select value={age} onChange={(event) => setQuery({ age: event.currentTarget.value })}>
            {AGES.map((text) => (
              <option key={text}>{text}</option>
            ))}
          </select>
        </label>
      </div>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data && data[ORDERS[order].list].length === 0 && <p class="hint">None ended in this time.</p>}
      {data && data[ORDERS[order].list].length > 0 && (
        <Table
          label="Queries that ended"
          rows={data[ORDERS[order].list]}
          keyOf={(one) => `${one.timeRangeSeconds} ${one.query}`}
          columns={[
            { name: "Query", value: (one) => one.query, show: (one) => <QueryLink query={one.query} /> },
            ...(order === "count"
              ? []
              : [
                  {
                    name: order === "avg" ? "Average" : "Total",
                    value: seconds,
                    show: (one: Ended) => formatSeconds(seconds(one) ?? 0),
                    isNumber: true,
                  },
                ]),
            { name: "Runs", value: (one) => one.count, show: (one) => formatCount(one.count), isNumber: true },
            {
              name: "Time range",
              value: (one) => one.timeRangeSeconds,
              show: (one) => (one.timeRangeSeconds ? formatDurationMs(one.timeRangeSeconds * 1000) : "instant"),
              isNumber: true,
            },
          ]}
        />
      )}
    </section>
  );
}

function QueryLink({ query }: { query: string }) {
  return (
    <a class="mono" href={hrefOf("explore", { "g0.expr": query, "g0.tab": "0" })}>
      {query}
    </a>
  );
}
