/** Calculations over the values of a field. Gaps and NaN are left out, except by first and last. */
import type { Value } from "./types";

const TITLES: Record<string, string> = {
  lastNotNull: "Last *", last: "Last", firstNotNull: "First *", first: "First", min: "Min",
  max: "Max", mean: "Mean", sum: "Total", count: "Count", range: "Range", diff: "Difference",
  delta: "Delta", median: "Median", stdDev: "StdDev", variance: "Variance", logmin: "Min (above zero)",
  allIsZero: "All Zeros", allIsNull: "All Nulls", changeCount: "Change count", distinctCount: "Distinct count",
  diffperc: "Difference percent", step: "Step", allValues: "All values", uniqueValues: "All unique values",
  previousDeltas: "Delta", countAll: "Count all",
};

export function reducerTitle(id: string): string {
  return TITLES[id] ?? id;
}

function numbers(values: readonly Value[]): number[] {
  return values.filter((value): value is number => typeof value === "number" && !Number.isNaN(value));
}

function extreme(found: number[], choose: (a: number, b: number) => number): number | null {
  let result: number | null = null;
  for (const value of found) result = result === null ? value : choose(result, value);
  return result;
}

function sum(found: number[]): number {
  return found.reduce((total, value) => total + value, 0);
}

function variance(found: number[]): number | null {
  if (!found.length) return null;
  const mean = sum(found) / found.length;
  return sum(found.map((value) => (value - mean) ** 2)) / found.length;
}

/** The growth of a counter: what it has after a reset is growth too. */
function delta(found: number[]): number | null {
  if (!found.length) return null;
  let total = 0;
  for (let index = 1; index < found.length; index += 1) {
    const [before = 0, value = 0] = [found[index - 1], found[index]];
    total += value >= before ? value - before : value;
  }
  return total;
}

function median(found: number[]): number | null {
  const sorted = found.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (!sorted.length) return null;
  return sorted.length % 2 ? (sorted[middle] ?? null) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/** The result of the calculation with this id; null for none and for unknown ones. */
export function reduceValues(values: readonly Value[], id: string): Value {
  const isPresent = (value: Value) => value !== null && value !== "" && !Number.isNaN(value);
  if (id === "lastNotNull") return values.findLast(isPresent) ?? null;
  if (id === "firstNotNull") return values.find(isPresent) ?? null;
  if (id === "last") return values.at(-1) ?? null;
  if (id === "first") return values[0] ?? null;
  if (id === "count") return values.filter(isPresent).length;
  if (id === "countAll") return values.length;
  if (id === "distinctCount") return new Set(values).size;
  return reduceNumbers(numbers(values), id);
}

function reduceNumbers(found: number[], id: string): number | null {
  const [first, last] = [found[0], found.at(-1)];
  switch (id) {
    case "min": return extreme(found, Math.min);
    case "max": return extreme(found, Math.max);
    case "logmin": return extreme(found.filter((value) => value > 0), Math.min);
    case "mean": return found.length ? sum(found) / found.length : null;
    case "sum": return sum(found);
    case "range": return found.length ? (extreme(found, Math.max) ?? 0) - (extreme(found, Math.min) ?? 0) : null;
    case "diff": return first === undefined || last === undefined ? null : last - first;
    case "diffperc": return first === undefined || last === undefined ? null : (last - first) / first;
    case "delta": return delta(found);
    case "median": return median(found);
    case "variance": return variance(found);
    case "stdDev": {
      const squared = variance(found);
      return squared === null ? null : Math.sqrt(squared);
    }
    case "changeCount": return found.filter((value, index) => index > 0 && value !== found[index - 1]).length;
    case "allIsZero": return found.length && found.every((value) => value === 0) ? 1 : 0;
    case "allIsNull": return found.length ? 0 : 1;
    default: return null;
  }
}
