/** What the editor completes with: names of metrics and labels, which are asked for once a minute. */
import { effect } from "@preact/signals";
import type { PrometheusClient } from "@prometheus-io/codemirror-promql/dist/esm/client/prometheus";
import type { Matcher } from "@prometheus-io/codemirror-promql/dist/esm/types";
import { call, labelNames, labelValues, metadata, series } from "../../api/prometheus";
import { promqlName, quote } from "../../format/series";
import { session } from "../../session";

const KEPT_MS = 60_000;
const MOST_SERIES = 1000;
const kept = new Map<string, { at: number; answer: Promise<unknown> }>();

// Another token or tenant sees other names.
effect(() => {
  void session.value;
  kept.clear();
});

/** The answer of the last minute, or a new one. What cannot be had is an empty one. */
function once<T>(key: string, ask: () => Promise<T>, empty: T): Promise<T> {
  const found = kept.get(key);
  if (found && Date.now() - found.at < KEPT_MS) return found.answer as Promise<T>;
  const answer = ask().catch(() => {
    kept.delete(key);
    return empty;
  });
  kept.set(key, { at: Date.now(), answer });
  return answer;
}

function selector(metric: string | undefined, matchers: Matcher[] = [], without = ""): string[] {
  const parts = matchers
    .filter((matcher) => matcher.name !== without && !matcher.matchesEmpty())
    .map(({ name, type, value }) => `${promqlName(name)}${operator(type)}${quote(value)}`);
  if (metric) parts.unshift(`__name__=${quote(metric)}`);
  return parts.length ? [`{${parts.join(",")}}`] : [];
}

/** The grammar's number of a matching operator as text. */
function operator(type: number): string {
  return OPERATORS.get(type) ?? "=";
}

const OPERATORS = new Map<number, string>();

/** Tell the numbers of the grammar, which is loaded with the editor. */
export function setOperators(numbers: [number, string][]): void {
  for (const [number, text] of numbers) OPERATORS.set(number, text);
}

export const completionClient: PrometheusClient = {
  labelNames: (metric) =>
    once(`names ${metric}`, () => labelNames(selector(metric)), []),
  labelValues: (label, metric, matchers) => {
    const match = selector(metric, matchers, label);
    return once(`values ${label} ${match.join()}`, () => labelValues(label, match), []);
  },
  metricNames: () => once("metrics", () => labelValues("__name__"), []),
  metricMetadata: () => once("metadata", metadata, {}),
  series: async (metric, matchers, label) => {
    const match = selector(metric, matchers, label);
    const found = await once(`series ${match.join()}`, () => series(match, MOST_SERIES), []);
    return found.map((labels) => new Map(Object.entries(labels)));
  },
  flags: async () => once("flags", async () => (await call<Record<string, string>>("status/flags")).data, {}),
};
