/** Every alert rule and recording rule with its state. */
import { type Alert, type Rule, listAll } from "../../api/alerting";
import { native } from "../../api/native";
import { formatSeconds } from "../../format/durations";
import { hrefOf, place, setQuery } from "../../router";
import { Badge, Empty, ErrorBox, Loading } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";
import { may } from "../../who";
import { When } from "./states";

const POLL_MS = 10_000;

interface Row {
  rule: Rule;
  firing: number;
  pending: number;
}

const STATES = ["firing", "pending", "failing", "recording", "inactive", "disabled"];

function stateOf({ rule, firing, pending }: Row): string {
  if (!rule.enabled) return "disabled";
  if (rule.health === "err") return "failing";
  if (firing) return "firing";
  if (pending) return "pending";
  return rule.kind === "record" ? "recording" : "inactive";
}

export function RuleState({ row }: { row: Row }) {
  const state = stateOf(row);
  if (state === "firing") return <Badge tone="critical">{row.firing} firing</Badge>;
  if (state === "pending") return <Badge tone="warning">{row.pending} pending</Badge>;
  if (state === "failing") return <Badge tone="critical">failing</Badge>;
  return <Badge tone={state === "disabled" ? "neutral" : "good"}>{state}</Badge>;
}

const COLUMNS: Column<Row>[] = [
  {
    name: "Rule",
    value: ({ rule }) => rule.name,
    show: ({ rule }) => (
      <div class="roomy">
        <a href={hrefOf("rules", { rule: rule.id })}>{rule.name}</a>
        <div class="mono hint clipped">{rule.expr}</div>
        {rule.last_error && <div class="is-critical">{rule.last_error}</div>}
      </div>
    ),
  },
  {
    name: "State",
    value: (row) => STATES.indexOf(stateOf(row)),
    show: (row) => <RuleState row={row} />,
  },
  {
    name: "Group",
    value: ({ rule }) => `${rule.namespace} › ${rule.group}`,
  },
  {
    name: "Every",
    value: ({ rule }) => rule.interval,
    show: ({ rule }) => (
      <>
        {rule.interval}
        {rule.for !== "0s" && `, for ${rule.for}`}
      </>
    ),
  },
  {
    name: "Last evaluation",
    value: ({ rule }) => rule.last_evaluation,
    show: ({ rule }) => <When time={rule.last_evaluation} />,
  },
  {
    name: "Took",
    value: ({ rule }) => rule.evaluation_seconds,
    show: ({ rule }) => (rule.last_evaluation ? formatSeconds(rule.evaluation_seconds) : "–"),
    isNumber: true,
  },
];

export function RuleList() {
  const { query } = place.value;
  const search = query.get("q") ?? "";
  const state = query.get("state") ?? "";
  const { data, error, poll } = useRequest(async (signal) => {
    const states = { state: ["firing", "pending"] };
    const [{ rules }, open] = await Promise.all([
      native.get<{ rules: Rule[] }>("/rules", { signal }),
      listAll<Alert>("/alerts", "alerts", states, signal),
    ]);
    const count = (id: number, wanted: string) =>
      open.entries.filter((alert) => alert.rule_id === id && alert.state === wanted).length;
    return rules.map((rule) => ({
      rule,
      firing: count(rule.id, "firing"),
      pending: count(rule.id, "pending"),
    }));
  }, []);
  useEvery(POLL_MS, poll);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = (data ?? []).filter((row) => {
    const text = `${row.rule.name} ${row.rule.expr} ${row.rule.namespace} ${row.rule.group}`.toLowerCase();
    return (!state || stateOf(row) === state) && words.every((word) => text.includes(word));
  });
  return (
    <div class="stack">
      <div class="row">
        {may("edit") && (
          <a class="button primary" href={hrefOf("rules", { rule: "new" })}>
            New rule
          </a>
        )}
        <input
          class="grow"
          type="search"
          aria-label="Search rules"
          placeholder="Search by name, expression or group"
          value={search}
          onInput={(event) => setQuery({ q: event.currentTarget.value }, { replace: true })}
        />
        <select
          aria-label="State"
          value={state}
          onChange={(event) => setQuery({ state: event.currentTarget.value })}
        >
          <option value="">every state</option>
          {STATES.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      </div>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {shown.length > 0 && (
        <Table label="Rules" columns={COLUMNS} rows={shown} keyOf={({ rule }) => rule.id} sortedBy="State" />
      )}
      {data && !shown.length && (
        <Empty title={data.length ? "No rule is like that." : "There are no rules yet."} />
      )}
    </div>
  );
}
