/** Times in the browser's zone, with 24 hours. */
const DATE = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short" });
const TIME = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });

/** `2026-11-29 14:30:05`, with milliseconds where there are any. Unix seconds. */
export function formatTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  const ms = Math.round(seconds * 1000) % 1000;
  const rest = ms ? `.${String(Math.abs(ms)).padStart(3, "0")}` : "";
  return `${DATE.format(date)} ${TIME.format(date)}${rest}`;
}

/** `14:30:05` for today, else with the date. */
export function formatShortTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  return date.toDateString() === new Date().toDateString()
    ? TIME.format(date)
    : `${DATE.format(date)} ${TIME.format(date).slice(0, 5)}`;
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
