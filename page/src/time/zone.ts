/** The time zone in which times are read and written: the browser's, unless a dashboard has another. */
import { signal } from "@preact/signals";

/** A name of IANA, or `undefined`: the browser's. */
export const zone = signal<string | undefined>(undefined);

/** Use the zone of a dashboard (`browser`, `utc`, or a name); one that is not known is the browser's. */
export function setZone(name = "browser"): void {
  try {
    zone.value = name === "browser" || !name ? undefined : new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    zone.value = undefined;
  }
}

const formats = new Map<string, Intl.DateTimeFormat>();

function wallFormat(name: string): Intl.DateTimeFormat {
  let format = formats.get(name);
  if (!format) {
    format = new Intl.DateTimeFormat("en", {
      timeZone: name, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric",
      hour: "numeric", minute: "numeric", second: "numeric",
    });
    formats.set(name, format);
  }
  return format;
}

/** How far the zone is ahead of UTC at a time, in ms. */
export function zoneOffset(ms: number): number {
  const name = zone.value;
  if (name === undefined) return -new Date(ms).getTimezoneOffset() * 60_000;
  if (!Number.isFinite(ms)) return 0;
  const found: Record<string, number> = {};
  for (const { type, value } of wallFormat(name).formatToParts(ms)) found[type] = Number(value);
  const { year = 0, month = 1, day, hour, minute, second } = found;
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(ms / 1000) * 1000;
}

/** A date whose UTC fields are what a clock of the zone shows at a time. */
export function wallClock(ms: number): Date {
  return new Date(ms + zoneOffset(ms));
}

/**
 * The time at which a clock of the zone shows what the UTC fields of `wall` are: of two such times the
 * first one; where the clock leaves that out, as much later as it is put forward.
 */
export function timeOfWall(wall: Date): number {
  const ms = wall.getTime();
  // Those before and after a change of the clock, if one is near.
  const [before, after] = [zoneOffset(ms - DAY_MS), zoneOffset(ms + DAY_MS)];
  const found = [before, after].map((offset) => ms - offset).filter((time) => zoneOffset(time) === ms - time);
  return found.length ? Math.min(...found) : ms - before;
}

const DAY_MS = 86_400_000;
