/** The names of series, and texts that select them. */
import type { Labels } from "../api/prometheus";

const LEGACY = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;

export function quote(text: string): string {
  return JSON.stringify(text);
}

/** A label name or metric name as PromQL has it within braces. */
export function promqlName(name: string): string {
  return LEGACY.test(name) ? name : quote(name);
}

/** `up{instance="a", job="b"}`, which PromQL can read. */
export function formatSeries(labels: Labels): string {
  const { __name__: name = "", ...rest } = labels;
  const isPlain = name === "" || LEGACY.test(name);
  const pairs = Object.keys(rest)
    .toSorted()
    .map((label) => `${promqlName(label)}=${quote(rest[label] ?? "")}`);
  if (!isPlain) pairs.unshift(quote(name));
  const inside = pairs.length || !name ? `{${pairs.join(", ")}}` : "";
  return `${isPlain ? name : ""}${inside}`;
}

/** A legend: `{{label}}` in the format stands for the label's value. */
export function formatLegend(format: string, labels: Labels): string {
  return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name: string) => labels[name] ?? "");
}

export function escapeRegex(text: string): string {
  return text.replace(/[\\^$*+?.()|[\]{}/]/g, "\\$&");
}

/** A condition on a label, as the native API has it: `name=value`, `name!=value`, `name=~regex`, `name!~regex`. */
export interface LabelFilter {
  name: string;
  operator: string;
  value: string;
}

/**
 * A filter for exactly this value. As a text, `=` and a value that begins with `~` are another operator, and
 * lines and the spaces at their ends get lost: such a value is a regular expression. `lost`: what else gets lost.
 */
export function equalFilter(name: string, value: string, lost = /\n/): LabelFilter {
  if (!/^[~\s]|\s$/.test(value) && !lost.test(value)) return { name, operator: "=", value };
  const pattern = escapeRegex(value).replace(/[\s,]/g, (found) => `\\x{${found.charCodeAt(0).toString(16)}}`);
  return { name, operator: "=~", value: pattern };
}

export function filterText({ name, operator, value }: LabelFilter): string {
  return `${name}${operator}${value}`;
}
