/** The time range of the page: kept in the address as `from`, `to` and `refresh`. */
import { computed, effect, signal } from "@preact/signals";
import { place, setQuery } from "../router";
import { formatDurationMs, parseDurationMs } from "../format/durations";
import { timeOfWall, wallClock } from "./zone";

/** An end of a range: `now`, `now-1h`, or Unix milliseconds as text. */
export type TimeText = string;

export interface TimeRange {
  /** Unix seconds. */
  start: number;
  end: number;
}

/** What a view uses where the address says nothing; a dashboard has its own. */
export const defaultRange = signal<TimeSettings>({ from: "now-1h", to: "now", refresh: "" });

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
export const refresh = computed(
  () => place.value.query.get("refresh") ?? defaultRange.value.refresh,
);

const UNITS: Record<string, number> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};
const TERM = /([+-]\d*|\/)([smhdwMQy])/g;

/**
 * Unix milliseconds of a time: a number of them, ISO 8601, or `now` and any number of `-5m`, `+1d`
 * and `/d`, which goes to the start of the unit, or with `roundsUp` to its last millisecond. Days
 * and longer units are those of the zone in use.
 *
 * Throws RangeError with what is accepted.
 */
export function parseTime(text: TimeText, nowMs: number, roundsUp = false): number {
  const trimmed = text.trim();
  if (/^-?\d{9,}$/.test(trimmed)) return Number(trimmed);
  const relative = /^now((?:[+-]\d*[smhdwMQy]|\/[smhdwMQy])*)$/.exec(trimmed.replace(/\s/g, ""));
  if (!relative) {
    const local = trimmed.replace(" ", "T");
    const hasZone = /(Z|[+-]\d\d:?\d\d)$/i.test(local) || /[a-z]{2}/i.test(local);
    const absolute = hasZone ? Date.parse(trimmed) : Date.parse(`${local}${local.includes("T") ? "" : "T00:00"}Z`);
    if (!Number.isNaN(absolute)) return hasZone ? absolute : timeOfWall(new Date(absolute));
    throw new RangeError(
      `“${text}” is no time: use now, now-6h, now/d, or a time such as 2026-11-29 14:30`,
    );
  }
  let time = nowMs;
  for (const [, sign = "", unit = "s"] of (relative[1] ?? "").matchAll(TERM)) {
    if (sign === "/") {
      time = startOf(time, unit);
      if (roundsUp) time = add(time, 1, unit) - 1;
    } else {
      const count = sign.length > 1 ? Number(sign) : sign === "-" ? -1 : 1;
      time = add(time, count, unit);
    }
  }
  return time;
}

function add(ms: number, count: number, unit: string): number {
  if (unit in UNITS && !"dw".includes(unit)) return ms + count * (UNITS[unit] ?? 0);
  const date = wallClock(ms);
  if (unit === "d" || unit === "w") date.setUTCDate(date.getUTCDate() + count * (unit === "w" ? 7 : 1));
  else addMonths(date, count * (unit === "y" ? 12 : unit === "Q" ? 3 : 1));
  return timeOfWall(date);
}

/** A month before 31 March is the last day of February: what has no such day ends with its last one. */
function addMonths(date: Date, count: number): void {
  const day = date.getUTCDate();
  date.setUTCMonth(date.getUTCMonth() + count, 1);
  const last = new Date(date);
  last.setUTCMonth(last.getUTCMonth() + 1, 0);
  date.setUTCDate(Math.min(day, last.getUTCDate()));
}

function startOf(ms: number, unit: string): number {
  const date = wallClock(ms);
  if (unit === "s") date.setUTCMilliseconds(0);
  else if (unit === "m") date.setUTCSeconds(0, 0);
  else if (unit === "h") date.setUTCMinutes(0, 0, 0);
  else {
    date.setUTCHours(0, 0, 0, 0);
    const first = defaultRange.peek().firstWeekday ?? 1;
    if (unit === "w") date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() - first + 7) % 7));
    if (unit === "M") date.setUTCDate(1);
    if (unit === "Q") date.setUTCMonth(date.getUTCMonth() - (date.getUTCMonth() % 3), 1);
    if (unit === "y") date.setUTCMonth(0, 1);
  }
  return timeOfWall(date);
}

/** When `now` was last read; a new value makes views ask again. */
const readAtMs = signal(Date.now());

/** Ask again, with the current time as `now`. */
export function reload(): void {
  readAtMs.value = Math.max(Date.now(), readAtMs.peek() + 1);
}

function resolve(fromText: TimeText, toText: TimeText, nowMs: number): TimeRange {
  try {
    const start = parseTime(fromText, nowMs) / 1000;
    const end = parseTime(toText, nowMs, true) / 1000;
    if (end > start) return { start, end };
  } catch {
    // An address that somebody has edited; the picker refuses such input with the reason.
  }
  return { start: nowMs / 1000 - 3600, end: nowMs / 1000 };
}

/** The range as times. It changes with the address, with `reload` and with each refresh. */
export const range = computed<TimeRange>(() =>
  resolve(from.value, to.value, readAtMs.value - (defaultRange.value.nowDelayMs ?? 0)),
);

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
  if (to.peek() === "now") setRange(`now-${formatDurationMs(Math.round(2 * length) * 1000)}`, "now");
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
  if (refreshMs.value) timer = window.setInterval(() => document.hidden || reload(), refreshMs.value);
});
document.addEventListener("visibilitychange", () => {
  const everyMs = refreshMs.peek();
  if (!document.hidden && everyMs && Date.now() - readAtMs.peek() > everyMs) reload();
});
