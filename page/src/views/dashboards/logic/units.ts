/** Values with the units of dashboards, written exactly as Grafana writes them. */
import { wallClock } from "../../../time/zone";

export interface Formatted {
  prefix: string;
  text: string;
  suffix: string;
}

type Formatter = (value: number, decimals: number | undefined) => Formatted;

const parts = (text: string, suffix = "", prefix = ""): Formatted => ({ prefix, text, suffix });

/** Three significant digits unless `decimals` says otherwise; whole numbers have none. */
export function fixed(value: number, decimals?: number): string {
  if (value === 0) return (0).toFixed(Math.min(Math.max(decimals ?? 0, 0), 20));
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const wanted = decimals ?? autoDecimals(value);
  // So many zeros say nothing, and have no room.
  if (decimals === undefined && wanted > 20) return String(Number(value.toPrecision(3)));
  const digits = Math.min(Math.max(wanted, 0), 20);
  const factor = 10 ** digits;
  const rounded = Math.round(value * factor) / factor;
  const text = String(rounded);
  if (text.includes("e")) return text;
  const missing = digits - (text.split(".")[1]?.length ?? 0);
  return missing > 0 ? `${text}${text.includes(".") ? "" : "."}${"0".repeat(missing)}` : text;
}

function autoDecimals(value: number): number {
  if (Number.isInteger(value)) return 0;
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  return Math.max(0, 2 - exponent);
}

function scaledBy(factor: number, names: readonly string[], offset = 0, firstAt = 0): Formatter {
  return (value, decimals) => {
    if (!Number.isFinite(value)) return parts(fixed(value, decimals), names[firstAt + offset] ?? "");
    const exponent = value === 0 ? 0 : Math.floor(Math.log(Math.abs(value)) / Math.log(factor) + 1e-12);
    const index = Math.min(Math.max(firstAt + offset + exponent, 0), names.length - 1);
    const shown = value / factor ** (index - firstAt - offset);
    return parts(fixed(shown, decimals), names[index] ?? "");
  };
}

const PREFIXES = ["f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SHORT = ["", " K", " Mil", " Bil", " Tri", " Quadr", " Quint", " Sext", " Sept"];
const COUNT = ["", "K", "M", "B", "T"];

const si = (unit: string, offset = 0): Formatter =>
  scaledBy(1000, PREFIXES.map((prefix) => ` ${prefix}${unit}`), offset, 5);
const iec = (unit: string, offset = 0): Formatter =>
  scaledBy(1024, BINARY.map((prefix) => ` ${prefix}${unit}`), offset);
const count = (unit: string): Formatter =>
  scaledBy(1000, COUNT.map((name) => (unit ? `${name} ${unit}` : name)));
const plain = (suffix = ""): Formatter => (value, decimals) => parts(fixed(value, decimals), suffix);

function currency(symbol: string, isBehind = false): Formatter {
  const scale = scaledBy(1000, COUNT);
  return (value, decimals) => {
    const { text, suffix } = scale(Math.abs(value), decimals);
    const sign = value < 0 ? "-" : "";
    return isBehind ? parts(sign + text, `${suffix}${symbol}`) : parts(text, suffix, sign + symbol);
  };
}

interface TimeUnit {
  name: string;
  seconds: number;
  /** The number from which the next unit is used. */
  until: number;
  hasPlural?: boolean;
}
const TIMES: readonly TimeUnit[] = [
  { name: "ns", seconds: 1e-9, until: 1e-6 },
  { name: "µs", seconds: 1e-6, until: 1e-3 },
  { name: "ms", seconds: 1e-3, until: 1 },
  { name: "s", seconds: 1, until: 60 },
  { name: "min", seconds: 60, until: 3600, hasPlural: true },
  { name: "hour", seconds: 3600, until: 86_400, hasPlural: true },
  { name: "day", seconds: 86_400, until: 604_800, hasPlural: true },
  { name: "week", seconds: 604_800, until: 31_536_000, hasPlural: true },
  { name: "year", seconds: 31_556_900, until: Infinity, hasPlural: true },
];
const YEARS_FROM: TimeUnit = { name: "year", seconds: 31_536_000, until: Infinity, hasPlural: true };

/** `names` are the units it goes through, from small to large. */
function time(unitSeconds: number, names: readonly string[], year = TIMES.at(-1) ?? YEARS_FROM): Formatter {
  const units = TIMES.filter(({ name }) => names.includes(name)).map((unit) => (unit.name === "year" ? year : unit));
  return (value, decimals) => {
    const seconds = value * unitSeconds;
    const size = Math.abs(seconds);
    const own = units.find((unit) => unit.seconds === unitSeconds) ?? units[0];
    const found = value === 0 ? own : (units.find((unit) => size < untilOf(units, unit)) ?? units.at(-1));
    if (!found) return parts(fixed(value, decimals));
    const shown = Number.isFinite(value) ? seconds / found.seconds : value;
    const plural = found.hasPlural && Math.abs(shown) > 1 ? "s" : "";
    return parts(fixed(shown, decimals), ` ${found.name}${plural}`);
  };
}

function untilOf(units: readonly TimeUnit[], unit: TimeUnit): number {
  const next = units[units.indexOf(unit) + 1];
  if (!next) return Infinity;
  return next.name === "year" ? 31_536_000 : next.seconds;
}

const WORDS: readonly [string, number][] = [
  ["year", 31_536_000], ["month", 2_592_000], ["week", 604_800], ["day", 86_400], ["hour", 3600],
  ["minute", 60], ["second", 1], ["millisecond", 0.001],
];

/** `3 hours, 25 minutes`: the largest unit and `decimals` more. */
function words(unitSeconds: number): Formatter {
  return (value, decimals) => {
    if (!Number.isFinite(value)) return parts(fixed(value, decimals));
    let rest = Math.abs(value) * unitSeconds;
    const found: string[] = [];
    for (const [name, size] of WORDS) {
      if (found.length > (decimals ?? 0)) break;
      const number = Math.floor(rest / size + 1e-9);
      if (!found.length && !number) continue;
      rest -= number * size;
      if (number) found.push(`${number} ${name}${number === 1 ? "" : "s"}`);
      else if (found.length) decimals = (decimals ?? 0) - 1;
    }
    const text = found.join(", ") || "0 milliseconds";
    return parts(value < 0 ? `${text} ago` : text);
  };
}

/** `12s:345ms` of milliseconds; hours and minutes where there are any. */
function clock(unitMs: number): Formatter {
  return (value) => {
    const ms = Math.floor(Math.abs(value) * unitMs);
    const pieces: [number, string][] = [
      [Math.floor(ms / 3_600_000), "h"], [Math.floor(ms / 60_000) % 60, "m"],
      [Math.floor(ms / 1000) % 60, "s"], [ms % 1000, "ms"],
    ];
    const first = pieces.findIndex(([number]) => number > 0);
    const width = (unit: string) => (unit === "ms" ? 3 : 2);
    return parts(
      pieces.slice(first < 0 ? 3 : first).map(([number, unit]) => String(number).padStart(width(unit), "0") + unit).join(":"),
    );
  };
}

const bool = (yes: string, no: string): Formatter => (value) => parts(value ? yes : no);

function ago(value: number): Formatted {
  const seconds = (Date.now() - value) / 1000;
  const units: [number, string][] = [[31_536_000, "year"], [2_592_000, "month"], [86_400, "day"], [3600, "hour"], [60, "minute"]];
  const [size, name] = units.find(([length]) => Math.abs(seconds) >= length) ?? [1, "second"];
  const number = Math.round(Math.abs(seconds) / size);
  const text = `${number} ${name}${number === 1 ? "" : "s"}`;
  return parts(seconds < 0 ? `in ${text}` : `${text} ago`);
}

/** A time (Unix ms) by a pattern of Moment: `YYYY-MM-DD HH:mm:ss`, `MMM D, h:mm a`. */
export function formatDate(ms: number, pattern: string, isUtc = false): string {
  const date = isUtc ? new Date(ms) : wallClock(ms);
  if (Number.isNaN(date.getTime())) return "Invalid date";
  const [month = "", weekday = ""] = [
    date.toLocaleString("en", { month: "long", timeZone: "UTC" }),
    date.toLocaleString("en", { weekday: "long", timeZone: "UTC" }),
  ];
  const pad = (number: number, width = 2) => String(number).padStart(width, "0");
  const hour = date.getUTCHours();
  const known: Record<string, string> = {
    YYYY: pad(date.getUTCFullYear(), 4), YY: pad(date.getUTCFullYear() % 100), MMMM: month, MMM: month.slice(0, 3),
    MM: pad(date.getUTCMonth() + 1), M: String(date.getUTCMonth() + 1), DD: pad(date.getUTCDate()), D: String(date.getUTCDate()),
    dddd: weekday, ddd: weekday.slice(0, 3), HH: pad(hour), H: String(hour), hh: pad(hour % 12 || 12), h: String(hour % 12 || 12),
    mm: pad(date.getUTCMinutes()), m: String(date.getUTCMinutes()), ss: pad(date.getUTCSeconds()), s: String(date.getUTCSeconds()),
    SSS: pad(date.getUTCMilliseconds(), 3), a: hour < 12 ? "am" : "pm", A: hour < 12 ? "AM" : "PM", X: String(Math.floor(ms / 1000)), x: String(ms),
  };
  return pattern.replace(/\[([^\]]*)\]|YYYY|YY|MMMM|MMM|MM|M|DD|D|dddd|ddd|HH|H|hh|h|mm|m|ss|s|SSS|a|A|X|x/g,
    (token, literal: string | undefined) => literal ?? known[token] ?? token);
}

const date = (pattern: string): Formatter => (value) => parts(formatDate(value, pattern));
const UNTIL_YEAR = ["min", "hour", "day", "week", "year"];
const FORMATS: Record<string, Formatter> = {
  none: plain(), "": plain(), short: scaledBy(1000, SHORT), percent: plain("%"),
  percentunit: (value, decimals) => parts(fixed(value * 100, decimals), "%"),
  humidity: plain(" %H"), dB: plain(" dB"), dBm: plain(" dBm"), hex: (value) => parts(Math.round(value).toString(16).toUpperCase()),
  hex0x: (value) => parts(`0x${Math.round(value).toString(16).toUpperCase()}`), sci: (value, decimals) => parts(value.toExponential(decimals === undefined ? undefined : Math.min(Math.max(decimals, 0), 20))),
  s: time(1, ["ns", "µs", "ms", "s", ...UNTIL_YEAR]),
  ms: time(1e-3, ["ms", "s", "min", "hour", "day", "year"], YEARS_FROM),
  µs: time(1e-6, ["µs", "ms", "s"]), us: time(1e-6, ["µs", "ms", "s"]),
  ns: time(1e-9, ["ns", "µs", "ms", "s", "min", "hour", "day"]),
  m: time(60, ["min", "hour", "day", "week", "year"]), h: time(3600, ["hour", "day", "week", "year"]), d: time(86_400, ["day", "week", "year"]),
  dtdurations: words(1), dtdurationms: words(1e-3), clockms: clock(1), clocks: clock(1000), timeticks: (value, decimals) => time(1, ["ns", "µs", "ms", "s", ...UNTIL_YEAR])(value / 100, decimals),
  bytes: iec("B"), kbytes: iec("B", 1), mbytes: iec("B", 2), gbytes: iec("B", 3), tbytes: iec("B", 4), bits: iec("b"),
  decbytes: si("B"), deckbytes: si("B", 1), decmbytes: si("B", 2), decgbytes: si("B", 3), dectbytes: si("B", 4), decbits: si("b"),
  binBps: iec("B/s"), binbps: iec("b/s"), Bps: si("B/s"), bps: si("b/s"), KBs: si("B/s", 1), MBs: si("B/s", 2), GBs: si("B/s", 3), Kbits: si("b/s", 1), Mbits: si("b/s", 2), Gbits: si("b/s", 3),
  KiBs: iec("B/s", 1), MiBs: iec("B/s", 2), GiBs: iec("B/s", 3), pps: si("p/s"),
  hertz: si("Hz"), watt: si("W"), kwatt: si("W", 1), watth: si("Wh"), joule: si("J"), volt: si("V"), amp: si("A"), ohm: si("Ω"), farad: si("F"), lengthm: si("m"), massg: si("g"), pressurepa: si("Pa"),
  ops: count("ops/s"), reqps: count("req/s"), rps: count("rd/s"), wps: count("wr/s"), iops: count("io/s"), eps: count("evt/s"), mps: count("msg/s"), recps: count("rec/s"), rowsps: count("rows/s"), cps: count("c/s"),
  opm: count("ops/m"), reqpm: count("req/m"), rpm: count("rd/m"), wpm: count("wr/m"), cpm: count("c/m"), epm: count("evt/m"), mpm: count("msg/m"), recpm: count("rec/m"),
  celsius: plain(" °C"), fahrenheit: plain(" °F"), kelvin: plain(" K"), rotrpm: plain(" rpm"), degree: plain("°"), ppm: plain(" ppm"),
  locale: (value) => parts(value.toLocaleString("en", { maximumFractionDigits: 3 })),
  currencyUSD: currency("$"), currencyEUR: currency("€"), currencyGBP: currency("£"), currencyJPY: currency("¥"), currencyCHF: currency("CHF"),
  dateTimeAsIso: date("YYYY-MM-DD HH:mm:ss"), dateTimeAsIsoNoDateIfToday: date("YYYY-MM-DD HH:mm:ss"), dateTimeAsUS: date("MM/DD/YYYY h:mm:ss a"), dateTimeAsLocal: date("YYYY-MM-DD HH:mm:ss"), dateTimeAsSystem: date("YYYY-MM-DD HH:mm:ss"), dateTimeFromNow: ago,
  bool: bool("True", "False"), bool_yes_no: bool("Yes", "No"), bool_on_off: bool("On", "Off"),
};
FORMATS["dBm"] = plain(" dbm");

/** Custom units: `suffix:x`, `prefix:x`, `si:x`, `count:x`, `currency:x`, `bool:yes/no`, `time:pattern`. */
function custom(unit: string): Formatter | undefined {
  const at = unit.indexOf(":");
  const [kind, rest] = [unit.slice(0, at), unit.slice(at + 1)];
  switch (at > 0 ? kind : "") {
    case "suffix": return plain(rest);
    case "prefix": return (value, decimals) => parts(fixed(value, decimals), "", rest);
    case "time": return date(rest.replace(/^ /, ""));
    case "count": return count(rest);
    case "currency": return currency(rest);
    case "bool": {
      const [yes = "true", no = "false"] = rest.split("/");
      return bool(yes, no);
    }
    case "si": {
      const offset = rest.length > 1 ? PREFIXES.indexOf(rest[0] ?? "") - 5 : -6;
      return offset > -6 && offset !== 0 ? si(rest.slice(1), offset) : si(rest);
    }
    default: return undefined;
  }
}

/** A number with its unit, in pieces. */
export function formatUnit(value: number, unit = "", decimals?: number): Formatted {
  if (unit === "string") return parts(String(value));
  const format = FORMATS[unit] ?? custom(unit);
  // Any other text is written behind the number.
  return format ? format(value, decimals) : parts(fixed(value, decimals), ` ${unit}`);
}

export function unitText(value: number, unit = "", decimals?: number): string {
  const { prefix, text, suffix } = formatUnit(value, unit, decimals);
  return `${prefix}${text}${suffix}`;
}

export function isBinary(unit = ""): boolean {
  return /^(bytes|kbytes|mbytes|gbytes|tbytes|bits|binBps|binbps|KiBs|MiBs|GiBs)$/.test(unit);
}
