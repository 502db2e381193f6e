/** One rule, stored or new: its state, its fields, and a test of them with the last day. */
import { useMemo, useState } from "preact/hooks";
import type { Rule, RuleFields, RuleTest } from "../../api/alerting";
import { seconds } from "../../api/alerting";
import { native } from "../../api/native";
import { formatDurationMs, formatSeconds, parseDurationMs } from "../../format/durations";
import { equalFilter, filterText } from "../../format/series";
import { formatTime } from "../../format/times";
import { hrefOf, navigate, place } from "../../router";
import { FormDialog } from "../../ui/reason_dialog";
import { Badge, ErrorBox, LabelList, Loading } from "../../ui/states";
import { Table } from "../../ui/table";
import { toast, toastError } from "../../ui/toast";
import { useRequest } from "../../use_request";
import { may } from "../../who";
import { ConditionPlots } from "./condition_plots";
import { type RuleForm, fieldsOf, formOf } from "./rule_form";
import { RuleInputs } from "./rule_inputs";
import { StateBadge, When, ownLabels } from "./states";

const DAY_SECONDS = 86_400;
const MOST_EVALUATIONS = 11_000;
const MOST_MARKS = 200;

const NEW_RULE: RuleFields = {
  kind: "alert",
  namespace: "rules",
  group: "default",
  name: "",
  expr: "",
  interval: "1m",
  query_offset: "0s",
  for: "5m",
  keep_firing_for: "0s",
  severity: "warning",
  labels: {},
  annotations: {},
  max_alerts: 0,
  enabled: true,
  remediation: null,
};

export function RulePage({ id }: { id: string }) {
  const isNew = id === "new";
  const { data, error, reload } = useRequest(
    isNew ? null : (signal) => native.get<Rule>(`/rules/${encodeURIComponent(id)}`, { signal }),
    [id],
  );
  const expr = place.value.query.get("expr") ?? "";
  return (
    <div class="stack">
      <p>
        <a href={hrefOf("rules")}>← All rules</a>
      </p>
      {error && <ErrorBox error={error} />}
      {!isNew && !data && !error && <Loading />}
      {data && <Status rule={data} onChange={reload} />}
      {isNew && <h2>New rule</h2>}
      {isNew && <Editor fields={{ ...NEW_RULE, expr }} onSaved={(saved) => navigate("rules", { rule: saved.id })} />}
      {data && <Editor key={data.version} fields={data} stored={data} onSaved={reload} />}
    </div>
  );
}

function Status({ rule, onChange }: { rule: Rule; onChange: () => void }) {
  const [asksToDelete, setAsksToDelete] = useState(false);
  const guard = { headers: { "If-Match": `"${rule.version}"` } };
  const toggle = () => {
    native
      .post(`/rules/${rule.id}/${rule.enabled ? "disable" : "enable"}`, {}, guard)
      .then(() => {
        toast(rule.enabled ? "The rule is disabled." : "The rule is enabled.");
        onChange();
      })
      .catch(toastError);
  };
  const tone = rule.health === "ok" ? "good" : rule.health === "err" ? "critical" : "neutral";
  return (
    <section class="card stack" aria-label="State of the rule">
      <header class="row">
        <h2>{rule.name}</h2>
        <Badge>{rule.kind === "record" ? "recording rule" : "alert rule"}</Badge>
        {rule.enabled ? <Badge tone={tone}>{HEALTH[rule.health]}</Badge> : <Badge>disabled</Badge>}
        <span class="grow" />
        {rule.kind === "alert" && (
          <a href={hrefOf("alerts", { labels: filterText(equalFilter("alertname", rule.name, /[\n,]/)), state: "all" })}>Its alerts</a>
        )}
        {may("edit") && (
          <>
            <button type="button" onClick={toggle}>
              {rule.enabled ? "Disable" : "Enable"}
            </button>
            <button type="button" onClick={() => setAsksToDelete(true)}>
              Delete…
            </button>
          </>
        )}
      </header>
      <p class="hint">
        Last evaluated <When time={rule.last_evaluation} />
        {rule.last_evaluation && `, in ${formatSeconds(rule.evaluation_seconds)}`}.
      </p>
      {rule.last_error && <ErrorBox error={new Error(rule.last_error)} title="The last evaluation failed" />}
      {rule.namespace.startsWith("/") && (
        <p class="hint">
          This rule comes from the file {rule.namespace}; when that file changes, it replaces what is changed
          here.
        </p>
      )}
      {asksToDelete && (
        <FormDialog
          title={`Delete ${rule.name}`}
          action="Delete"
          done="The rule is deleted."
          act={async () => {
            await native.delete(`/rules/${rule.id}`, guard);
            navigate("rules");
          }}
          onClose={() => setAsksToDelete(false)}
        >
          <p>Its open alerts end at the next evaluation; their history is kept.</p>
        </FormDialog>
      )}
    </section>
  );
}

const HEALTH = { ok: "ok", err: "failing", unknown: "not evaluated yet" };

interface Trial {
  fields: RuleFields;
  start: number;
  end: number;
  /** Null for a recording rule, which has no alerts. */
  result: RuleTest | null;
}

function Editor({
  fields,
  stored,
  onSaved,
}: {
  fields: RuleFields;
  stored?: Rule;
  onSaved: (rule: Rule) => void;
}) {
  const [form, setForm] = useState<RuleForm>(() => formOf(fields));
  const [error, setError] = useState<Error | null>(null);
  const [trial, setTrial] = useState<Trial | null>(null);
  const [isBusy, setBusy] = useState(false);
  const run = (work: () => Promise<void>) => {
    setBusy(true);
    setError(null);
    work()
      .catch((problem: unknown) => setError(problem instanceof Error ? problem : new Error(String(problem))))
      .finally(() => setBusy(false));
  };
  const test = () =>
    run(async () => {
      setTrial(null);
      const wanted = fieldsOf(form);
      const end = Math.floor(Date.now() / 1000);
      const every = (parseDurationMs(wanted.interval) ?? 60_000) / 1000;
      const start = end - Math.min(DAY_SECONDS, every * MOST_EVALUATIONS);
      const result =
        wanted.kind === "alert"
          ? await native.post<RuleTest>("/rules/test", { ...wanted, start, end })
          : null;
      setTrial({ fields: wanted, start, end, result });
    });
  const save = () =>
    run(async () => {
      const wanted = fieldsOf(form);
      const saved = stored
        ? await native.put<Rule>(`/rules/${stored.id}`, wanted, {
            headers: { "If-Match": `"${stored.version}"` },
          })
        : await native.post<Rule>("/rules", wanted);
      toast("The rule is saved.");
      onSaved(saved);
    });
  return (
    <>
      <form
        class="card form"
        aria-label="Rule"
        onSubmit={(event) => {
          event.preventDefault();
          if (may("edit")) save();
        }}
      >
        <RuleInputs form={form} isStored={stored !== undefined} error={error} onChange={setForm} onTest={test} />
        {error && <ErrorBox error={error} />}
        <div class="row end">
          <button type="button" disabled={isBusy || !form.expr.trim()} onClick={test}>
            Test with the last day
          </button>
          {may("edit") && (
            <button type="submit" disabled={isBusy || !form.expr.trim()}>
              {stored ? "Save" : "Create"}
            </button>
          )}
        </div>
      </form>
      {trial && <TrialResult {...trial} />}
    </>
  );
}

function TrialResult({ fields, start, end, result }: Trial) {
  const range = useMemo(() => ({ start, end }), [start, end]);
  const marks = useMemo(
    () =>
      (result?.alerts ?? [])
        .filter(({ fired_at }) => fired_at)
        .slice(0, MOST_MARKS)
        .map(({ fired_at, resolved_at }) => ({
          start: seconds(fired_at ?? ""),
          end: resolved_at ? seconds(resolved_at) : end,
          name: "",
        })),
    [result, end],
  );
  return (
    <section class="card stack" aria-label="Test">
      <h2>Test with {formatDurationMs((end - start) * 1000)}</h2>
      {result && <Verdict fields={fields} result={result} />}
      <ConditionPlots
        text={fields.expr}
        range={range}
        marks={marks}
        least={(parseDurationMs(fields.interval) ?? 1000) / 1000}
      />
      {result && result.alerts.length > 0 && <TestedAlerts result={result} />}
    </section>
  );
}

function Verdict({ fields, result }: { fields: RuleFields; result: RuleTest }) {
  const times = result.fired === 1 ? "once" : `${result.fired} times`;
  const ended = result.alerts.filter(({ fired_at }) => !fired_at).length;
  return (
    <p role="status">
      <strong>{result.fired ? `It would have fired ${times}` : "It would not have fired"}</strong> in{" "}
      {result.evaluations} evaluations
      {ended > 0 && `; ${ended} alerts did not last for ${fields.for}`}.
      {fields.max_alerts > 0 && result.most_at_once > fields.max_alerts && (
        <> With up to {result.most_at_once} alerts at once, it would have exceeded its limit.</>
      )}
    </p>
  );
}

function TestedAlerts({ result }: { result: RuleTest }) {
  return (
    <Table
      label="Alerts of the test"
      rows={result.alerts}
      keyOf={(_, index) => index}
      pageLength={20}
      columns={[
        {
          name: "State",
          value: ({ state }) => state,
          show: ({ state, fired_at }) =>
            fired_at ? <StateBadge state={state} /> : <Badge>{state === "pending" ? state : "never fired"}</Badge>,
        },
        {
          name: "Labels",
          value: ({ labels }) => JSON.stringify(labels),
          show: ({ labels }) => <LabelList labels={ownLabels(labels)} />,
        },
        { name: "Active", value: ({ active_at }) => active_at, show: ({ active_at }) => shown(active_at) },
        { name: "Fired", value: ({ fired_at }) => fired_at, show: ({ fired_at }) => shown(fired_at) },
        { name: "Ended", value: ({ resolved_at }) => resolved_at, show: ({ resolved_at }) => shown(resolved_at) },
      ]}
    />
  );
}

function shown(time: string | null): string {
  return time ? formatTime(Math.floor(seconds(time))) : "–";
}
