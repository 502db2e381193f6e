/** Cells of heatmaps and bars of histograms. */
import { displayName } from "./fields";
import { intervalMs } from "./intervals";
import type { Frame, Heatmap } from "./types";

export interface Cells {
  /** Unix ms of the beginning of each column, and its length. */
  times: number[];
  stepMs: number;
  /** From the lowest on. */
  rows: string[];
  /** By row and column; null is nothing. */
  counts: (number | null)[][];
}

function seriesOf(frames: Frame[]): { name: string; times: number[]; values: (number | null)[] }[] {
  return frames.flatMap((frame) => {
    const time = frame.fields.find(({ type }) => type === "time");
    return frame.fields.filter(({ type }) => type === "number").map((field) => ({
      name: displayName(field, frame),
      times: (time?.values ?? []) as number[],
      values: field.values.map((value) => (typeof value === "number" && Number.isFinite(value) ? value : null)),
    }));
  });
}

function boundOf(name: string): number {
  return /^\+?inf$/i.test(name) ? Infinity : name.trim() === "" ? Number.NaN : Number(name);
}

export function cellsOf(frames: Frame[], options: Heatmap = {}): Cells {
  const series = seriesOf(frames);
  return options.calculate ? calculated(series, options) : asRows(series);
}

/** Each series is a row; where all names are numbers, by size. */
function asRows(series: ReturnType<typeof seriesOf>): Cells {
  const isNumeric = series.every(({ name }) => !Number.isNaN(boundOf(name)));
  const sorted = isNumeric ? series.toSorted((a, b) => boundOf(a.name) - boundOf(b.name)) : series;
  const times = [...new Set(sorted.flatMap((one) => one.times))].toSorted((a, b) => a - b);
  const placeOf = new Map(times.map((time, index) => [time, index]));
  const counts = sorted.map((one) => {
    const row = Array.from<number | null>({ length: times.length }).fill(null);
    one.values.forEach((value, index) => {
      const place = placeOf.get(one.times[index] ?? -1);
      if (place !== undefined) row[place] = value;
    });
    return row;
  });
  return { times, stepMs: stepOf(times), rows: sorted.map(({ name }) => name), counts };
}

function stepOf(times: number[]): number {
  const steps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  return steps.length ? Math.min(...steps) : 60_000;
}

/** A round size of buckets: 1, 2, 2.5 or 5 times a power of ten. */
export function niceSize(size: number): number {
  const power = 10 ** Math.floor(Math.log10(size || 1));
  return ([1, 2, 2.5, 5, 10].find((step) => step * power >= size) ?? 10) * power;
}

function calculated(series: ReturnType<typeof seriesOf>, { x_buckets, y_buckets }: Heatmap): Cells {
  const samples = series.flatMap(({ times, values }) => values.flatMap((value, index) => (value === null ? [] : [{ time: times[index] ?? 0, value }])));
  if (!samples.length) return { times: [], stepMs: 60_000, rows: [], counts: [] };
  const times = samples.map(({ time }) => time).toSorted((a, b) => a - b);
  const [first = 0, last = 0] = [times[0], times.at(-1)];
  const own = stepOf([...new Set(times)]);
  const stepMs = x_buckets?.size ?? intervalMs(x_buckets?.size_text ?? "") ?? Math.max(own, (last - first) / (x_buckets?.count ?? 60));
  const log = y_buckets?.log;
  const scale = (value: number) => (log ? Math.log(value) / Math.log(log) : value);
  const usable = samples.filter(({ value }) => !log || value > 0);
  const scaled = usable.map(({ value }) => scale(value));
  const [low, high] = [scaled.reduce((a, b) => Math.min(a, b), Infinity), scaled.reduce((a, b) => Math.max(a, b), -Infinity)];
  const size = log ? 1 / (y_buckets?.size ?? 1) : (y_buckets?.size ?? niceSize((high - low) / (y_buckets?.count ?? 20) || 1));
  const bottom = Math.floor(low / size + 1e-9);
  const nRows = Math.min(Math.max(Math.floor(high / size + 1e-9) - bottom + 1, 1), 500);
  const start = Math.floor(first / stepMs) * stepMs;
  const nColumns = Math.min(Math.floor((last - start) / stepMs) + 1, 5000);
  const counts = Array.from({ length: nRows }, () => Array.from<number | null>({ length: nColumns }).fill(0));
  for (const { time, value } of usable) {
    const row = counts[Math.floor(scale(value) / size + 1e-9) - bottom];
    const column = Math.floor((time - start) / stepMs);
    if (row && column < nColumns) row[column] = (row[column] ?? 0) + 1;
  }
  const name = (row: number) => {
    const edge = (bottom + row + 1) * size;
    return String(Number((log ? log ** edge : edge).toPrecision(6)));
  };
  return { times: Array.from({ length: nColumns }, (_, index) => start + index * stepMs), stepMs, rows: counts.map((_, row) => name(row)), counts };
}

/** The place of a count among the colours, 0 to 1; null for cells that are not drawn. */
export function intensity(count: number | null, min: number, max: number, options: Heatmap = {}): number | null {
  if (count === null || count <= (options.hide_up_to ?? 1e-9)) return null;
  const { scale = "exponential", exponent = 0.5, steps = 64, reverse } = options.color ?? {};
  const linear = Math.min(Math.max((count - min) / (max - min || 1), 0), 1);
  const at = scale === "linear" ? linear : linear ** exponent;
  const stepped = Math.round(at * (steps - 1)) / (steps - 1);
  return reverse ? 1 - stepped : stepped;
}

export interface Bar {
  from: number;
  to: number;
  count: number;
}

/** How many values of all series lie in each bucket. */
export function histogramOf(frames: Frame[], count = 30, size?: number, offset = 0): Bar[] {
  const values = seriesOf(frames).flatMap((one) => one.values).filter((value) => value !== null);
  if (!values.length) return [];
  const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const width = size || niceSize((high - low) / count || 1);
  const first = Math.floor((low - offset) / width);
  const bars = Array.from({ length: Math.min(Math.floor((high - offset) / width) - first + 1, 1000) }, (_, index): Bar => ({
    from: (first + index) * width + offset, to: (first + index + 1) * width + offset, count: 0,
  }));
  for (const value of values) {
    const bar = bars[Math.min(Math.floor((value - offset) / width) - first, bars.length - 1)];
    if (bar) bar.count += 1;
  }
  return bars;
}
