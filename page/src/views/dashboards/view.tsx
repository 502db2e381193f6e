/** A dashboard: its bar, its rows and their panels. */
import type { RefObject } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { place, setQuery } from "../../router";
import { range, type TimeSettings } from "../../time/range";
import { useTimeSettings } from "../../time/use_settings";
import { marksFor, useAnnotations } from "./annotations";
import { AnnotationSwitches, Links, VariableBar } from "./controls";
import { interpolate } from "./logic/interpolation";
import { intervalMs } from "./logic/intervals";
import { isNarrow, linesOf, type PlacedRow, placedRows } from "./logic/layout";
import type { Dashboard } from "./logic/types";
import { type EditActions, PanelCard, type PanelCardProps } from "./panel";
import { builtInVariables, lookupOf } from "./scope";
import { filtersOf } from "./logic/variables";
import { useVariables } from "./use_variables";

export interface DashboardViewProps {
  uid: string;
  dashboard: Dashboard;
  editing?: EditActions & { editRow: (index: number) => void };
}

/** The times of the dashboard; the address may have another range. */
function settingsOf(dashboard: Dashboard): TimeSettings {
  const { time, refresh = "", refresh_choices = [], now_delay = "", week_start, hide_time_picker = false } = dashboard;
  return {
    from: time?.start ?? "now-1h", to: time?.end ?? "now", refresh,
    ...(refresh_choices.length > 0 && { refreshChoices: refresh_choices }),
    nowDelayMs: intervalMs(now_delay) ?? 0,
    firstWeekday: FIRST_WEEKDAYS[week_start || "monday"],
    hidesPicker: hide_time_picker,
  };
}

const FIRST_WEEKDAYS = { sunday: 0, monday: 1, saturday: 6 } as const;

/** The width of an element, which is 0 until it is known. */
function useWidth(): [RefObject<HTMLDivElement | null>, number] {
  const element = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}

export function DashboardView({ uid, dashboard, editing }: DashboardViewProps) {
  useTimeSettings(settingsOf(dashboard), dashboard.timezone);
  const { states, values, isReady } = useVariables(dashboard);
  const [element, width] = useWidth();
  const query = place.value.query;
  const times = range.value;
  const builtIn = useMemo(() => builtInVariables(uid, dashboard.title, values, times), [uid, dashboard.title, values, times, query]);
  const lookup = useMemo(() => lookupOf(values, {}, builtIn), [values, builtIn]);
  const filters = useMemo(() => (dashboard.variables ?? []).flatMap((variable) => (variable.kind === "adhoc" ? filtersOf(variable, query) : [])), [dashboard, query]);
  const [off, setOff] = useState<ReadonlySet<string>>(() => new Set((dashboard.annotations ?? []).filter(({ enabled }) => enabled === false).map(({ name }) => name)));
  const wanted = useMemo(() => (dashboard.annotations ?? []).filter(({ name }) => !off.has(name)), [dashboard, off]);
  const annotated = useAnnotations(wanted, lookup, isReady);
  const rows = useMemo(() => placedRows(dashboard.rows ?? [], (name) => values[name]), [dashboard, values]);
  const panels = useMemo(() => (dashboard.rows ?? []).flatMap((row) => row.panels ?? []), [dashboard]);
  const alone = query.get("panel") ?? "";
  const isKiosk = query.has("kiosk");
  const shared: Omit<PanelCardProps, "placed" | "marks"> = {
    panels, values, builtIn, filters, isReady, gridWidth: width,
    ...(dashboard.tooltip && dashboard.tooltip !== "own" && { cursorKey: `dashboard-${uid}` }),
    ...(editing && { editing }),
  };
  return (
    <div class={`dashboard ${isNarrow(width) ? "is-narrow" : ""}`} ref={element}>
      {!isKiosk && (
        <div class="dashboard-bar">
          <VariableBar states={states} />
          <AnnotationSwitches annotations={dashboard.annotations ?? []} found={annotated} off={off} onOff={setOff} />
          <Links links={dashboard.links ?? []} lookup={lookup} />
        </div>
      )}
      {width > 0 && (alone ? (
        <Alone id={alone} rows={rows} shared={shared} marksOf={(id) => marksFor(id, annotated)} />
      ) : (
        rows.map((placed) => (
          <RowSection key={placed.key} placed={placed} shared={shared} title={interpolate(placed.row.title ?? "", lookupOf(values, placed.scope, builtIn), "text")} marksOf={(id) => marksFor(id, annotated)} {...(editing && { onEdit: () => editing.editRow(placed.index) })} />
        ))
      ))}
    </div>
  );
}

/** `id`: of a panel, or the key of one of its copies. */
function Alone({ id, rows, shared, marksOf }: { id: string; rows: PlacedRow[]; shared: Omit<PanelCardProps, "placed" | "marks">; marksOf: RowSectionProps["marksOf"] }) {
  const panels = rows.flatMap((row) => row.panels);
  const found = panels.find(({ key }) => key === id) ?? panels.find(({ panel }) => String(panel.id) === id);
  if (!found) return <p class="no-data">The dashboard has no panel {id}.</p>;
  const height = Math.max(Math.floor((window.innerHeight - 180) / 38), 8);
  return (
    <>
      <p><button type="button" onClick={() => setQuery({ panel: null })}>← Whole dashboard</button></p>
      <div class="grid"><PanelCard {...shared} placed={{ ...found, grid: { x: 0, y: 0, width: 24, height } }} marks={marksOf(found.panel.id)} /></div>
    </>
  );
}

interface RowSectionProps {
  placed: PlacedRow;
  title: string;
  shared: Omit<PanelCardProps, "placed" | "marks">;
  marksOf: (id: number) => ReturnType<typeof marksFor>;
  onEdit?: () => void;
}

function RowSection({ placed, title, shared, marksOf, onEdit }: RowSectionProps) {
  const { row, panels } = placed;
  const hasHeader = row.title !== undefined && row.title !== null;
  const [isOpen, setOpen] = useState(!row.collapsed);
  const isShown = isOpen || !hasHeader;
  const lines = linesOf(panels);
  return (
    <section class="dashboard-row" aria-label={title || "Panels"}>
      {hasHeader && (
        <h2 class="row">
          <button type="button" class="quiet" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            <span aria-hidden="true">{isOpen ? "▾" : "▸"}</span> {title || "Row"} {!isOpen && <span class="hint">({panels.length === 1 ? "1 panel" : `${panels.length} panels`})</span>}
          </button>
          {onEdit && <button type="button" class="quiet" onClick={onEdit}>Edit row</button>}
        </h2>
      )}
      {isShown && panels.length > 0 && (
        <div class="grid" style={{ gridTemplateRows: `repeat(${lines}, 30px)` }}>
          {panels.map((one) => <PanelCard key={one.key} {...shared} placed={one} marks={marksOf(one.panel.id)} />)}
        </div>
      )}
    </section>
  );
}
