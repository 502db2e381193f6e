/** The fields of a rule in a form. */
import type { RuleForm } from "./rule_form";

type TextField = Exclude<keyof RuleForm, "kind" | "enabled">;

export function RuleInputs({
  form,
  isStored,
  onChange,
}: {
  form: RuleForm;
  /** A stored rule keeps its kind. */
  isStored: boolean;
  onChange: (form: RuleForm) => void;
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
        required={name === "expr"}
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
      {area("expr", "Expression", 3, "sum by (queue) (queue_length) > 500")}
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
