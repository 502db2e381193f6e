/** The fields of a rule in a form. */
import { PromqlField } from "../../ui/promql/editor";
import { findingOfError } from "../../ui/promql/findings";
import type { RuleForm } from "./rule_form";

type TextField = Exclude<keyof RuleForm, "kind" | "enabled">;

export function RuleInputs({
  form,
  isStored,
  error,
  onChange,
  onTest,
}: {
  form: RuleForm;
  /** A stored rule keeps its kind. */
  isStored: boolean;
  /** What the service said about it, if that was no good. */
  error: Error | null;
  onChange: (form: RuleForm) => void;
  onTest: () => void;
}) {
  const isAlert = form.kind === "alert";
  const text = (name: TextField, label: string, options: { isRequired?: boolean; class?: string } = {}) => (
    <label class={options.class ?? ""}>
      {label}
      <input
        value={form[name]}
        required={options.isRequired ?? false}
        spellcheck={false}
        onInput={(event) => onChange({ ...form, [name]: event.currentTarget.value })}
      />
    </label>
  );
  const area = (name: TextField, label: string, rows: number, placeholder = "") => (
    <label>
      {label}
      <textarea
        class="mono"
        rows={rows}
        value={form[name]}
        placeholder={placeholder}
        spellcheck={false}
        onInput={(event) => onChange({ ...form, [name]: event.currentTarget.value })}
      />
    </label>
  );
  return (
    <>
      <div class="row">
        <label>
          Kind
          <select
            value={form.kind}
            disabled={isStored}
            onChange={(event) =>
              onChange({ ...form, kind: event.currentTarget.value === "record" ? "record" : "alert" })
            }
          >
            <option value="alert">alert</option>
            <option value="record">record</option>
          </select>
        </label>
        {text("name", isAlert ? "Name of the alert" : "Name of the metric", { isRequired: true, class: "grow" })}
        {text("group", "Group", { isRequired: true, class: "grow" })}
      </div>
      <div class="field">
        <span aria-hidden="true">Expression</span>
        <PromqlField
          label="Expression"
          hint="sum by (queue) (queue_length) > 500 — Enter tests it, Ctrl-Space completes"
          initial={form.expr}
          findings={findingOfError(error ?? undefined)}
          onChange={(expr) => onChange({ ...form, expr })}
          onRun={onTest}
        />
      </div>
      <div class="row">
        {text("interval", "Evaluated every", { class: "short" })}
        {isAlert && text("for", "Must hold for", { class: "short" })}
        {isAlert && text("keep_firing_for", "Keeps firing for", { class: "short" })}
        {isAlert && text("severity", "Severity", { class: "short" })}
      </div>
      {area("labels", "Labels, one name=value in a line", 2, "team=mail")}
      {isAlert &&
        area("annotations", "Annotations, one name: text in a line; texts are templates", 3,
          "summary: {{ $labels.queue }} holds {{ $value | humanize }} jobs")}
      <details open={form.remediation !== ""}>
        <summary>More: namespace, offset, limit{isAlert && ", repair"}</summary>
        <div class="form">
          <div class="row">
            {text("namespace", "Namespace", { isRequired: true, class: "grow" })}
            {text("query_offset", "Query offset", { class: "short" })}
            {text("max_alerts", isAlert ? "Most alerts (0: any)" : "Most series (0: any)", { class: "short" })}
          </div>
          {isAlert &&
            area("remediation", "Repair, as JSON (docs/remediation.md)", 6,
              '{"workflow_type": "RemediationWorkflow", "task_queue": "promcompat", "input": {"action": {…}}}')}
        </div>
      </details>
      <label class="inline">
        <input
          type="checkbox"
          checked={form.enabled}
          onChange={(event) => onChange({ ...form, enabled: event.currentTarget.checked })}
        />
        Enabled
      </label>
    </>
  );
}
