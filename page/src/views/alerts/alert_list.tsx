/** The alerts of the time range: a timeline and a table. */
import { useMemo } from "preact/hooks";
import { type Alert, MOST_LISTED, listAll, seconds } from "../../api/alerting";
import { formatSeconds } from "../../format/durations";
import { hrefOf, navigate, place, setQuery } from "../../router";
import { range, refreshMs, refreshNow } from "../../time/range";
import { Badge, Empty, ErrorBox, LabelList, Loading } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";
import { may } from "../../who";
import { SeverityBadge, StateBadge, When, formatNumberOrText, ownLabels } from "./states";
import { Timeline } from "./timeline";

const POLL_MS = 10_000;
const CHOICES: Record<string, { name: string; states: readonly string[] }> = {
  open: { name: "Open", states: ["firing", "pending"] },
  firing: { name: "Firing", states: ["firing"] },
  pending: { name: "Pending", states: ["pending"] },
  ended: { name: "Ended", states: ["resolved", "inactive"] },
  all: { name: "All", states: ["firing", "pending", "resolved", "inactive"] },
};

const COLUMNS: Column<Alert>[] = [
  {
    name: "State",
    value: ({ state }) => ["firing", "pending", "resolved", "inactive"].indexOf(state),
    show: (alert) => (
      <span class="labels">
        <StateBadge state={alert.state} />
        {alert.silenced_by.length > 0 && <Badge>silenced</Badge>}
        {alert.acknowledgement && <Badge tone="good">{alert.acknowledgement.actor} has it</Badge>}
      </span>
    ),
  },
  {
    name: "Alert",
    value: ({ rule }) => rule,
    show: (alert) => (
      <div class="roomy">
        <a href={hrefOf("alerts", { alert: alert.id })}>{alert.rule}</a>{" "}
        <LabelList labels={ownLabels(alert.labels)} />
        {alert.annotations.summary && <div class="hint">{alert.annotations.summary}</div>}
      </div>
    ),
  },
  {
    name: "Severity",
    value: ({ severity }) => severity,
    show: ({ severity }) => <SeverityBadge severity={severity} />,
  },
  {
    name: "Value",
    value: ({ value }) => (typeof value === "number" ? value : null),
    show: ({ value }) => formatNumberOrText(value),
    isNumber: true,
  },
  {
    name: "Since",
    value: ({ active_at }) => active_at,
    show: ({ active_at }) => <When time={active_at} />,
  },
  {
    name: "Lasted",
    value: lasted,
    show: (alert) => formatSeconds(Math.round(lasted(alert))),
    isNumber: true,
  },
];

function lasted({ active_at, resolved_at }: Alert): number {
  if (!active_at) return 0;
  return (resolved_at ? seconds(resolved_at) : Date.now() / 1000) - seconds(active_at);
}

export function AlertList() {
  // With a refresh the range changes by itself.
  useEvery(POLL_MS, () => refreshMs.peek() || refreshNow());
  const { query } = place.value;
  const labels = query.get("labels") ?? "";
  const severity = query.get("severity") ?? "";
  const choice = CHOICES[query.get("state") ?? "open"] ? (query.get("state") ?? "open") : "open";
  const { start, end } = range.value;
  const { data, error } = useRequest(
    (signal) =>
      listAll<Alert>("/alerts", "alerts", { label: matchersOf(labels), start, end }, signal),
    [labels, start, end],
  );
  const alerts = data?.entries ?? [];
  const severities = [...new Set(alerts.map((alert) => alert.severity))].filter(Boolean).toSorted();
  const shown = useMemo(
    () =>
      alerts.filter(
        (alert) =>
          CHOICES[choice]?.states.includes(alert.state) && (!severity || alert.severity === severity),
      ),
    [data, choice, severity],
  );
  return (
    <div class="stack">
      <Filters alerts={alerts} choice={choice} severities={severities} severity={severity} labels={labels} />
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data?.isCut && <p class="hint">Only the newest {MOST_LISTED} alerts of the range are shown.</p>}
      {data && <Timeline alerts={shown} range={range.value} />}
      {data && shown.length > 0 && (
        <Table
          label="Alerts"
          columns={COLUMNS}
          rows={shown}
          keyOf={({ id }) => id}
          sortedBy="State"
          pageLength={50}
        />
      )}
      {data && !shown.length && <NothingShown choice={choice} count={alerts.length} />}
    </div>
  );
}

function NothingShown({ choice, count }: { choice: string; count: number }) {
  if (count) {
    return (
      <Empty title={choice === "open" ? "No alert is open." : "No alert of the time range is like that."}>
        <p>
          <button type="button" onClick={() => setQuery({ state: "all" })}>
            Show all {count}
          </button>
        </p>
      </Empty>
    );
  }
  return (
    <Empty title="No alert was open in this time range.">
      <p>
        See the <a href={hrefOf("rules")}>rules</a>
        {may("edit") && (
          <>
            , or <a href={hrefOf("rules", { rule: "new" })}>create one</a>
          </>
        )}
        .
      </p>
    </Empty>
  );
}

function Filters({
  alerts,
  choice,
  severities,
  severity,
  labels,
}: {
  alerts: readonly Alert[];
  choice: string;
  severities: string[];
  severity: string;
  labels: string;
}) {
  return (
    <div class="row">
      <div class="row choices" role="group" aria-label="State">
        {Object.entries(CHOICES).map(([id, { name, states }]) => (
          <button
            key={id}
            type="button"
            aria-pressed={id === choice}
            onClick={() => setQuery({ state: id === "open" ? null : id })}
          >
            {name} {alerts.filter(({ state }) => states.includes(state)).length}
          </button>
        ))}
      </div>
      <select
        aria-label="Severity"
        value={severity}
        onChange={(event) => setQuery({ severity: event.currentTarget.value })}
      >
        <option value="">every severity</option>
        {severities.map((each) => (
          <option key={each}>{each}</option>
        ))}
      </select>
      <form
        class="grow"
        key={labels}
        onSubmit={(event) => {
          event.preventDefault();
          setQuery({ labels: String(new FormData(event.currentTarget).get("labels")).trim() });
        }}
      >
        <input
          name="labels"
          class="mono wide"
          aria-label="Labels, such as queue=mail, host=~web-.*"
          placeholder="queue=mail, host=~web-.*"
          defaultValue={labels}
          spellcheck={false}
        />
      </form>
      {may("edit") && (
        <button type="button" onClick={() => navigate("alerts", { tab: "silences", silence: "new" })}>
          Silence…
        </button>
      )}
    </div>
  );
}

/** Matchers that commas or line ends separate. */
export function matchersOf(text: string): string[] {
  return text
    .split(/,(?![^{(]*[})])|\n/)
    .map((matcher) => matcher.trim())
    .filter(Boolean);
}
