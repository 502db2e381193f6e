/** Single values of fields, for stat, gauge, bar gauge and pie. */
import { displayName, limitsOf, patternOf, shown, type Limits, type Shown } from "./fields";
import { reduceValues, reducerTitle } from "./reducers";
import type { Field, Frame, Reduce, Value } from "./types";

export interface SingleValue {
  name: string;
  value: Value;
  shown: Shown;
  limits: Limits;
  field: Field;
  /** The samples, for a sparkline: Unix ms. */
  times: number[];
  values: Value[];
}

const DEFAULT_LIMIT = 25;

function isChosen(field: Field, frame: Frame, pattern: string): boolean {
  if (field.type === "time" && pattern !== "/.*/") return false;
  if (!pattern) return field.type === "number";
  const name = displayName(field, frame);
  return pattern === name || (patternOf(pattern)?.test(name) ?? false);
}

/** A value for each field and calculation, or for each row. */
export function singleValues(frames: Frame[], reduce: Reduce = {}, isDark: boolean, paletteIsDefault = false): SingleValue[] {
  const { calcs = ["lastNotNull"], fields: pattern = "", values: isByRow = false, limit = DEFAULT_LIMIT } = reduce;
  const chosen = frames.flatMap((frame) => {
    const time = frame.fields.find(({ type }) => type === "time");
    return frame.fields.filter((field) => isChosen(field, frame, pattern)).map((field) => ({ frame, field, time }));
  }).filter(({ field }) => !field.settings.hidden?.graph);
  const fallback = { mode: paletteIsDefault ? "palette" : "thresholds" };
  const made: SingleValue[] = [];
  for (const { frame, field, time } of chosen) {
    const limits = limitsOf(field, frames);
    const add = (value: Value, name: string, index: number) => made.push({
      name, value, limits, field, times: (time?.values ?? []) as number[], values: field.values,
      shown: shown(value, field.settings, limits, isDark, fallback, index),
    });
    if (isByRow) {
      const texts = frame.fields.filter(({ type }) => type === "string");
      field.values.slice(0, limit).forEach((value, row) => {
        const name = texts.map((text) => text.values[row]).filter(Boolean).join(" ");
        add(value, name || displayName(field, frame), made.length);
      });
      continue;
    }
    for (const calc of calcs.slice(0, 10)) {
      const suffix = calcs.length > 1 ? ` (${reducerTitle(calc)})` : "";
      add(reduceValues(field.values, calc), displayName(field, frame) + suffix, made.length);
    }
  }
  return made;
}
