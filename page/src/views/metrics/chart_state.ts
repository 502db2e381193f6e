/** What the chart of a metric shows, as the address has it, and the PromQL that says the same. */
import { type Metric, rateUnitOf, selectorOf, unitIdOf } from "../../catalogue/catalogue";
import { type LabelFilter, equalFilter, filterText, promqlName } from "../../format/series";
import { place, setQuery } from "../../router";

export const AGGREGATIONS = [
  "avg", "min", "max", "sum", "count", "last", "rate", "p50", "p95", "p99", "percentile",
] as const;

const DEFAULTS = { counter: "rate", gauge: "avg", histogram: "percentile", summary: "avg" };

export interface ChartState {
  /** Empty: as the metric's definition or type says. */
  aggregation: string;
  /** Empty: by the range and the width of the plot. */
  bucket: string;
  /** Each series by itself, all of them together, or groups. */
  split: "each" | "all" | "by";
  by: string[];
  filters: LabelFilter[];
}

const FILTER = /^(.+?)(=~|!~|!=|=)(.*)$/s;

/** Filters are lines, as values may have any other character. */
export function readChart(query: URLSearchParams): ChartState {
  const by = (query.get("by") ?? "").split(",").filter(Boolean);
  const split = by.length ? "by" : query.get("split") === "all" ? "all" : "each";
  const filters = (query.get("filters") ?? "").split("\n").flatMap((line) => {
    const found = FILTER.exec(line);
    return found ? [{ name: found[1] ?? "", operator: found[2] ?? "=", value: found[3] ?? "" }] : [];
  });
  return { aggregation: query.get("agg") ?? "", bucket: query.get("bucket") ?? "", split, by, filters };
}

export function writeChart(change: Partial<ChartState>): void {
  setQuery({
    ...(change.aggregation !== undefined && { agg: change.aggregation }),
    ...(change.bucket !== undefined && { bucket: change.bucket }),
    ...(change.split !== undefined && { split: change.split === "all" ? "all" : null }),
    ...(change.by !== undefined && { by: change.by.join(",") }),
    ...(change.filters !== undefined && { filters: change.filters.map(filterText).join("\n") }),
  });
}

/** Show only some series; a second filter with the same text changes nothing. */
export function addFilter(added: LabelFilter): void {
  const filter = added.operator === "=" ? equalFilter(added.name, added.value) : added;
  const { filters } = readChart(place.peek().query);
  if (filters.some((other) => filterText(other) === filterText(filter))) return;
  writeChart({ filters: [...filters, filter] });
}

export function aggregationOf(state: ChartState, metric: Metric, preferred: string | null): string {
  return state.aggregation || preferred || DEFAULTS[metric.type];
}

/** The unit of what is drawn. */
export function chartUnit(metric: Metric, aggregation: string): string {
  const unit = unitIdOf(metric.name, metric.unit);
  const isDistribution = metric.type === "histogram" || metric.type === "summary";
  if (aggregation === "count") return "short";
  if (aggregation === "rate") return isDistribution ? "cps" : rateUnitOf(unit);
  return unit;
}

/** Whether what is drawn can be compared with the limits of the metric's samples. */
export function hasLevels(metric: Metric, aggregation: string): boolean {
  return (metric.type === "gauge" || metric.type === "counter") && !["rate", "count", "sum"].includes(aggregation);
}

const QUANTILES: Record<string, number> = { p50: 0.5, p95: 0.95, p99: 0.99, percentile: 0.95 };

/** An expression for Explore: of several percentiles the 95th. */
export function promqlOf(metric: Metric, state: ChartState, aggregation: string, bucket: string): string {
  const of = (suffix: string) => `${selectorOf(metric.name + suffix, state.filters)}[${bucket}]`;
  const labels = state.by.map(promqlName);
  const grouped = (operator: string, inner: string, extra: string[] = [], parameter = "") => {
    if (state.split === "each") return inner;
    const by = [...labels, ...extra];
    return `${operator}${by.length ? ` by (${by.join(", ")})` : ""} (${parameter}${inner})`;
  };
  const isClassic = metric.parts.some((part) => part !== metric.name);
  const quantile = QUANTILES[aggregation];
  if (metric.type === "histogram" || metric.type === "summary") {
    const rate = (part: string) =>
      isClassic ? grouped("sum", `rate(${of(`_${part}`)})`) : grouped("sum", `histogram_${part}(rate(${of("")}))`);
    if (quantile !== undefined && metric.type === "histogram") {
      const inner = isClassic ? `rate(${of("_bucket")})` : `rate(${of("")})`;
      return `histogram_quantile(${quantile}, ${grouped("sum", inner, isClassic ? ["le"] : [])})`;
    }
    if (quantile !== undefined) return grouped("avg", `avg_over_time(${of("")})`);
    if (aggregation === "rate" || aggregation === "count") return rate("count");
    return aggregation === "sum" ? rate("sum") : `${rate("sum")} / ${rate("count")}`;
  }
  if (quantile !== undefined) {
    return grouped("quantile", `quantile_over_time(${quantile}, ${of("")})`, [], `${quantile}, `);
  }
  if (aggregation === "rate") return grouped("sum", `rate(${of("")})`);
  const operators: Record<string, string> = { last: "sum", count: "sum" };
  return grouped(operators[aggregation] ?? aggregation, `${aggregation}_over_time(${of("")})`);
}
