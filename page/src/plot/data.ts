/** Answers of range queries as columns for a plot. */
import type { Labels, MatrixSeries, Range } from "../api/prometheus";

export interface PlotSeries {
  labels: Labels;
  /** A value for each time; null where there is none, which leaves a gap. */
  values: (number | null)[];
}

export interface PlotData {
  /** Unix seconds, each step of the range. */
  times: number[];
  series: PlotSeries[];
}

/** The series of a matrix on the grid of its range; NaN and infinities are gaps. */
export function plotData(matrix: readonly MatrixSeries[], range: Range): PlotData {
  const { start, end, step } = range;
  const length = Math.floor((end - start) / step + 1e-6) + 1;
  const times = Array.from({ length }, (_, index) => start + index * step);
  const series = matrix.map(({ metric, values = [] }) => {
    const column = Array.from<number | null>({ length }).fill(null);
    for (const [time, text] of values) {
      const value = Number(text);
      // `Number` reads "NaN" and "+Inf" as NaN.
      if (Number.isFinite(value)) column[Math.round((time - start) / step)] = value;
    }
    return { labels: metric, values: column };
  });
  return { times, series };
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

/** One number for a column, leaving out its gaps; null for a column of gaps. */
export function reduce(values: readonly (number | null)[], by: Reducer): number | null {
  let count = 0;
  let sum = 0;
  let min = Infinity;
  let max = -Infinity;
  let last: number | null = null;
  for (const value of values) {
    if (value === null) continue;
    count += 1;
    sum += value;
    if (value < min) min = value;
    if (value > max) max = value;
    last = value;
  }
  if (!count) return null;
  return { last, min, max, mean: sum / count, sum, count }[by];
}
