/** Repairs: what is being repaired, what waits for a person, and whether it helped. */
import { useMemo } from "preact/hooks";
import { type Alert, MOST_LISTED, type Remediation, listAll, seconds } from "../../api/alerting";
import { formatSeconds } from "../../format/durations";
import { hrefOf, place, setQuery } from "../../router";
import { range, refreshMs, refreshNow } from "../../time/range";
import { useTimeSettings } from "../../time/use_settings";
import { Empty, ErrorBox, Loading } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";
import { may } from "../../who";
import { When } from "../alerts/states";
import { Decisions } from "./decisions";
import { type Effect, effectsOf } from "./effects";
import { RepairDetail } from "./repair_detail";
import { RemediationBadge, isOpen, stateName } from "./states";
import "../alerts/alerts.css";

const POLL_MS = 5_000;

export default function Repairs() {
  useTimeSettings({ from: "now-7d", to: "now", refresh: "" });
  const id = place.value.query.get("repair");
  return (
    <div class="stack">
      <h1>Repairs</h1>
      {id ? <RepairDetail key={id} id={id} /> : <RepairList />}
    </div>
  );
}

function RepairList() {
  // With a refresh the range changes by itself.
  useEvery(POLL_MS, () => refreshMs.peek() || refreshNow());
  const { start, end } = range.value;
  const rule = place.value.query.get("rule") ?? "";
  const { data, error, reload: again } = useRequest(
    async (signal) => {
      // Newest first, so that those before the range end the list.
      const isBefore = (each: Remediation) =>
        each.finished_at !== null && seconds(each.requested_at) < start;
      const filter = { rule: rule || undefined };
      const [repairs, alerts] = await Promise.all([
        listAll("/remediations", "remediations", filter, signal, isBefore),
        listAll<Alert>("/alerts", "alerts", { ...filter, start, end }, signal),
      ]);
      const inRange = repairs.entries.filter(
        (each) => isOpen(each) || seconds(each.requested_at) <= end,
      );
      return { repairs: inRange, isCut: repairs.isCut, alerts: alerts.entries };
    },
    [rule, start, end],
  );
  const effects = useMemo(() => effectsOf(data?.repairs ?? [], data?.alerts ?? []), [data]);
  const open = (data?.repairs ?? []).filter(isOpen);
  return (
    <div class="stack">
      {rule && (
        <p>
          Repairs of <strong>{rule}</strong>.{" "}
          <button type="button" onClick={() => setQuery({ rule: null })}>
            Show all
          </button>
        </p>
      )}
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data?.isCut && <p class="hint">Only the newest {MOST_LISTED} repairs are shown.</p>}
      {open.length > 0 && (
        <section class="stack" aria-label="Open repairs">
          <h2>Open</h2>
          {open.map((repair) => (
            <OpenRepair key={repair.id} repair={repair} onChange={again} />
          ))}
        </section>
      )}
      {effects.length > 0 && (
        <section class="card">
          <h2>Did it help?</h2>
          <Table label="Effect by rule" columns={EFFECTS} rows={effects} keyOf={({ rule: name }) => name} />
          <p class="hint">
            Repaired: the condition had cleared when it was verified. Came back: the same alert fired again
            within an hour.
          </p>
        </section>
      )}
      {data && data.repairs.length > 0 && (
        <section class="card">
          <h2>What was done</h2>
          <Table label="Repairs" columns={COLUMNS} rows={data.repairs} keyOf={({ id }) => id} pageLength={50} />
        </section>
      )}
      {data && !data.repairs.length && (
        <Empty title="Nothing was repaired in this time range.">
          <p>
            A <a href={hrefOf("rules", { rule: may("edit") && "new" })}>rule</a> with a repair starts a workflow on Temporal when its
            alert fires.
          </p>
        </Empty>
      )}
    </div>
  );
}

function OpenRepair({ repair, onChange }: { repair: Remediation; onChange: () => void }) {
  return (
    <article class="card row">
      <RemediationBadge state={repair.state} />
      <a href={hrefOf("repairs", { repair: repair.id })}>
        {repair.rule}: {repair.workflow_type}
      </a>
      <span class="hint">
        asked for <When time={repair.requested_at} />
        {repair.approval_expires_at && repair.state === "waiting_for_approval" && (
          <>
            , expires <When time={repair.approval_expires_at} />
          </>
        )}
      </span>
      {repair.last_error && <span class="is-critical">{repair.last_error}</span>}
      <span class="grow" />
      <Decisions repair={repair} onChange={onChange} />
    </article>
  );
}

const COLUMNS: Column<Remediation>[] = [
  {
    name: "State",
    value: ({ state }) => stateName(state),
    show: ({ state }) => <RemediationBadge state={state} />,
  },
  {
    name: "For",
    value: ({ rule }) => rule,
    show: ({ id, rule }) => <a href={hrefOf("repairs", { repair: id })}>{rule}</a>,
  },
  { name: "Outcome", value: ({ outcome }) => outcome },
  {
    name: "Decided by",
    value: ({ decision, cancellation }) => (cancellation ?? decision)?.actor ?? "",
  },
  {
    name: "Asked for",
    value: ({ requested_at }) => requested_at,
    show: ({ requested_at }) => <When time={requested_at} />,
  },
  {
    name: "Took",
    value: ({ requested_at, finished_at }) =>
      finished_at ? seconds(finished_at) - seconds(requested_at) : null,
    show: ({ requested_at, finished_at }) =>
      finished_at ? formatSeconds(seconds(finished_at) - seconds(requested_at)) : "–",
    isNumber: true,
  },
];

const EFFECTS: Column<Effect>[] = [
  {
    name: "Rule",
    value: ({ rule }) => rule,
    show: ({ rule }) => (
      <button type="button" class="quiet" onClick={() => setQuery({ rule })}>
        {rule}
      </button>
    ),
  },
  { name: "Repairs", value: ({ count }) => count, isNumber: true },
  { name: "Repaired", value: ({ repaired }) => repaired, isNumber: true },
  { name: "Came back", value: ({ cameBack }) => cameBack, isNumber: true },
  { name: "Did not help", value: ({ failed }) => failed, isNumber: true },
  { name: "Not done", value: ({ notDone }) => notDone, isNumber: true },
  { name: "Open", value: ({ open }) => open, isNumber: true },
  {
    name: "Time to repair",
    value: ({ medianSeconds }) => medianSeconds,
    show: ({ medianSeconds }) => (medianSeconds === null ? "–" : formatSeconds(medianSeconds)),
    isNumber: true,
  },
];
