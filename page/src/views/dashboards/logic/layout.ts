/** Places of panels: repeats are copied, and panels float up until they touch another one. */
import type { VariableValue } from "./interpolation";
import type { Grid, Panel, Row } from "./types";

export const COLUMNS = 24;
export const LINE_PIXELS = 30;
export const GAP_PIXELS = 8;

/** Whether a grid of so many pixels has a column of panels, each as wide as the grid. */
export function isNarrow(gridWidth: number): boolean {
  return gridWidth < 740;
}

/** A panel at its place; `scope` has the values of the variables that it is repeated for. */
export interface Placed {
  key: string;
  panel: Panel;
  grid: Grid;
  scope: Record<string, VariableValue>;
}

export interface PlacedRow {
  key: string;
  row: Row;
  index: number;
  panels: Placed[];
  scope: Record<string, VariableValue>;
}

type ValueOf = (name: string) => VariableValue | undefined;

/** One value each of what is selected. */
function split(value: VariableValue | undefined): VariableValue[] {
  if (!value) return [];
  return value.values.map((one, index) => ({ values: [one], texts: [value.texts[index] ?? one], isAll: false, isMulti: value.isMulti }));
}

export function placedRows(rows: readonly Row[], valueOf: ValueOf): PlacedRow[] {
  return rows.flatMap((row, index) => {
    const values = row.repeat ? split(valueOf(row.repeat)) : [];
    if (!row.repeat || !values.length) return [placedRow(row, index, {}, valueOf, "")];
    return values.map((value) => placedRow(row, index, { [row.repeat as string]: value }, valueOf, value.values[0] ?? ""));
  });
}

function placedRow(row: Row, index: number, scope: Record<string, VariableValue>, valueOf: ValueOf, suffix: string): PlacedRow {
  const panels = (row.panels ?? []).flatMap((panel) => repeated(panel, scope, valueOf, suffix));
  return { key: `${index}-${suffix}`, row, index, panels: compacted(panels), scope };
}

/** The copies of a panel, below and beside each other. */
function repeated(panel: Panel, scope: Record<string, VariableValue>, valueOf: ValueOf, suffix: string): Placed[] {
  const { repeat, grid } = panel;
  const own = repeat && !scope[repeat.variable] ? split(valueOf(repeat.variable)) : [];
  if (!repeat || !own.length) return [{ key: `${panel.id}-${suffix}`, panel, grid, scope }];
  const isDown = repeat.direction === "vertical";
  const perLine = isDown ? 1 : Math.min(repeat.max_per_row ?? 4, own.length);
  const width = isDown ? grid.width : Math.floor(COLUMNS / perLine);
  return own.map((value, index) => ({
    key: `${panel.id}-${suffix}-${value.values[0] ?? ""}`,
    panel,
    grid: {
      x: isDown ? grid.x : (index % perLine) * width,
      y: grid.y + Math.floor(index / perLine) * grid.height,
      width,
      height: grid.height,
    },
    scope: { ...scope, [repeat.variable]: value },
  }));
}

function overlaps(a: Grid, b: Grid): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** Each panel as high as it can be, in the order of their places; none covers another. */
export function compacted<T extends { grid: Grid }>(panels: readonly T[]): T[] {
  const placed: T[] = [];
  for (const panel of panels.toSorted((a, b) => a.grid.y - b.grid.y || a.grid.x - b.grid.x)) {
    let y = panel.grid.y;
    const at = (line: number) => ({ ...panel.grid, y: line });
    const isFree = (line: number) => !placed.some(({ grid }) => overlaps(at(line), grid));
    while (!isFree(y)) y += 1;
    while (y > 0 && isFree(y - 1)) y -= 1;
    placed.push({ ...panel, grid: at(y) });
  }
  return placed;
}

export function linesOf(panels: readonly { grid: Grid }[]): number {
  return Math.max(0, ...panels.map(({ grid }) => grid.y + grid.height));
}

export function pixelsOf(lines: number): number {
  return Math.max(lines * LINE_PIXELS + (lines - 1) * GAP_PIXELS, 0);
}
