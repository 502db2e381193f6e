/** Histograms over time as the cells of a heatmap. */
import type { Range } from "../api/prometheus";
import type { PlotData } from "./data";

export interface Cell {
  /** The number of the step. */
  column: number;
  /** The bounds of the bucket, as indexes of `bounds`. */
  low: number;
  high: number;
  count: number;
}

export interface Heatmap {
  times: number[];
  /** The bounds of all buckets from the lowest to the highest one. */
  bounds: number[];
  cells: Cell[];
  /** The largest count of a cell. */
  most: number;
}

interface Bucket {
  column: number;
  low: number;
  high: number;
  count: number;
}

/**
 * The cells of the native histograms of an answer, or of classic buckets: series with the label `le`,
 * each of which counts those below it too. Series that differ in other labels are added up.
 *
 * Null if the answer has neither.
 */
export function heatmapOf(data: PlotData, range: Range): Heatmap | null {
  const buckets = [...nativeBuckets(data, range), ...classicBuckets(data)];
  if (!buckets.length) return null;
  const bounds = [...new Set(buckets.flatMap(({ low, high }) => [low, high]))].toSorted((a, b) => a - b);
  const indexes = new Map(bounds.map((bound, index) => [bound, index]));
  const sums = new Map<string, Cell>();
  for (const { column, low, high, count } of buckets) {
    const key = `${column} ${low} ${high}`;
    const cell = sums.get(key);
    if (cell) cell.count += count;
    else sums.set(key, { column, low: indexes.get(low) ?? 0, high: indexes.get(high) ?? 0, count });
  }
  const cells = [...sums.values()].filter(({ count }) => count > 0);
  const most = cells.reduce((largest, { count }) => Math.max(largest, count), 0);
  return { times: data.times, bounds, cells, most };
}

function nativeBuckets({ histograms: series }: PlotData, { start, step }: Range): Bucket[] {
  return series.flatMap(({ histograms }) =>
    histograms.flatMap(([time, { buckets = [] }]) =>
      buckets.map(([, low, high, count]) => ({
        column: Math.round((time - start) / step),
        low: bound(low),
        high: bound(high),
        count: Number(count),
      })),
    ),
  );
}

function classicBuckets({ series }: PlotData): Bucket[] {
  const groups = new Map<string, { high: number; values: (number | null)[] }[]>();
  for (const { labels, values } of series) {
    const { le, ...rest } = labels;
    if (le === undefined || Number.isNaN(bound(le))) continue;
    const key = JSON.stringify(rest);
    groups.set(key, [...(groups.get(key) ?? []), { high: bound(le), values }]);
  }
  const found: Bucket[] = [];
  for (const group of groups.values()) {
    const sorted = group.toSorted((a, b) => a.high - b.high);
    sorted.forEach(({ high, values }, index) => {
      const below = sorted[index - 1];
      const low = below?.high ?? (high > 0 ? 0 : -Infinity);
      values.forEach((count, column) => {
        if (count === null) return;
        // Rates of buckets that were scraped at different moments may be a little smaller.
        found.push({ column, low, high, count: Math.max(count - (below?.values[column] ?? 0), 0) });
      });
    });
  }
  return found;
}

function bound(text: string): number {
  if (text === "+Inf" || text === "Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}
