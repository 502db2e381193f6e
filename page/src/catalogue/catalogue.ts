/** What is measured: every metric with its type, unit, help and number of series. */
import { native } from "../api/native";
import { type Metadata, call } from "../api/prometheus";
import { unitOfName } from "../format/numbers";
import { type LabelFilter, promqlName, quote } from "../format/series";

export type MetricType = "counter" | "gauge" | "histogram" | "summary";

export interface ThresholdOverride {
  labels: Record<string, string>;
  warning?: number | null;
  critical?: number | null;
}

export interface Threshold {
  warning: number | null;
  critical: number | null;
  direction: "above" | "below";
  for: string;
  overrides: ThresholdOverride[];
  remediation: { workflow_type: string; [field: string]: unknown } | null;
}

/** The definition of a metric, as the native API has it. */
export interface Definition {
  name: string;
  display_name: string;
  description: string;
  unit: string;
  type: MetricType;
  aggregation: string | null;
  retention_days: number | null;
  duplicate_policy: "first" | "last";
  alert_threshold: Threshold | null;
  /** The ETag is this number in quotes. */
  version: number;
  updated_at: string;
}

export interface Metric {
  /** For a classic histogram or a summary: without `_bucket`, `_sum` and `_count`. */
  name: string;
  type: MetricType;
  /** Whether someone has said so, or the name only suggests it. */
  hasType: boolean;
  unit: string;
  help: string;
  series: number;
  /** The names of the metric's series, several for a histogram or a summary. */
  parts: readonly string[];
}

export interface Counted {
  name: string;
  value: number;
}

export interface SeriesStatistics {
  headStats: { numSeries: number; numLabelPairs: number; minTime: number; maxTime: number };
  seriesCountByMetricName: Counted[];
  labelValueCountByLabelName: Counted[];
  memoryInBytesByLabelName: Counted[];
  seriesCountByLabelValuePair: Counted[];
}

export interface Catalogue {
  metrics: Metric[];
  statistics: SeriesStatistics;
  /** Whether there is anything but what the service measures of itself. */
  hasOtherThanOwn: boolean;
  /** Whether there are more metrics than are listed. */
  isCut: boolean;
}

export const MOST_METRICS = 10_000;
/** The job under which the service scrapes itself. */
export const OWN_JOB = "promcompat";

export async function seriesStatistics(limit: number, signal?: AbortSignal): Promise<SeriesStatistics> {
  const answer = await call<SeriesStatistics>("status/tsdb", {
    parameters: { limit },
    ...(signal && { signal }),
  });
  return answer.data;
}

export function hasOtherThanOwn(statistics: SeriesStatistics): boolean {
  const own = statistics.seriesCountByLabelValuePair.find(({ name }) => name === `job=${OWN_JOB}`);
  return statistics.headStats.numSeries > (own?.value ?? 0);
}

/** Everything at once; the service counts the series of at most 10,000 metrics. */
export async function readCatalogue(signal: AbortSignal): Promise<Catalogue> {
  const [statistics, metadata, definitions] = await Promise.all([
    seriesStatistics(MOST_METRICS, signal),
    call<Record<string, Metadata[]>>("metadata", { signal }),
    readDefinitions(signal),
  ]);
  const names = statistics.seriesCountByMetricName;
  return {
    metrics: metricsOf(names, metadata.data ?? {}, definitions),
    statistics,
    hasOtherThanOwn: hasOtherThanOwn(statistics),
    isCut: names.length >= MOST_METRICS,
  };
}

async function readDefinitions(signal: AbortSignal): Promise<Map<string, Definition>> {
  const found = new Map<string, Definition>();
  let cursor: string | undefined;
  do {
    const page: { definitions: Definition[]; next_cursor: string | null } = await native.get("/definitions", {
      parameters: { cursor, limit: 1000 },
      signal,
    });
    for (const definition of page.definitions) found.set(definition.name, definition);
    cursor = page.next_cursor ?? undefined;
  } while (cursor);
  return found;
}

const PARTS = /_(bucket|sum|count)$/;

/** Series of classic histograms and summaries become one metric, if their type is known. */
export function metricsOf(
  names: readonly Counted[],
  metadata: Record<string, Metadata[]>,
  definitions: ReadonlyMap<string, Definition>,
): Metric[] {
  const toldType = (name: string) => definitions.get(name)?.type ?? metadata[name]?.[0]?.type;
  const families = new Map<string, { series: number; parts: string[] }>();
  for (const { name, value } of names) {
    const base = name.replace(PARTS, "");
    const isPart = base !== name && isDistribution(toldType(base));
    const key = isPart ? base : name;
    const family = families.get(key) ?? { series: 0, parts: [] };
    family.series += value;
    family.parts.push(name);
    families.set(key, family);
  }
  const metrics = [...families].map(([name, { series, parts }]): Metric => {
    const told = metadata[name]?.[0];
    const definition = definitions.get(name);
    const type = toldType(name);
    return {
      name,
      type: isType(type) ? type : guessedType(name),
      hasType: isType(type),
      unit: definition?.unit || told?.unit || "",
      help: definition?.description || told?.help || "",
      series,
      parts,
    };
  });
  return metrics.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function isDistribution(type: string | undefined): boolean {
  return type === "histogram" || type === "summary";
}

function isType(type: string | undefined): type is MetricType {
  return isDistribution(type) || type === "counter" || type === "gauge";
}

function guessedType(name: string): MetricType {
  return /_(total|count|sum|bucket)$/.test(name) ? "counter" : "gauge";
}

const UNIT_WORDS: Record<string, string> = {
  seconds: "s",
  second: "s",
  milliseconds: "ms",
  byte: "bytes",
  ratio: "percentunit",
  "%": "percent",
  celsius: "celsius",
  "1": "",
};

/** The id of the unit for `formatValue`, of what is told about a metric, else of its name. */
export function unitIdOf(name: string, unit: string): string {
  // Buckets count what the name measures.
  if (!unit) return name.endsWith("_bucket") ? "" : unitOfName(name);
  return UNIT_WORDS[unit.toLowerCase()] ?? unit;
}

const RATES: Record<string, string> = { "": "cps", bytes: "binBps", bits: "binbps" };

/** The unit of something's change in a second. */
export function rateUnitOf(unit: string): string {
  return RATES[unit] ?? `${unit}/s`;
}

/** A selector that PromQL reads, whatever characters the name has. */
export function selectorOf(name: string, matchers: readonly LabelFilter[] = []): string {
  const isPlain = promqlName(name) === name;
  const inside = matchers.map((one) => `${promqlName(one.name)}${one.operator}${quote(one.value)}`);
  if (!isPlain) inside.unshift(quote(name));
  return `${isPlain ? name : ""}${inside.length ? `{${inside.join(", ")}}` : ""}`;
}

/** What a small plot of a metric shows: an expression, what that is in a word, and its unit. */
export function summaryOf(metric: Metric, window: string): { query: string; what: string; unit: string } {
  const unit = unitIdOf(metric.name, metric.unit);
  if (metric.type === "counter") {
    return {
      query: `sum(rate(${selectorOf(metric.name)}[${window}]))`,
      what: "rate",
      unit: rateUnitOf(unit),
    };
  }
  if (metric.type === "gauge") {
    const what = metric.series === 1 ? "" : "mean";
    return { query: `avg(${selectorOf(metric.name)})`, what, unit };
  }
  const count = `${metric.name}_count`;
  const rate = metric.parts.includes(count)
    ? `rate(${selectorOf(count)}[${window}])`
    : `histogram_count(rate(${selectorOf(metric.name)}[${window}]))`;
  return { query: `sum(${rate})`, what: "rate", unit: "cps" };
}
