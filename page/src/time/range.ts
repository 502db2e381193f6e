/** The time range of the page: kept in the address as `from`, `to` and `refresh`. */
import { batch, computed, effect, signal } from "@preact/signals";
import { isAwaiting } from "../api/transport";
import { place, setQuery } from "../router";
import { parseDurationMs } from "../format/durations";
import { parseTime, type TimeText, timeBefore } from "./relative";

export interface TimeRange {
  /** Unix seconds. */
  start: number;
  end: number;
}

export const USUAL_SETTINGS: TimeSettings = { from: "now-1h", to: "now", refresh: "" };

/** What a view uses where the address says nothing; a dashboard has its own. */
export const defaultRange = signal<TimeSettings>(USUAL_SETTINGS);

export interface TimeSettings {
  from: TimeText;
  to: TimeText;
  refresh: string;
  /** What the picker offers to refresh with. */
  refreshChoices?: readonly string[];
  /** How long before the present `now` is. */
  nowDelayMs?: number;
  /** 1: Monday, which is the default; 0: Sunday, 6: Saturday. */
  firstWeekday?: number;
  /** Whether the header has no picker. */
  hidesPicker?: boolean;
}

export const from = computed(() => place.value.query.get("from") ?? defaultRange.value.from);
export const to = computed(() => place.value.query.get("to") ?? defaultRange.value.to);
/** A duration such as `30s`; empty: only when asked. */
export const refresh = computed(() => {
  const given = place.value.query.get("refresh") ?? defaultRange.value.refresh;
  return given === NO_REFRESH ? "" : given;
});
/** In the address, where a dashboard refreshes by itself and the reader does not want that. */
const NO_REFRESH = "off";

/** Refresh so often, which a duration says; empty: only when asked. */
export function setRefresh(every: string): void {
  setQuery({ refresh: every || (defaultRange.peek().refresh && NO_REFRESH) }, { replace: true });
}

/** When `now` was last read; a new value makes views ask again what depends on it, or has failed. */
export const readAtMs = signal(Date.now());
/** How often somebody wanted everything to be asked again. */
export const askedAgain = signal(0);

/** Ask again, with the current time as `now`. */
export function reload(): void {
  readAtMs.value = Math.max(Date.now(), readAtMs.peek() + 1);
}

/** The same by itself: not while answers are awaited, which would never come if they were asked for anew each time. */
export function refreshNow(): void {
  if (!isAwaiting()) reload();
}

/** Ask everything again, also what does not depend on the time. */
export function askAgain(): void {
  batch(() => {
    reload();
    askedAgain.value += 1;
  });
}

function resolve(fromText: TimeText, toText: TimeText, nowMs: number): { range: TimeRange; fault: string } {
  const now = nowMs / 1000;
  try {
    const { firstWeekday } = defaultRange.value;
    const start = parseTime(fromText, nowMs, false, firstWeekday) / 1000;
    const end = parseTime(toText, nowMs, true, firstWeekday) / 1000;
    if (end > start) return { range: { start, end }, fault: "" };
    throw new RangeError(`the range from “${fromText}” to “${toText}” ends before it starts`);
  } catch (problem) {
    // An address that somebody has edited; the picker refuses such input.
    return { range: { start: now - 3600, end: now }, fault: problem instanceof Error ? problem.message : String(problem) };
  }
}

const resolved = computed(() => resolve(from.value, to.value, readAtMs.value - (defaultRange.value.nowDelayMs ?? 0)));
/** The range as times. It changes with the address, with `reload` and with each refresh. */
export const range = computed(() => resolved.value.range);
/** Why the address has no range that can be shown, so that this is the last hour; empty if it has one. */
export const rangeFault = computed(() => resolved.value.fault);

/** A time range as texts, such as `now-1h` and `now`. */
export function setRange(nextFrom: TimeText, nextTo: TimeText): void {
  readAtMs.value = Date.now();
  setQuery({ from: nextFrom, to: nextTo });
}

/** Show the part between two times (Unix seconds), as a drag over any plot does. */
export function zoomTo(start: number, end: number): void {
  if (end - start < 1) return;
  setRange(String(Math.floor(start * 1000)), String(Math.ceil(end * 1000)));
}

/** Show twice the time around the same middle; for a range until now, twice as far back. */
export function zoomOut(): void {
  const { start, end } = range.peek();
  const length = end - start;
  if (to.peek() === "now") setRange(timeBefore(2 * length * 1000), "now");
  else zoomTo(start - length / 2, end + length / 2);
}

/** Move by half of the range. */
export function shift(direction: -1 | 1): void {
  const { start, end } = range.peek();
  const by = (direction * (end - start)) / 2;
  zoomTo(start + by, end + by);
}

const STEPS = [
  1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200,
  86_400, 604_800,
];
const MAX_POINTS = 11_000;

/**
 * The step in seconds for a plot that is `width` pixels wide: at most one point for two pixels,
 * at least `least`, a round number, and never more points than the API gives.
 */
export function autoStep({ start, end }: TimeRange, width = 1000, least = 1): number {
  const wanted = Math.max((end - start) / Math.max(width / 2, 50), least, (end - start) / MAX_POINTS);
  return STEPS.find((step) => step >= wanted) ?? Math.ceil(wanted / 86_400) * 86_400;
}

/** The range on the grid of its step, so that a refresh moves whole steps. */
export function onGrid({ start, end }: TimeRange, step: number): TimeRange & { step: number } {
  return { start: Math.floor(start / step) * step, end: Math.floor(end / step) * step, step };
}

/** The browser's timers do not wait longer; what is more they take for 0, and never rest. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** How often the page is refreshed, at most each second; 0: only when asked. */
export const refreshMs = computed(() => {
  const ms = refresh.value ? parseDurationMs(refresh.value) : 0;
  return ms ? Math.min(Math.max(ms, 1000), LONGEST_TIMER_MS) : 0;
});

let timer: number | undefined;
effect(() => {
  window.clearInterval(timer);
  // A hidden page asks nothing, and catches up when it is shown.
  if (refreshMs.value) timer = window.setInterval(() => document.hidden || refreshNow(), refreshMs.value);
});
document.addEventListener("visibilitychange", () => {
  const everyMs = refreshMs.peek();
  if (!document.hidden && everyMs && Date.now() - readAtMs.peek() > everyMs) refreshNow();
});
