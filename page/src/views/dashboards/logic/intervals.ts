/** Steps of queries, and the variables about them (docs/dashboards.md), as Grafana computes them. */

/** Below the first, the second: milliseconds. */
const ROUNDED: readonly (readonly [number, number])[] = [
  [10, 1], [15, 10], [35, 20], [75, 50], [150, 100], [350, 200], [750, 500],
  [1500, 1000], [3500, 2000], [7500, 5000], [12_500, 10_000], [17_500, 15_000], [25_000, 20_000],
  [45_000, 30_000], [90_000, 60_000], [210_000, 120_000], [450_000, 300_000], [750_000, 600_000],
  [1_050_000, 900_000], [1_500_000, 1_200_000], [2_700_000, 1_800_000], [5_400_000, 3_600_000],
  [9_000_000, 7_200_000], [16_200_000, 10_800_000], [32_400_000, 21_600_000],
  [86_400_000, 43_200_000], [604_800_000, 86_400_000], [1_814_400_000, 604_800_000],
  [3_628_800_000, 2_592_000_000],
];
const YEAR_MS = 31_536_000_000;
const MAX_POINTS = 11_000;

export function roundInterval(ms: number): number {
  return ROUNDED.find(([limit]) => ms < limit)?.[1] ?? YEAR_MS;
}

const UNITS: Record<string, number> = {
  ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000,
  M: 2_592_000_000, y: YEAR_MS,
};

/** Milliseconds of `30s`, `1m30s` or `>1m`; null for what is no duration. */
export function intervalMs(text: string): number | null {
  const trimmed = text.trim().replace(/^>/, "");
  if (!/^(?:\d+(?:\.\d+)?(?:ms|[smhdwMy]))+$/.test(trimmed)) return null;
  let total = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdwMy])/g)) {
    total += Number(count) * (UNITS[unit ?? ""] ?? 0);
  }
  return total;
}

/** The largest unit that fits, the rest dropped: 90 seconds are `1m`. */
export function intervalText(ms: number): string {
  for (const unit of ["y", "d", "h", "m", "s"]) {
    const size = UNITS[unit] ?? 1;
    if (ms >= size) return `${Math.floor(ms / size)}${unit}`;
  }
  return `${Math.max(Math.floor(ms), 1)}ms`;
}

/** `1m0s`, `2h30m0s`, as Go writes durations. */
export function goDuration(ms: number): string {
  if (ms < 1000) return `${ms}ms`;
  const seconds = ms / 1000;
  const h = Math.floor(seconds / 3600);
  const m = Math.floor((seconds % 3600) / 60);
  const s = Number((seconds % 60).toFixed(3));
  return `${h ? `${h}h` : ""}${h || m ? `${m}m` : ""}${s}s`;
}

export interface StepInput {
  rangeMs: number;
  maxDataPoints: number;
  /** The least step of the panel and of the query, with their variables replaced. */
  panelInterval: string;
  queryInterval: string;
  factor: number;
  scrapeMs: number;
}

export interface Steps {
  /** What the panel calls its interval. */
  intervalMs: number;
  stepMs: number;
  rateIntervalMs: number;
}

const INTERVAL = /^\$(?:__interval|\{__interval\})$/;
const RATE_INTERVAL = /^\$(?:__rate_interval|\{__rate_interval\})$/;

export function stepsOf(input: StepInput): Steps {
  const { rangeMs, maxDataPoints, factor, scrapeMs } = input;
  const own = roundInterval(rangeMs / Math.max(maxDataPoints, 1));
  const interval = Math.max(own, intervalMs(input.panelInterval) ?? scrapeMs);
  const given = intervalMs(input.queryInterval);
  const least = Math.max(own, given ?? interval, roundInterval(rangeMs / MAX_POINTS));
  const step = least * Math.max(factor, 1);
  const rateOf = (scrape: number) => Math.max(interval + scrape, 4 * scrape);
  if (RATE_INTERVAL.test(input.queryInterval.trim())) {
    const rate = rateOf(scrapeMs);
    return { intervalMs: interval, stepMs: rate, rateIntervalMs: rate };
  }
  const scrape = given ?? (INTERVAL.test(input.queryInterval.trim()) ? step : scrapeMs);
  return { intervalMs: interval, stepMs: step, rateIntervalMs: rateOf(scrape) };
}

/** The built-in variables of a query. */
export function stepVariables(steps: Steps, rangeMs: number): Record<string, string> {
  const rangeSeconds = Math.round(rangeMs / 1000);
  return {
    __interval: intervalText(steps.stepMs),
    __interval_ms: String(steps.stepMs),
    __rate_interval: goDuration(steps.rateIntervalMs),
    __rate_interval_ms: String(steps.rateIntervalMs),
    __range: `${rangeSeconds}s`,
    __range_s: String(rangeSeconds),
    __range_ms: String(Math.round(rangeMs)),
  };
}

/** A time on the grid of steps, whose days begin at midnight of the zone. */
export function alignDown(ms: number, stepMs: number, zoneOffsetMs: number): number {
  return Math.floor((ms + zoneOffsetMs) / stepMs) * stepMs - zoneOffsetMs;
}

/** `auto` of a variable of the kind interval. */
export function autoInterval(rangeMs: number, count: number, least: string): string {
  return intervalText(Math.max(roundInterval(rangeMs / Math.max(count, 1)), intervalMs(least) ?? 10_000));
}
