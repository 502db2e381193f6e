/** Times in the zone in use, with 24 hours. */
import { computed } from "@preact/signals";
import { wallClock, zone } from "../time/zone";

const DATE = computed(() => new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeZone: zone.value }));
const TIME = computed(() => new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium", timeZone: zone.value }));

/** `2026-11-29 14:30:05`, with milliseconds where there are any. Unix seconds. */
export function formatTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  const ms = Math.round(seconds * 1000) % 1000;
  const rest = ms ? `.${String(Math.abs(ms)).padStart(3, "0")}` : "";
  return `${DATE.value.format(date)} ${TIME.value.format(date)}${rest}`;
}

/** `14:30:05` for today, else with the date. */
export function formatShortTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  return DATE.value.format(date) === DATE.value.format(new Date())
    ? TIME.value.format(date)
    : `${DATE.value.format(date)} ${TIME.value.format(date).slice(0, 5)}`;
}

/** For uPlot, which reads the local fields of the date that it gets: those of a clock of the zone. */
export function plotDate(seconds: number): Date {
  if (zone.value === undefined) return new Date(seconds * 1000);
  const wall = wallClock(seconds * 1000);
  return new Date(
    wall.getUTCFullYear(), wall.getUTCMonth(), wall.getUTCDate(),
    wall.getUTCHours(), wall.getUTCMinutes(), wall.getUTCSeconds(), wall.getUTCMilliseconds(),
  );
}

/** `5 min ago`, `in 2 h`. Unix seconds. */
export function formatAgo(seconds: number, now = Date.now() / 1000): string {
  const formatter = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
  const difference = seconds - now;
  const units: [Intl.RelativeTimeFormatUnit, number][] = [
    ["day", 86_400],
    ["hour", 3600],
    ["minute", 60],
  ];
  const [unit, size] = units.find(([, length]) => Math.abs(difference) >= length) ?? ["second", 1];
  return formatter.format(Math.round(difference / size), unit);
}
