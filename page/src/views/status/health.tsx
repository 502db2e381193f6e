/** Whether rules, background loops and maintenance do their work. */
import { call, query } from "../../api/prometheus";
import { formatSeconds } from "../../format/durations";
import { formatCount } from "../../format/numbers";
import { hrefOf } from "../../router";
import { range } from "../../time/range";
import { Badge, ErrorBox } from "../../ui/states";
import { Table } from "../../ui/table";
import { useRequest } from "../../use_request";
import { OWN } from "./own_plot";

interface RuleGroup {
  name: string;
  rules: { name: string; health: string; lastError?: string }[];
}

interface Work {
  name: string;
  kind: "loop" | "maintenance";
  /** Seconds since it last ended well; undefined: not yet. */
  age: number | undefined;
  /** In the last hour. */
  failures: number;
}

/** Instant vectors by the value of a label. */
async function byLabel(expression: string, label: string, time: number, signal: AbortSignal): Promise<Map<string, number>> {
  const { data } = await query(expression, time, signal);
  if (data.resultType !== "vector") return new Map();
  return new Map(data.result.map(({ metric, value }) => [metric[label] ?? "", Number(value?.[1])]));
}

async function readWork(time: number, signal: AbortSignal): Promise<Work[]> {
  const ask = (expression: string, label: string) => byLabel(expression, label, time, signal);
  const [loops, loopFailures, steps, stepFailures] = await Promise.all([
    ask(`min by (loop) (time() - promcompat_loop_last_success_timestamp_seconds{${OWN}})`, "loop"),
    ask(`sum by (loop) (increase(promcompat_loop_failures_total{${OWN}}[1h]))`, "loop"),
    ask(`min by (step) (time() - promcompat_maintenance_step_last_run_timestamp_seconds{${OWN}})`, "step"),
    ask(`sum by (task) (increase(promcompat_maintenance_failures_total{${OWN}}[1h]))`, "task"),
  ]);
  const rows = (kind: Work["kind"], ages: Map<string, number>, failures: Map<string, number>): Work[] =>
    [...new Set([...ages.keys(), ...failures.keys()])].map((name) => ({
      name,
      kind,
      age: ages.get(name),
      failures: Math.round(failures.get(name) ?? 0),
    }));
  return [...rows("loop", loops, loopFailures), ...rows("maintenance", steps, stepFailures)];
}

export function Health() {
  const { end } = range.value;
  const work = useRequest((signal) => readWork(end, signal), [end]);
  const rules = useRequest(
    async (signal) => (await call<{ groups: RuleGroup[] }>("rules", { signal })).data.groups,
    [end],
  );
  const all = (rules.data ?? []).flatMap((group) => group.rules);
  const bad = all.filter((rule) => rule.health === "err");
  const failing = (work.data ?? []).filter((one) => one.failures > 0);
  return (
    <section class="stack" aria-label="Health">
      <h2>Health</h2>
      {rules.error && <ErrorBox error={rules.error} title="The rules could not be read." />}
      <p class="row">
        <a class="plain-link" href={hrefOf("rules")}>
          <Badge tone={bad.length ? "critical" : "good"}>
            {all.length === 0
              ? "no rules"
              : bad.length
                ? `${bad.length} of ${formatCount(all.length)} rules have errors`
                : `${formatCount(all.length)} rules without errors`}
          </Badge>
        </a>
        {work.data && work.data.length > 0 && (
          <Badge tone={failing.length ? "warning" : "good"}>
            {failing.length ? `${failing.length} background tasks failed in the last hour` : "no background task failed in the last hour"}
          </Badge>
        )}
      </p>
      {work.error && <ErrorBox error={work.error} />}
      {work.data && work.data.length > 0 && (
        <details open={failing.length > 0}>
          <summary>Background loops and maintenance</summary>
          <Table
            label="Background work"
            rows={work.data}
            keyOf={({ kind, name }) => `${kind} ${name}`}
            sortedBy="-Failures in an hour"
            columns={[
              { name: "Task", value: ({ name }) => name },
              { name: "Kind", value: ({ kind }) => kind },
              {
                name: "Last success",
                value: ({ age }) => age,
                show: ({ age }) => (age === undefined ? "not yet" : `${formatSeconds(Math.max(0, Math.round(age)))} ago`),
                isNumber: true,
              },
              {
                name: "Failures in an hour",
                value: ({ failures }) => failures,
                show: ({ failures }) => (failures ? <Badge tone="warning">{failures}</Badge> : "0"),
                isNumber: true,
              },
            ]}
          />
        </details>
      )}
    </section>
  );
}
