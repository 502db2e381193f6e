/**
 * Numbers with their units. Names of units are Grafana's ids (`bytes`, `percentunit`, `reqps`),
 * which dashboards use; any other name is written behind the number.
 */
import { formatSeconds } from "./durations";

const SI: [number, string][] = [
  [1e24, "Y"],
  [1e21, "Z"],
  [1e18, "E"],
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];
const IEC: [number, string][] = [
  [2 ** 60, "Ei"],
  [2 ** 50, "Pi"],
  [2 ** 40, "Ti"],
  [2 ** 30, "Gi"],
  [2 ** 20, "Mi"],
  [2 ** 10, "Ki"],
];

/** `decimals`: fixed; without it, as many as four significant digits have. */
export function formatNumber(value: number, decimals?: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (decimals !== undefined) return withMinus(value.toFixed(Math.max(0, decimals)));
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e21)) return withMinus(value.toExponential(3));
  return withMinus(String(Number(value.toPrecision(size >= 1000 ? 6 : 4))));
}

function withMinus(text: string): string {
  return text.replace(/^-/, "−");
}

function scaled(value: number, table: [number, string][], unit: string, decimals?: number): string {
  const size = Math.abs(value);
  // Beyond the largest prefix there is none: the number has an exponent.
  const found = Number.isFinite(value) && size < (table[0]?.[0] ?? 1) * 1e6 ? table.find(([factor]) => size >= factor) : undefined;
  const number = formatNumber(found ? value / found[0] : value, decimals);
  const suffix = `${found?.[1] ?? ""}${unit}`;
  return suffix ? `${number} ${suffix}` : number;
}

type Formatter = (value: number, decimals?: number) => string;

const plain: Formatter = (value, decimals) => formatNumber(value, decimals);
const si =
  (unit: string): Formatter =>
  (value, decimals) =>
    scaled(value, SI, unit, decimals);
const iec =
  (unit: string): Formatter =>
  (value, decimals) =>
    scaled(value, IEC, unit, decimals);
const seconds =
  (factor: number): Formatter =>
  (value) =>
    Number.isFinite(value) ? formatSeconds(value * factor) : formatNumber(value);
const behind =
  (unit: string): Formatter =>
  (value, decimals) =>
    `${formatNumber(value, decimals)}${unit}`;

/** Every unit that is more than a word behind the number; other modules may add to it. */
export const UNIT_FORMATS: Record<string, Formatter> = {
  none: plain,
  short: si(""),
  percent: behind(" %"),
  percentunit: (value, decimals) => `${formatNumber(value * 100, decimals)} %`,
  bytes: iec("B"),
  decbytes: si("B"),
  bits: iec("b"),
  decbits: si("b"),
  Bps: si("B/s"),
  binBps: iec("B/s"),
  bps: si("b/s"),
  binbps: iec("b/s"),
  pps: si("p/s"),
  ops: si("ops/s"),
  reqps: si("req/s"),
  rps: si("reads/s"),
  wps: si("writes/s"),
  iops: si("io/s"),
  cps: si("/s"),
  eps: si("events/s"),
  s: seconds(1),
  ms: seconds(1e-3),
  µs: seconds(1e-6),
  ns: seconds(1e-9),
  m: seconds(60),
  h: seconds(3600),
  d: seconds(86_400),
  hertz: si("Hz"),
  celsius: behind(" °C"),
  rotrpm: behind(" rpm"),
  volt: si("V"),
  watt: si("W"),
};

/** Whether a unit's prefixes are powers of 1024. */
export function isBinary(unit: string | undefined): boolean {
  return unit !== undefined && ["bytes", "bits", "binBps", "binbps"].includes(unit);
}

/** A value for people; null, a missing one, is an en dash. */
export function formatValue(value: number | null | undefined, unit = "", decimals?: number): string {
  if (value === null || value === undefined) return "–";
  const format = UNIT_FORMATS[unit || "short"];
  return format ? format(value, decimals) : `${formatNumber(value, decimals)} ${unit}`;
}

/** The unit that the name of a metric ends with, by the conventions of Prometheus; "" for none. */
export function unitOfName(name: string): string {
  const base = name.replace(/_(total|sum|bucket|max|min|avg)$/, "");
  if (base.endsWith("_bytes")) return "bytes";
  if (base.endsWith("_seconds")) return "s";
  if (base.endsWith("_ratio")) return "percentunit";
  if (base.endsWith("_percent")) return "percent";
  if (base.endsWith("_celsius")) return "celsius";
  if (base.endsWith("_volts")) return "volt";
  if (base.endsWith("_hertz")) return "hertz";
  return "";
}

/** The number of a text of the Prometheus API, which writes `+Inf`, `-Inf` and `NaN`. */
export function numberOf(text: string): number {
  return Number(text.replace(/Inf$/, "Infinity"));
}

/** `1,234` */
export function formatCount(value: number): string {
  return value.toLocaleString("en");
}
