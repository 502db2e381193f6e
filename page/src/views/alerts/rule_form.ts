/** A rule as texts of a form, and back. */
import type { RuleFields } from "../../api/alerting";

export interface RuleForm
  extends Omit<RuleFields, "labels" | "annotations" | "max_alerts" | "remediation"> {
  /** One `name=value` in a line. */
  labels: string;
  /** One `name: text` in a line; lines that begin with blanks continue a text. */
  annotations: string;
  max_alerts: string;
  /** JSON, or empty. */
  remediation: string;
}

export function formOf(fields: RuleFields): RuleForm {
  return {
    ...fields,
    labels: joined(fields.labels, "="),
    annotations: joined(fields.annotations, ": "),
    max_alerts: String(fields.max_alerts),
    remediation: fields.remediation ? JSON.stringify(fields.remediation, null, 2) : "",
  };
}

/** Only what the API accepts; throws an Error that names a field which cannot be read. */
export function fieldsOf(form: RuleForm): RuleFields {
  const isAlert = form.kind === "alert";
  return {
    kind: form.kind,
    namespace: form.namespace,
    group: form.group,
    name: form.name.trim(),
    expr: form.expr.trim(),
    interval: form.interval.trim(),
    query_offset: form.query_offset.trim(),
    // A recording rule has none of these.
    for: isAlert ? form.for.trim() : "0s",
    keep_firing_for: isAlert ? form.keep_firing_for.trim() : "0s",
    severity: isAlert ? form.severity.trim() : "",
    labels: parsed(form.labels, "=", "Labels"),
    annotations: isAlert ? parsed(form.annotations, ":", "Annotations") : {},
    max_alerts: Number(form.max_alerts || 0),
    enabled: form.enabled,
    remediation: isAlert ? remediationOf(form.remediation) : null,
  };
}

function joined(texts: Record<string, string>, separator: string): string {
  return Object.entries(texts)
    .map(([name, text]) => `${name}${separator}${text.replaceAll("\n", "\n  ")}`)
    .join("\n");
}

function parsed(text: string, separator: string, name: string): Record<string, string> {
  const found: Record<string, string> = {};
  // Lines that begin with two blanks belong to the one before.
  for (const entry of text.split(/\n(?! {2})/)) {
    if (!entry.trim()) continue;
    const at = entry.indexOf(separator);
    if (at <= 0) throw new Error(`${name}: “${entry}” has no “${separator}” after a name.`);
    const value = entry.slice(at + 1).replaceAll("\n  ", "\n");
    found[entry.slice(0, at).trim()] = separator === ":" ? value.replace(/^ /, "") : value;
  }
  return found;
}

function remediationOf(text: string): RuleFields["remediation"] {
  if (!text.trim()) return null;
  try {
    return JSON.parse(text) as RuleFields["remediation"];
  } catch (error) {
    throw new Error(`Remediation: this is no JSON: ${(error as Error).message}`, { cause: error });
  }
}
