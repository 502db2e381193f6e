/** Times as texts: `now`, `now-1h`, `now/d`, Unix milliseconds, ISO 8601. */
import { timeOfWall, wallClock } from "./zone";

/** An end of a range: `now`, `now-1h`, or Unix milliseconds as text. */
export type TimeText = string;

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
 * and longer units are those of the zone in use; weeks begin with `firstWeekday`, 0 for Sunday.
 *
 * Throws RangeError with what is accepted.
 */
export function parseTime(text: TimeText, nowMs: number, roundsUp = false, firstWeekday = 1): number {
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
      time = startOf(time, unit, firstWeekday);
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

function startOf(ms: number, unit: string, firstWeekday: number): number {
  const date = wallClock(ms);
  const size = UNITS[unit];
  // Not by the clock of the zone, which shows the hour before its change twice.
  if (size && !"dw".includes(unit)) return ms - (((date.getTime() % size) + size) % size);
  date.setUTCHours(0, 0, 0, 0);
  if (unit === "w") date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() - firstWeekday + 7) % 7));
  if (unit === "M") date.setUTCDate(1);
  if (unit === "Q") date.setUTCMonth(date.getUTCMonth() - (date.getUTCMonth() % 3), 1);
  if (unit === "y") date.setUTCMonth(0, 1);
  return timeOfWall(date);
}

/** `now-90m`: so many milliseconds before now, in whole seconds and one unit, as a time has one for each sign. */
export function timeBefore(ms: number): TimeText {
  const seconds = Math.max(Math.round(ms / 1000), 1);
  const unit = ["w", "d", "h", "m"].find((name) => (seconds * 1000) % (UNITS[name] ?? 1) === 0) ?? "s";
  return `now-${(seconds * 1000) / (UNITS[unit] ?? 1000)}${unit}`;
}
