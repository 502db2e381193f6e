/** The columns of a graph: fields on common times, stacked, with gaps where the panel has them. */
import { colorOf } from "./colors";
import { displayName, type Limits, limitsOf } from "./fields";
import { reduceValues } from "./reducers";
import type { Field, FieldSettings, Frame } from "./types";

export interface GraphLine {
  name: string;
  field: Field;
  settings: FieldSettings;
  color: string;
  /** As they are, for the legend and the tooltip. */
  values: (number | null)[];
  /** As they are drawn: negated, stacked. */
  drawn: (number | null)[];
  /** The axis: fields with equal ones share it. */
  scale: string;
  limits: Limits;
}

export interface GraphData {
  /** Unix seconds. */
  times: number[];
  lines: GraphLine[];
}

/** `isHidden`: lines that the reader has switched off take no part in stacks. */
export function graphData(frames: Frame[], isDark: boolean, isHidden: (name: string) => boolean = () => false): GraphData {
  const pairs = frames.flatMap((frame) => {
    const time = frame.fields.find(({ type }) => type === "time");
    return time ? frame.fields.filter(({ type }) => type === "number").map((field) => ({ frame, time, field })) : [];
  });
  const grids = [...new Set(pairs.map(({ time }) => time.values as number[]))];
  const times = grids.length === 1 ? (grids[0] ?? []) : [...new Set(grids.flat())].toSorted((a, b) => a - b);
  const placeOf = grids.length === 1 ? null : new Map(times.map((time, index) => [time, index]));
  const lines = pairs.map(({ frame, time, field }, index): GraphLine => {
    const column = Array.from<number | null>({ length: times.length }).fill(null);
    field.values.forEach((value, row) => {
      const place = placeOf ? placeOf.get(time.values[row] as number) : row;
      if (place !== undefined && typeof value === "number" && Number.isFinite(value)) column[place] = value;
    });
    const { settings } = field;
    const filled = withNoValue(column, settings.no_value);
    const limits = limitsOf(field, frames);
    return {
      name: displayName(field, frame),
      field,
      settings,
      limits,
      color: colorOf(settings, { mode: "palette" }, lastOf(filled, settings), index, limits, isDark),
      values: filled,
      drawn: settings.transform === "negative_y" ? filled.map((value) => (value === null ? null : -value)) : filled,
      scale: scaleKey(settings),
    };
  });
  return { times: times.map((time) => time / 1000), lines: stacked(lines, isHidden) };
}

function withNoValue(values: (number | null)[], text: string | undefined): (number | null)[] {
  const number = text?.trim() ? Number(text) : Number.NaN;
  return Number.isNaN(number) ? values : values.map((value) => value ?? number);
}

function lastOf(values: (number | null)[], { color }: FieldSettings): number | null {
  const by = color?.series_by ?? "last";
  return reduceValues(values, by === "last" ? "lastNotNull" : by) as number | null;
}

/** What fields must have in common to share an axis. */
export function scaleKey(settings: FieldSettings): string {
  const { unit = "", min, max, axis_soft_min, axis_soft_max, axis = "auto", axis_scale, axis_label, stacking } = settings;
  return JSON.stringify([unit, min, max, axis_soft_min, axis_soft_max, axis, axis_scale, axis_label, stacking?.mode === "percent"]);
}

/** Lines of one group on top of each other: positive ones up, negative ones down. */
function stacked(lines: GraphLine[], isHidden: (name: string) => boolean): GraphLine[] {
  const groups = new Map<string, GraphLine[]>();
  for (const line of lines) {
    const { stacking, draw, line_interpolation, hidden } = line.settings;
    if (!stacking || stacking.mode === "none" || hidden?.graph || isHidden(line.name)) continue;
    const isNegative = line.drawn.some((value) => value !== null && value < 0) && !line.drawn.some((value) => value !== null && value > 0);
    const key = JSON.stringify([stacking.mode, stacking.group ?? "A", line.scale, draw, line_interpolation, isNegative]);
    groups.set(key, [...(groups.get(key) ?? []), line]);
  }
  const drawn = new Map<GraphLine, (number | null)[]>();
  for (const group of groups.values()) stackGroup(group, drawn);
  return lines.map((line) => ({ ...line, drawn: drawn.get(line) ?? line.drawn }));
}

/** A gap has no height where another line of the group has a value. */
function stackGroup(group: GraphLine[], drawn: Map<GraphLine, (number | null)[]>): void {
  const length = group[0]?.drawn.length ?? 0;
  const isPercent = group[0]?.settings.stacking?.mode === "percent";
  const totals = Array.from({ length }, (_, row) => group.reduce((sum, line) => sum + Math.abs(line.drawn[row] ?? 0), 0));
  const sums = Array.from({ length }, () => 0);
  const isEmpty = Array.from({ length }, (_, row) => group.every((line) => line.drawn[row] === null));
  for (const line of group) {
    drawn.set(line, line.drawn.map((value, row) => {
      if (isEmpty[row]) return null;
      sums[row] = (sums[row] ?? 0) + (value ?? 0);
      return isPercent ? (totals[row] ? (sums[row] ?? 0) / (totals[row] ?? 1) : 0) : (sums[row] ?? 0);
    }));
  }
}

/** Of lines that are stacked, the one that each is filled down to: by index, undefined for zero. */
export function fillsTo(lines: readonly GraphLine[], isHidden: (name: string) => boolean): (number | undefined)[] {
  const below = new Map<string, number>();
  return lines.map((line, index) => {
    const { stacking, fill_below_to, hidden, draw, line_interpolation } = line.settings;
    if (fill_below_to) {
      const found = lines.findIndex(({ name }) => name === fill_below_to);
      return found < 0 ? undefined : found;
    }
    if (!stacking || stacking.mode === "none" || hidden?.graph || isHidden(line.name)) return undefined;
    const isNegative = line.drawn.some((value) => value !== null && value < 0);
    const key = JSON.stringify([stacking.mode, stacking.group ?? "A", line.scale, draw, line_interpolation, isNegative]);
    const found = below.get(key);
    below.set(key, index);
    return found;
  });
}

/** Gaps that are shorter than `span_nulls` are drawn over; steps that are longer break the line. */
export function withGaps(values: readonly (number | null)[], times: readonly number[], settings: FieldSettings): (number | null | undefined)[] {
  const { span_nulls } = settings;
  if (typeof span_nulls !== "number") return [...values];
  const found: (number | null | undefined)[] = [...values];
  let before = -1;
  for (let row = 0; row < values.length; row += 1) {
    if (values[row] === null) continue;
    const distance = ((times[row] ?? 0) - (times[before] ?? 0)) * 1000;
    // `undefined` is a place without a sample, over which a line goes on.
    if (before >= 0 && distance <= span_nulls) for (let gap = before + 1; gap < row; gap += 1) found[gap] = undefined;
    before = row;
  }
  return found;
}
