/** A panel in its frame: it asks when it comes into view, and says what went wrong. */
import type { ComponentType, RefObject } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { hrefOf, type QueryChange } from "../../router";
import { Boundary } from "../../ui/boundary";
import { ErrorBox } from "../../ui/states";
import { from, range, to } from "../../time/range";
import { interpolate } from "./logic/interpolation";
import { GAP_PIXELS, isNarrow, pixelsOf, type Placed } from "./logic/layout";
import type { Panel } from "./logic/types";
import { type Asked, type PanelData, panelRange, type Scope, usePanelData } from "./panel_data";
import { HeatmapPanel, Histogram, States } from "./panels/cells";
import { DataTable } from "./panels/data_table";
import { Graph } from "./panels/graph";
import type { PanelProps } from "./panels/props";
import { AlertList, DashboardList, TextPanel } from "./panels/texts";
import { BarGauge, Gauge, Pie, Stat } from "./panels/values";
import { linkHref, lookupOf, type Values } from "./scope";
import type { Mark } from "../../plot/plot";
import { MOST_SERIES, USUAL_SERIES } from "../../plot/range_query";
import { formatCount } from "../../format/numbers";

const TYPES: Record<string, ComponentType<PanelProps>> = {
  timeseries: Graph, stat: Stat, gauge: Gauge, bargauge: BarGauge, piechart: Pie, table: DataTable,
  heatmap: HeatmapPanel, histogram: Histogram, "status-history": States, "state-timeline": States,
  text: TextPanel, dashlist: DashboardList, alertlist: AlertList,
};
const WITHOUT_QUERIES = new Set(["text", "dashlist", "alertlist"]);
const TITLE_PIXELS = 30;
const PADDING_PIXELS = 18;
const NOTES_PIXELS = 26;

export interface PanelCardProps {
  placed: Placed;
  /** All panels of the dashboard, for one that shows another's answer. */
  panels: readonly Panel[];
  values: Values;
  builtIn: Record<string, string>;
  filters: Scope["filters"];
  isReady: boolean;
  /** Of the whole grid, in pixels. */
  gridWidth: number;
  marks: Mark[];
  cursorKey?: string;
  editing?: EditActions;
}

export interface EditActions {
  edit: (panel: Panel) => void;
  copy: (panel: Panel) => void;
  remove: (panel: Panel) => void;
  /** A drag by so many columns and lines; `resizes` changes the size. */
  move: (panel: Panel, columns: number, lines: number, resizes: boolean) => void;
}

/** Whether an element is, or was, near what is shown. */
function useIsNear(): [RefObject<HTMLElement | null>, boolean] {
  const element = useRef<HTMLElement>(null);
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    if (!element.current) return;
    const observer = new IntersectionObserver(([entry]) => entry?.isIntersecting && setNear(true), { rootMargin: "200px" });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, isNear];
}

/** A panel that fails says so in its place, where it can still be edited. */
export function PanelCard(props: PanelCardProps) {
  const { placed, values, builtIn, gridWidth, editing } = props;
  const { panel } = placed;
  return (
    <Boundary retryOn={[panel, values, builtIn]} fallback={(error) => (
      <section class="panel" style={styleOf(placed)} aria-label={panel.title || `panel ${panel.id}`} data-panel={panel.id}>
        <Header panel={panel} id={idOf(placed)} title={panel.title ?? ""} lookup={() => undefined} explore={undefined} warnings={[]} isLoading={false} {...(editing && { editing })} column={columnOf(gridWidth)} />
        <ErrorBox error={error} title="The panel cannot be shown" />
      </section>
    )}>
      <Card {...props} />
    </Boundary>
  );
}

/** What the address calls a panel, or one of the copies of a repeated one. */
function idOf({ key, panel, scope }: Placed): string {
  return Object.keys(scope).length ? key : String(panel.id);
}

function columnOf(gridWidth: number): number {
  return (gridWidth + GAP_PIXELS) / 24;
}

function styleOf({ grid }: Placed) {
  return { gridColumn: `${grid.x + 1} / span ${grid.width}`, gridRow: `${grid.y + 1} / span ${grid.height}` };
}

function Card(props: PanelCardProps) {
  const { placed, values, builtIn, filters, gridWidth, editing } = props;
  const { panel, grid, scope: local } = placed;
  const [element, isNear] = useIsNear();
  const column = columnOf(gridWidth);
  const width = Math.max((isNarrow(gridWidth) ? gridWidth : grid.width * column - GAP_PIXELS) - PADDING_PIXELS, 50);
  const scope = useMemo((): Scope => ({ values, local, builtIn, filters }), [values, local, builtIn, filters]);
  const lookup = useMemo(() => lookupOf(values, local, builtIn), [values, local, builtIn]);
  const source = panel.panel_source === undefined ? panel : (props.panels.find(({ id }) => id === panel.panel_source) ?? panel);
  const hasQueries = !WITHOUT_QUERIES.has(panel.type);
  const [limit, setLimit] = useState(USUAL_SERIES);
  const data = usePanelData(panel, source, scope, width, isNear && props.isReady && hasQueries, limit);
  const title = interpolate(panel.title ?? "", lookup, "text");
  const hasFailed = data.faults.length > 0 && !data.frames.length;
  const hasOnlyHistograms = data.hasOnlyHistograms && panel.type !== "heatmap";
  const notes = data.isTruncated || data.faults.length > 0 ? <Notes data={data} limit={limit} onLimit={setLimit} /> : null;
  const height = Math.max(pixelsOf(grid.height) - (title || editing ? TITLE_PIXELS : 0) - (notes ? NOTES_PIXELS : 0) - PADDING_PIXELS, 40);
  const Content = TYPES[panel.type];
  const own = panelRange(panel, range.value, to.value.startsWith("now"), lookup);
  const isWaiting = hasQueries && isNear && (!props.isReady || (data.isLoading && !data.frames.length));
  return (
    <section ref={element} class={`panel ${panel.transparent ? "is-transparent" : ""}`} style={styleOf(placed)} aria-label={title || `panel ${panel.id}`} aria-busy={isWaiting || undefined}
      data-panel={panel.id} data-queries={JSON.stringify(data.asked)} data-series={data.counts.join(",")}>
      {(title || editing) && <Header panel={panel} id={idOf(placed)} title={title} lookup={lookup} explore={data.asked.length ? exploreHref(panel, data.asked, own) : undefined} warnings={data.warnings} isLoading={data.isLoading} {...(editing && { editing })} column={column} />}
      {!hasFailed && notes}
      {hasFailed ? <Failures faults={data.faults} /> : isWaiting ? <p class="hint" role="status">…</p> : !isNear || !Content ? null : hasOnlyHistograms ? <p class="no-data">These are native histograms: a heatmap shows them, and histogram_quantile() and its like make numbers of them.</p> : (
        <Content panel={{ ...panel, title }} data={data} lookup={lookup} range={own} width={width} height={height} marks={props.marks} {...(props.cursorKey && { cursorKey: props.cursorKey })} />
      )}
      {!Content && <p class="no-data">The page has no panel of the type {panel.type}.</p>}
      {editing && <Handle panel={panel} editing={editing} column={column} />}
    </section>
  );
}

/** Above what could be drawn: what it lacks. */
function Notes({ data, limit, onLimit }: { data: PanelData; limit: number; onLimit: (limit: number) => void }) {
  const faults = data.faults.map(({ ref, error }) => `${ref}: ${error.message}`).join("\n");
  return (
    <div class="panel-notes">
      {faults && <span role="alert" class="is-critical" title={faults}>{faults}</span>}
      {data.isTruncated && (
        <>
          <span>The first {formatCount(limit)} series; there are more.</span>
          {limit < MOST_SERIES && <button type="button" class="quiet" onClick={() => onLimit(MOST_SERIES)}>Show up to {formatCount(MOST_SERIES)}</button>}
        </>
      )}
    </div>
  );
}

function Failures({ faults }: { faults: PanelData["faults"] }) {
  const several = faults.length > 1;
  return <div class="panel-failures">{faults.map(({ ref, error }, index) => <ErrorBox key={index} error={error} {...(several && { title: `Query ${ref}` })} />)}</div>;
}

interface HeaderProps extends PanelMenuProps {
  warnings: readonly string[];
  isLoading: boolean;
  editing?: EditActions;
  column: number;
}

function Header({ panel, id, title, lookup, explore, warnings, isLoading, editing, column }: HeaderProps) {
  const ownTime = !panel.hide_time && (panel.time_from || panel.time_shift);
  const drag = editing ? dragOf(panel, editing, column, false) : undefined;
  return (
    <header class={editing ? "is-movable" : ""} onPointerDown={drag}>
      <h3 title={panel.description ? interpolate(panel.description, lookup, "text") : title}>{title}</h3>
      {panel.description && <span class="panel-hint" title={interpolate(panel.description, lookup, "text")} role="img" aria-label="Description">?</span>}
      {warnings.length > 0 && <span class="panel-hint is-warning" title={warnings.join("\n")} role="img" aria-label={`Warning: ${warnings.join("; ")}`}>!</span>}
      {ownTime && <span class="hint">{panel.time_from} {panel.time_shift && `−${panel.time_shift}`}</span>}
      {isLoading && <span class="hint" aria-hidden="true">…</span>}
      {editing ? (
        <span class="panel-actions" onPointerDown={(event) => event.stopPropagation()}>
          <button type="button" class="quiet" onClick={() => editing.edit(panel)}>Edit</button>
          <button type="button" class="quiet" onClick={() => editing.copy(panel)}>Copy</button>
          <button type="button" class="quiet" aria-label={`Delete ${title || "the panel"}`} onClick={() => editing.remove(panel)}>✕</button>
        </span>
      ) : (
        <PanelMenu panel={panel} id={id} title={title} lookup={lookup} explore={explore} />
      )}
    </header>
  );
}

/** The address of Explore with what a panel has asked, in the same time. */
function exploreHref(panel: Panel, asked: readonly Asked[], own: { start: number; end: number }): string {
  const hasOwnTime = panel.time_from || panel.time_shift;
  const [start, end] = hasOwnTime ? [own.start, own.end].map((seconds) => Math.round(seconds * 1000)) : [from.value, to.value];
  const queries = asked.map(({ expr, isInstant }, index) => ({ [`g${index}.expr`]: expr, [`g${index}.tab`]: isInstant ? "1" : "0" }));
  return hrefOf("explore", Object.assign({}, ...queries, { from: start, to: end }) as QueryChange);
}

interface PanelMenuProps {
  panel: Panel;
  /** Its id, or which of its copies it is. */
  id: string;
  title: string;
  lookup: PanelProps["lookup"];
  /** Undefined while it has asked nothing. */
  explore: string | undefined;
}

function PanelMenu({ panel, id, title, lookup, explore }: PanelMenuProps) {
  const query = new URLSearchParams(window.location.search);
  query.set("panel", id);
  return (
    <details class="menu panel-menu">
      <summary aria-label={`Menu of ${title || "the panel"}`}>⋮</summary>
      <div class="menu-box">
        <a href={hrefOf("dashboards", query)}>Show alone</a>
        {explore && <a href={explore}>Explore</a>}
        {(panel.links ?? []).map((link, index) => {
          const href = linkHref(link.url, lookup);
          return href && <a key={index} href={href} target={link.new_tab ? "_blank" : undefined} rel="noopener noreferrer">{interpolate(link.title || link.url, lookup, "text")}</a>;
        })}
      </div>
    </details>
  );
}

/** Follows the pointer, and tells the distance in units of the grid at the end. */
function dragOf(panel: Panel, editing: EditActions, column: number, resizes: boolean) {
  return (event: PointerEvent) => {
    if (event.button !== 0) return;
    event.preventDefault();
    const card = (event.currentTarget as HTMLElement).closest<HTMLElement>(".panel");
    const [x, y] = [event.clientX, event.clientY];
    const line = pixelsOf(1) + GAP_PIXELS;
    const follow = (moved: PointerEvent) => {
      if (!card) return;
      if (resizes) card.style.outline = "2px dashed var(--accent)";
      else card.style.transform = `translate(${moved.clientX - x}px, ${moved.clientY - y}px)`;
    };
    const end = (moved: PointerEvent) => {
      window.removeEventListener("pointermove", follow);
      if (card) card.style.transform = card.style.outline = "";
      const [columns, lines] = [Math.round((moved.clientX - x) / column), Math.round((moved.clientY - y) / line)];
      if (columns || lines) editing.move(panel, columns, lines, resizes);
    };
    window.addEventListener("pointermove", follow);
    window.addEventListener("pointerup", end, { once: true });
  };
}

function Handle({ panel, editing, column }: { panel: Panel; editing: EditActions; column: number }) {
  return <span class="panel-handle" aria-hidden="true" title="Drag to change the size" onPointerDown={dragOf(panel, editing, column, true)} />;
}
