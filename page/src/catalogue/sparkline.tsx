/** A small plot of a metric and its value now, asked for when they are first seen. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { queryRange } from "../api/prometheus";
import { formatValue } from "../format/numbers";
import { plotData, reduce } from "../plot/data";
import { range } from "../time/range";
import { useRequest } from "../use_request";
import { type Metric, summaryOf } from "./catalogue";
import "./catalogue.css";

const POINTS = 60;
const WIDTH = 120;
const HEIGHT = 28;
/** A scrape interval of a minute has enough samples in it. */
const LEAST_WINDOW_SECONDS = 300;
/** Summing more than this takes longer than a small plot is worth. */
const MOST_SERIES = 20_000;
const AT_A_TIME = 4;

let running = 0;
const waiting: (() => void)[] = [];

/** At most a few at a time: rows that are scrolled past must not crowd out those that are read. */
async function inTurn<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  if (running >= AT_A_TIME) await new Promise<void>((resolve) => waiting.push(resolve));
  running += 1;
  try {
    signal.throwIfAborted();
    return await ask();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

export interface Summary {
  values: (number | null)[];
  last: number | null;
  unit: string;
  /** `rate`, `mean` or nothing. */
  what: string;
}

/** Whether an element is, or was, near the visible part of the page. */
export function useSeen(): [{ current: HTMLElement | null }, boolean] {
  const element = useRef<HTMLElement | null>(null);
  const [isSeen, setSeen] = useState(false);
  useEffect(() => {
    if (isSeen || !element.current) return;
    const observer = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true),
      { rootMargin: "100px" },
    );
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [isSeen]);
  return [element, isSeen];
}

/** The summary of a metric over the range of the page; undefined until there is one. */
export function useSummary(metric: Metric, isSeen: boolean): Summary | undefined {
  const { start, end } = range.value;
  const step = Math.max(1, Math.round((end - start) / POINTS));
  const window = `${Math.max(LEAST_WINDOW_SECONDS, 2 * step)}s`;
  const { query, what, unit } = summaryOf(metric, window);
  const canAsk = isSeen && metric.series <= MOST_SERIES;
  const { data } = useRequest(
    canAsk
      ? (signal) =>
          inTurn(signal, async () => {
            const grid = { start: end - POINTS * step, end, step };
            const answer = await queryRange(query, grid, signal);
            return plotData(answer.data.result, grid).series[0]?.values ?? [];
          })
      : null,
    [query, start, end, canAsk],
  );
  return useMemo(
    () => data && { values: data, last: reduce(data, "last"), unit, what },
    [data, unit, what],
  );
}

export function Sparkline({ summary, label }: { summary: Summary | undefined; label: string }) {
  const path = useMemo(() => pathOf(summary?.values ?? []), [summary]);
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label} preserveAspectRatio="none">
      <path d={path} />
    </svg>
  );
}

/** `12.5 /s (rate)` */
export function LastValue({ summary }: { summary: Summary | undefined }) {
  if (!summary) return <span class="hint">…</span>;
  return (
    <>
      {formatValue(summary.last, summary.unit)} {summary.what && <span class="hint">{summary.what}</span>}
    </>
  );
}

function pathOf(values: readonly (number | null)[]): string {
  const low = reduce(values, "min");
  const high = reduce(values, "max");
  if (low === null || high === null) return "";
  const span = high - low;
  let path = "";
  let isDown = false;
  for (const [index, value] of values.entries()) {
    if (value === null) {
      isDown = false;
      continue;
    }
    const x = (index / Math.max(values.length - 1, 1)) * WIDTH;
    const y = span ? HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4) : HEIGHT / 2;
    // A lone value is a short dash, as a line of one point is not seen.
    const isLone = !isDown && (values[index + 1] ?? null) === null;
    path += `${isDown ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}${isLone ? "h1" : ""}`;
    isDown = true;
  }
  return path;
}
