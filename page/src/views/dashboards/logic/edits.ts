/** Changes of a dashboard: each gives a new document. */
import { COLUMNS, compacted, linesOf } from "./layout";
import type { Dashboard, Panel, Row } from "./types";

function withRows(dashboard: Dashboard, change: (row: Row, index: number) => Row): Dashboard {
  return { ...dashboard, rows: (dashboard.rows ?? []).map(change) };
}

export function allPanels(dashboard: Dashboard): Panel[] {
  return (dashboard.rows ?? []).flatMap(({ panels }) => panels ?? []);
}

export function freeId(dashboard: Dashboard): number {
  return Math.max(0, ...allPanels(dashboard).map(({ id }) => id)) + 1;
}

/** The panel at the end of the last row. */
export function addPanel(dashboard: Dashboard): { dashboard: Dashboard; panel: Panel } {
  const rows = dashboard.rows?.length ? dashboard.rows : [{ panels: [] }];
  const last = rows.at(-1) as Row;
  const panel: Panel = {
    id: freeId(dashboard), type: "timeseries", title: "New panel",
    grid: { x: 0, y: linesOf(last.panels ?? []), width: 12, height: 8 },
    queries: [{ ref: "A", expr: "" }],
  };
  return { dashboard: { ...dashboard, rows: [...rows.slice(0, -1), { ...last, panels: [...(last.panels ?? []), panel] }] }, panel };
}

export function replacePanel(dashboard: Dashboard, panel: Panel): Dashboard {
  return withRows(dashboard, (row) => ({ ...row, panels: (row.panels ?? []).map((other) => (other.id === panel.id ? panel : other)) }));
}

export function removePanel(dashboard: Dashboard, id: number): Dashboard {
  return withRows(dashboard, (row) => ({ ...row, panels: (row.panels ?? []).filter((panel) => panel.id !== id) }));
}

/** A copy below the panel. */
export function copyPanel(dashboard: Dashboard, panel: Panel): Dashboard {
  const copy = { ...panel, id: freeId(dashboard), grid: { ...panel.grid, y: panel.grid.y + panel.grid.height } };
  return withRows(dashboard, (row) => {
    const panels = row.panels ?? [];
    return panels.some(({ id }) => id === panel.id) ? { ...row, panels: compacted([...panels, copy]) } : row;
  });
}

const clamp = (value: number, least: number, most: number) => Math.min(Math.max(value, least), most);

/** Moves or resizes a panel by units of the grid; others make room. */
export function movePanel(dashboard: Dashboard, id: number, columns: number, lines: number, resizes: boolean): Dashboard {
  return withRows(dashboard, (row) => {
    const panels = row.panels ?? [];
    const panel = panels.find((one) => one.id === id);
    if (!panel) return row;
    const { x, y, width, height } = panel.grid;
    const grid = resizes
      ? { x, y, width: clamp(width + columns, 1, COLUMNS - x), height: clamp(height + lines, 2, 1000) }
      : { x: clamp(x + columns, 0, COLUMNS - width), y: Math.max(y + lines, 0), width, height };
    // The moved panel comes first, so that the others go out of its way.
    const others = panels.filter((one) => one.id !== id);
    const ordered = [{ ...panel, grid }, ...others.toSorted((a, b) => a.grid.y - b.grid.y)];
    return { ...row, panels: compacted(settled(ordered)) };
  });
}

/** Panels that another one covers are moved below it. */
function settled(panels: Panel[]): Panel[] {
  const placed: Panel[] = [];
  for (const panel of panels) {
    let { y } = panel.grid;
    const covers = ({ grid }: Panel) => grid.x < panel.grid.x + panel.grid.width && panel.grid.x < grid.x + grid.width && grid.y < y + panel.grid.height && y < grid.y + grid.height;
    while (placed.some(covers)) y += 1;
    placed.push({ ...panel, grid: { ...panel.grid, y } });
  }
  return placed;
}

export function addRow(dashboard: Dashboard): Dashboard {
  return { ...dashboard, rows: [...(dashboard.rows ?? []), { title: "New row", panels: [] }] };
}

export function replaceRow(dashboard: Dashboard, index: number, row: Row): Dashboard {
  return withRows(dashboard, (other, place) => (place === index ? row : other));
}

/** The row goes; its panels move to the end of the row before it. */
export function removeRow(dashboard: Dashboard, index: number): Dashboard {
  const rows = [...(dashboard.rows ?? [])];
  const [gone] = rows.splice(index, 1);
  if (!gone?.panels?.length) return { ...dashboard, rows };
  const target = rows[index - 1] ?? { panels: [] };
  const offset = linesOf(target.panels ?? []);
  const moved = gone.panels.map((panel) => ({ ...panel, grid: { ...panel.grid, y: panel.grid.y + offset } }));
  const merged = { ...target, panels: [...(target.panels ?? []), ...moved] };
  return { ...dashboard, rows: rows[index - 1] ? rows.map((row) => (row === target ? merged : row)) : [merged, ...rows] };
}
