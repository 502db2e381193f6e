/** The names of series. */
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
