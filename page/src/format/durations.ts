/** Durations as Prometheus writes them. */
const UNITS: [string, number][] = [
  ["y", 365 * 86_400_000],
  ["w", 7 * 86_400_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
];
const WHOLE = /^(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m(?!s))?(?:\d+s)?(?:\d+ms)?$/;

/** Milliseconds of `1h30m`, or of a number of seconds; null for other texts. */
export function parseDurationMs(text: string): number | null {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000;
  if (!trimmed || !WHOLE.test(trimmed)) return null;
  let total = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+)(ms|[ywdhms])/g)) {
    total += Number(count) * (UNITS.find(([name]) => name === unit)?.[1] ?? 0);
  }
  return total;
}

/** `1h30m` of milliseconds; exact, as Prometheus writes it. */
export function formatDurationMs(ms: number): string {
  if (!ms) return "0s";
  let rest = Math.round(ms);
  let text = "";
  for (const [name, size] of UNITS) {
    // As Prometheus does: years and weeks only where nothing smaller is left.
    const isWhole = rest % size === 0;
    if ((name === "y" || name === "w") && !isWhole) continue;
    const count = Math.floor(rest / size);
    if (count) text += `${count}${name}`;
    rest -= count * size;
  }
  return text;
}

/** For people, in the two largest units: `3 d 4 h`, `12.3 s`, `45 ms`. Seconds may be negative. */
export function formatSeconds(seconds: number): string {
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "−" : "";
  if (size === 0) return "0 s";
  if (size < 1e-6) return `${sign}${round(size * 1e9)} ns`;
  if (size < 1e-3) return `${sign}${round(size * 1e6)} µs`;
  if (size < 1) return `${sign}${round(size * 1e3)} ms`;
  if (size < 60) return `${sign}${round(size)} s`;
  const units: [string, number][] = [
    ["y", 365 * 86_400],
    ["d", 86_400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, length]) => size >= length);
  const [name, length] = units[first] ?? ["s", 1];
  const count = Math.floor(size / length);
  const next = units[first + 1];
  const rest = next ? Math.floor((size - count * length) / next[1]) : 0;
  return `${sign}${count} ${name}${next && rest ? ` ${rest} ${next[0]}` : ""}`;
}

function round(value: number): string {
  return String(Number(value.toPrecision(3)));
}
