/** Answers of queries as frames, and the names of their series. */
import type { Labels, MatrixSeries, VectorSeries } from "../../../api/prometheus";
import { numberOf } from "../../../format/numbers";
import { formatLegend, formatSeries } from "../../../format/series";
import type { Field, Frame, Query, Value } from "./types";

/** Of a range, `column` has a value for each step. */
export type AnsweredSeries = MatrixSeries & VectorSeries & { column?: Value[] };

/** What is asked for a query, and what is answered. Times are Unix seconds. */
export interface Answered {
  query: Query;
  /** The expression with its variables replaced. */
  expr: string;
  /** The format of the legend with its variables replaced. */
  legend: string;
  isInstant: boolean;
  series: AnsweredSeries[];
  start: number;
  end: number;
  step: number;
  /** What the service warns of. */
  warnings?: readonly string[];
}

/** `name{a="1"}` as Grafana writes it; without any label the expression. */
function fullName(labels: Labels, expr: string): string {
  const name = formatSeries(labels);
  return name === "{}" ? expr : name;
}

/**
 * The names of the series of an answer. With `auto`: the value of the only label that occurs, else
 * the labels that differ.
 */
export function seriesNames(series: readonly Labels[], legend: string, isAuto: boolean, expr: string): string[] {
  if (!isAuto) return series.map((labels) => (legend ? formatLegend(legend, labels) : fullName(labels, expr)));
  const names = new Set(series.flatMap((labels) => Object.keys(labels)));
  if (names.size === 1) {
    const [only = ""] = names;
    return series.map((labels) => labels[only] ?? expr);
  }
  const [first = {}] = series;
  const differing = new Set([...names].filter((name) => series.some((labels) => labels[name] !== first[name])));
  return series.map((labels) => {
    if (!Object.keys(labels).length) return expr;
    const { __name__: metric, ...rest } = labels;
    if (metric === undefined) return fullName(rest, expr);
    if (series.length === 1) return fullName(labels, expr);
    const own = Object.entries(rest).filter(([name]) => differing.has(name));
    return own.length ? formatSeries(Object.fromEntries(own)) : fullName(labels, expr);
  });
}

/**
 * `isHeatmap`: whether native histograms are buckets, as in heatmaps. `hasSeveralTables`: whether columns are called `Value #A`, as a panel
 * with several tables has.
 */
export function framesOf(answered: Answered, hasSeveralTables: boolean, isHeatmap = false): Frame[] {
  const { query } = answered;
  if ((isHeatmap || query.format === "heatmap") && answered.series.some(({ histograms }) => histograms?.length)) return nativeFrames(answered);
  if (query.format === "table") return [tableFrame(answered, hasSeveralTables)];
  const names = seriesNames(answered.series.map(({ metric }) => metric), answered.legend, query.auto_legend ?? false, answered.expr);
  // One list for all series of the answer, by which graphs see that they have the same times.
  const grid = answered.isInstant ? [] : gridOf(answered);
  const frames = answered.series.map((series, index): Frame => {
    const { times, values } = answered.isInstant ? instantColumns(series, answered.end) : gridColumns(series, answered, grid);
    const value: Field = { name: "Value", type: "number", values, labels: series.metric, settings: {} };
    const name = names[index];
    if (name !== undefined) value.legendName = name;
    return {
      ref: query.ref,
      format: query.format ?? "time_series",
      fields: [{ name: "Time", type: "time", values: times, settings: {} }, value],
    };
  });
  return query.format === "heatmap" ? bucketFrames(frames) : frames;
}

function instantColumns({ value, values }: AnsweredSeries, end: number): { times: number[]; values: Value[] } {
  const sample = value ?? values?.at(-1);
  return { times: [(sample?.[0] ?? end) * 1000], values: [sample ? numberOf(sample[1]) : null] };
}

/** Every step of the range. */
function gridOf({ start, end, step }: Answered): number[] {
  const length = Math.max(Math.floor((end - start) / step + 1e-6) + 1, 0);
  return Array.from({ length }, (_, index) => Math.round((start + index * step) * 1000));
}

/** A value for each step; one without a sample is null. */
function gridColumns({ values = [], column: known }: AnsweredSeries, { start, step }: Answered, times: number[]): { times: number[]; values: Value[] } {
  if (known) return { times, values: known };
  const column = Array.from<Value>({ length: times.length }).fill(null);
  for (const [time, text] of values) column[Math.round((time - start) / step)] = numberOf(text);
  return { times, values: column };
}

/** One row a sample, and a column for each label, in the order of their names. */
function tableFrame(answered: Answered, hasSeveralTables: boolean): Frame {
  const { query, series, isInstant } = answered;
  const grid = isInstant ? [] : gridOf(answered);
  const names = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].toSorted();
  const rows = series.flatMap(({ metric, value, values, column }) => {
    if (column) return column.flatMap((one, row) => (one === null ? [] : [{ metric, time: grid[row] ?? 0, value: one }]));
    const samples = isInstant && value ? [value] : (values ?? (value ? [value] : []));
    return samples.map(([time, text]) => ({ metric, time: time * 1000, value: numberOf(text) }));
  });
  if (!isInstant) rows.sort((a, b) => a.time - b.time);
  return {
    ref: query.ref,
    format: "table",
    fields: [
      { name: "Time", type: "time", values: rows.map(({ time }) => time), settings: {} },
      ...names.map((name): Field => ({ name, type: "string", values: rows.map(({ metric }) => metric[name] ?? ""), settings: {} })),
      { name: hasSeveralTables ? `Value #${query.ref}` : "Value", type: "number", values: rows.map(({ value }) => value), settings: {} },
    ],
  };
}

/** The buckets of native histograms by their upper bounds, those of all series added up, from the lowest on. */
function nativeFrames(answered: Answered): Frame[] {
  const { query, series, start, step } = answered;
  const times = gridOf(answered);
  const rows = new Map<string, Value[]>();
  for (const { histograms = [] } of series) {
    for (const [time, { buckets = [] }] of histograms) {
      const place = Math.round((time - start) / step);
      for (const [, , high, count] of buckets) {
        let row = rows.get(high);
        if (!row) rows.set(high, (row = Array.from<Value>({ length: times.length }).fill(null)));
        row[place] = Number(row[place] ?? 0) + numberOf(count);
      }
    }
  }
  const sorted = [...rows].toSorted(([a], [b]) => numberOf(a) - numberOf(b));
  return sorted.map(([high, values]): Frame => ({
    ref: query.ref,
    format: "heatmap",
    fields: [{ name: "Time", type: "time", values: times, settings: {} }, { name: high, legendName: high, type: "number", values, settings: {} }],
  }));
}

/** Cumulative buckets, each less the one below it, from the lowest on. */
function bucketFrames(frames: Frame[]): Frame[] {
  const bound = (frame: Frame) => numberOf(frame.fields[1]?.labels?.["le"] ?? "NaN");
  const groups = new Map<string, Frame[]>();
  for (const frame of frames) {
    const { le: _, ...rest } = frame.fields[1]?.labels ?? {};
    const key = formatSeries(rest);
    groups.set(key, [...(groups.get(key) ?? []), frame]);
  }
  return [...groups.values()].flatMap((group) => {
    const sorted = group.toSorted((a, b) => bound(a) - bound(b));
    return sorted.map((frame, index) => {
      const below = sorted[index - 1]?.fields[1]?.values;
      const [time, field] = frame.fields;
      if (!time || !field) return frame;
      const values = field.values.map((value, row) => {
        if (typeof value !== "number") return value;
        const difference = value - (Number(below?.[row] ?? 0) || 0);
        return difference < 1e-9 ? 0 : difference;
      });
      return { ...frame, fields: [time, { ...field, name: field.labels?.["le"] ?? field.name, legendName: field.labels?.["le"] ?? field.name, values }] };
    });
  });
}
