/** Names of fields, the settings that overrides give them, and values as they are shown. */
import { colorOf, namedColor } from "./colors";
import { formatSeries } from "../../../format/series";
import { reduceValues } from "./reducers";
import type { Color, Field, FieldSettings, Frame, Mapping, Matcher, Override, Value } from "./types";
import { formatUnit } from "./units";

/** The name that is shown, that overrides and transformations refer to. */
export function displayName(field: Field, frame?: Frame): string {
  const own = field.settings.display_name;
  if (own) return own.replace(/\$\{__field\.labels\.([^}]+)\}|\$\{__field\.labels\["([^"]+)"\]\}|\$\{__(?:series|field)\.(?:name|displayName)\}/g,
    (_, name: string | undefined, other: string | undefined) => {
      const label = name ?? other;
      return label ? (field.labels?.[label] ?? "") : plainName(field, frame);
    });
  return plainName(field, frame);
}

function plainName(field: Field, frame?: Frame): string {
  if (field.legendName) return field.legendName;
  if (field.labels && Object.keys(field.labels).length) {
    if (frame?.format === "time_series" && field.name === "Value") return formatSeries(field.labels);
    return `${field.name} ${formatSeries(field.labels)}`;
  }
  return field.name;
}

/** A regular expression of a matcher: between slashes it may match a part, else the whole. */
export function patternOf(text: string): RegExp | null {
  const slashed = /^\/(.*)\/([gimsuy]*)$/s.exec(text);
  try {
    return slashed ? new RegExp(slashed[1] ?? "", (slashed[2] ?? "").replace("g", "")) : new RegExp(`^${text}$`);
  } catch {
    return null;
  }
}

function compare(value: number, operator: string, operand: number): boolean {
  switch (operator) {
    case "lt": return value < operand;
    case "lte": return value <= operand;
    case "gt": return value > operand;
    case "eq": return value === operand;
    case "neq": return value !== operand;
    default: return value >= operand;
  }
}

function isNamed(field: Field, frame: Frame, name: string): boolean {
  if (field.name === name || displayName(field, frame) === name) return true;
  if (name === "Value" && field.type === "number" && frame.format === "time_series") return true;
  return name === "Time" && field.type === "time";
}

export function matches(matcher: Matcher, field: Field, frame: Frame): boolean {
  switch (matcher.by) {
    case "name": return isNamed(field, frame, matcher.name ?? "");
    case "names": {
      const isIn = (matcher.names ?? []).includes(displayName(field, frame));
      return matcher.exclude ? !isIn && field.type !== "time" : isIn;
    }
    case "regexp": return patternOf(matcher.name ?? "")?.test(displayName(field, frame)) ?? false;
    case "query": return frame.ref === matcher.name;
    case "type": return field.type === matcher.name;
    case "value": {
      if (field.type !== "number") return false;
      const found = reduceValues(field.values, matcher.calc ?? "");
      return typeof found === "number" && compare(found, matcher.operator ?? "gte", matcher.operand ?? 0);
    }
  }
}

/** The frames with the settings of the panel: the defaults, then its overrides in order. */
export function withSettings(frames: Frame[], defaults: FieldSettings = {}, overrides: Override[] = []): Frame[] {
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => {
      const base = field.type === "time" ? {} : defaults;
      // By the name before any override, as a new name does not change what matches.
      const chosen = overrides.filter(({ matcher }) => matches(matcher, { ...field, settings: { ...field.settings, ...base } }, frame));
      return { ...field, settings: Object.assign({}, field.settings, base, ...chosen.map(({ settings }) => settings)) as FieldSettings };
    }),
  }));
}

export interface Limits {
  min: number;
  max: number;
}

/** The limits of all numbers of a panel, which each of its fields asks for. */
const known = new WeakMap<Frame[], Limits>();

function extremes(fields: Field[]): Limits {
  let [min, max] = [Infinity, -Infinity];
  for (const { type, values } of fields) {
    if (type !== "number") continue;
    for (const value of values) {
      if (typeof value !== "number" || !Number.isFinite(value)) continue;
      if (value < min) min = value;
      if (value > max) max = value;
    }
  }
  return min > max ? { min: 0, max: 100 } : { min, max };
}

/** Min and max of a field: its own, else those of all numbers of the panel. */
export function limitsOf(field: Field, frames: Frame[]): Limits {
  const { min, max, own_range } = field.settings;
  if (min !== undefined && max !== undefined) return { min, max };
  let shared = own_range ? extremes([field]) : known.get(frames);
  if (!shared) {
    shared = extremes(frames.flatMap(({ fields }) => fields));
    known.set(frames, shared);
  }
  const found = { min: min ?? shared.min, max: max ?? shared.max };
  return found.min === found.max ? { min: found.min, max: found.min + 1 } : found;
}

export interface Shown {
  text: string;
  prefix: string;
  suffix: string;
  color: string;
  number: number | null;
  isMapped: boolean;
}

function mapped(value: Value, mappings: readonly Mapping[]): { text: string | undefined; color: string | undefined } | null {
  for (const mapping of mappings) {
    const result = { text: mapping.text, color: mapping.color };
    if (mapping.kind === "value" && value !== null && String(value) === mapping.match) return result;
    if (mapping.kind === "range" && typeof value === "number") {
      if (value >= (mapping.start ?? -Infinity) && value <= (mapping.end ?? Infinity)) return result;
    }
    if (mapping.kind === "special" && isSpecial(value, mapping.match ?? "null")) return result;
    if (mapping.kind === "regex" && typeof value === "string") {
      const pattern = patternOf(mapping.match ?? "");
      if (pattern?.test(value)) return { ...result, text: value.replace(pattern, mapping.text ?? value) };
    }
  }
  return null;
}

function isSpecial(value: Value, match: string): boolean {
  const isNaN = typeof value === "number" && Number.isNaN(value);
  switch (match) {
    case "null": return value === null;
    case "nan": return isNaN;
    case "null+nan": return value === null || isNaN;
    case "empty": return value === "";
    default: return String(value) === match;
  }
}

/** A value of a field as it is shown, with its colour. */
export function shown(
  value: Value, settings: FieldSettings, limits: Limits, isDark: boolean,
  fallback: Color = { mode: "thresholds" }, index = 0,
): Shown {
  const number = typeof value === "number" && !Number.isNaN(value) ? value : null;
  const found = mapped(value, settings.mappings ?? []);
  const color = found?.color ? namedColor(found.color, isDark) : colorOf(settings, fallback, number, index, limits, isDark);
  const base = { color, number, prefix: "", suffix: "" };
  // A mapped text has neither unit nor decimals.
  if (found?.text !== undefined) return { ...base, text: found.text, isMapped: true };
  if (value === null) return { ...base, text: settings.no_value ?? "", isMapped: false };
  if (typeof value === "string") {
    const parsed = settings.unit && settings.unit !== "string" && value.trim() !== "" ? Number(value) : Number.NaN;
    if (Number.isNaN(parsed)) return { ...base, text: value, isMapped: false };
    return { ...base, ...formatUnit(parsed, settings.unit, settings.decimals), isMapped: false };
  }
  return { ...base, ...formatUnit(value, settings.unit, settings.decimals), isMapped: false };
}
