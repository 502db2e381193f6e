/** Answers of range queries as columns for a plot. */
import type { Labels, MatrixSeries, NativeHistogram, Range } from "../api/prometheus";

export interface PlotSeries {
  labels: Labels;
  /** A value for each time; null where there is none, which leaves a gap. */
  values: (number | null)[];
}

export interface HistogramSeries {
  labels: Labels;
  histograms: [number, NativeHistogram][];
}

export interface PlotData {
  /** Unix seconds, each step of the range. */
  times: number[];
  series: PlotSeries[];
  /** Native histograms, which are no lines. */
  histograms: HistogramSeries[];
}

/** The columns of a matrix as they come from a worker: one array, with NaN for gaps. */
export interface PackedData {
  labels: Labels[];
  /** The series one after another, each with a value for each step. */
  values: Float64Array;
  histograms: HistogramSeries[];
}

export function stepCount({ start, end, step }: Range): number {
  return Math.floor((end - start) / step + 1e-6) + 1;
}

/** The series of a matrix on the grid of its range; NaN and infinities are gaps. */
export function packData(matrix: readonly MatrixSeries[], range: Range): PackedData {
  const { start, step } = range;
  const length = stepCount(range);
  // A series that has histograms alone is no line.
  const floats = matrix.filter(({ values, histograms }) => values?.length || !histograms?.length);
  const packed = new Float64Array(floats.length * length).fill(NaN);
  floats.forEach(({ values = [] }, index) => {
    for (const [time, text] of values) {
      // `Number` reads "+Inf" as NaN; an infinite height has no place in a plot either.
      packed[index * length + Math.round((time - start) / step)] = Number(text);
    }
  });
  return {
    labels: floats.map(({ metric }) => metric),
    values: packed,
    histograms: matrix.flatMap(({ metric, histograms }) =>
      histograms?.length ? [{ labels: metric, histograms }] : [],
    ),
  };
}

export function unpackData({ labels, values, histograms }: PackedData, range: Range): PlotData {
  const length = stepCount(range);
  const times = Array.from({ length }, (_, index) => range.start + index * range.step);
  const series = labels.map((own, index) => {
    const column = Array.from<number | null>({ length });
    for (let row = 0; row < length; row += 1) {
      const value = values[index * length + row];
      column[row] = value === undefined || Number.isNaN(value) ? null : value;
    }
    return { labels: own, values: column };
  });
  return { times, series, histograms };
}

/** The series of a matrix as columns. */
export function plotData(matrix: readonly MatrixSeries[], range: Range): PlotData {
  return unpackData(packData(matrix, range), range);
}

/** Each column on top of those before it; a gap has no height where another series has a value. */
export function stack(columns: readonly (number | null)[][]): (number | null)[][] {
  const length = columns[0]?.length ?? 0;
  const total = new Float64Array(length);
  const isEmpty = Array.from({ length }, (_, row) => columns.every((column) => column[row] === null));
  return columns.map((column) =>
    column.map((value, row) => {
      if (isEmpty[row]) return null;
      total[row] = (total[row] ?? 0) + (value ?? 0);
      return total[row] ?? null;
    }),
  );
}

export type Reducer = "last" | "min" | "max" | "mean" | "sum" | "count";

/** Numbers about a column, leaving out its gaps; null for a column of gaps. */
export function summarize(
  values: readonly (number | null)[],
): Record<Reducer, number> | null {
  let count = 0;
  let sum = 0;
  let min = Infinity;
  let max = -Infinity;
  let last = 0;
  for (const value of values) {
    if (value === null) continue;
    count += 1;
    sum += value;
    if (value < min) min = value;
    if (value > max) max = value;
    last = value;
  }
  return count ? { last, min, max, mean: sum / count, sum, count } : null;
}

export function reduce(values: readonly (number | null)[], by: Reducer): number | null {
  return summarize(values)?.[by] ?? null;
}
