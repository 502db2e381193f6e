/** Answers of range queries as columns for a plot. */
import type { Labels, MatrixSeries, NativeHistogram, Range } from "../api/prometheus";
import { numberOf } from "../format/numbers";

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

/** The columns of a matrix as they come from a worker. */
export interface PackedData {
  labels: Labels[];
  /** The series one after another, each with a value for each step. */
  values: Float64Array;
  /** 1 for each value that is a sample, which may be NaN; 0 for a gap. */
  known: Uint8Array;
  histograms: HistogramSeries[];
}

export function stepCount({ start, end, step }: Range): number {
  return Math.floor((end - start) / step + 1e-6) + 1;
}

/** The series of a matrix on the grid of its range. */
export function packData(matrix: readonly MatrixSeries[], range: Range): PackedData {
  const { start, step } = range;
  const length = stepCount(range);
  // A series that has histograms alone is no line.
  const floats = matrix.filter(({ values, histograms }) => values?.length || !histograms?.length);
  const packed = new Float64Array(floats.length * length);
  const known = new Uint8Array(packed.length);
  floats.forEach(({ values = [] }, index) => {
    for (const [time, text] of values) {
      const place = index * length + Math.round((time - start) / step);
      packed[place] = numberOf(text);
      known[place] = 1;
    }
  });
  return {
    labels: floats.map(({ metric }) => metric),
    values: packed,
    known,
    histograms: matrix.flatMap(({ metric, histograms }) =>
      histograms?.length ? [{ labels: metric, histograms }] : [],
    ),
  };
}

/** One series of packed data: a value for each of `length` steps, null for a gap. */
export function columnOf({ values, known }: PackedData, index: number, length: number): (number | null)[] {
  const column = Array.from<number | null>({ length }).fill(null);
  for (let row = 0; row < length; row += 1) {
    const place = index * length + row;
    if (known[place]) column[row] = values[place] ?? null;
  }
  return column;
}

/** NaN and infinities are gaps, as they have no height in a plot. */
export function unpackData(data: PackedData, range: Range): PlotData {
  const length = stepCount(range);
  const times = Array.from({ length }, (_, index) => range.start + index * range.step);
  const series = data.labels.map((labels, index) => {
    const values = columnOf(data, index, length).map((value) => (Number.isFinite(value) ? value : null));
    return { labels, values };
  });
  return { times, series, histograms: data.histograms };
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
