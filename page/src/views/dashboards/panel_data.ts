/** The data of a panel: its queries with their steps and variables, and what becomes of the answers. */
import { useMemo } from "preact/hooks";
import { query as askNow, queryRange, type MatrixSeries, type VectorSeries } from "../../api/prometheus";
import { range, to } from "../../time/range";
import { parseTime } from "../../time/relative";
import { zoneOffset } from "../../time/zone";
import { useRequest } from "../../use_request";
import { withSettings } from "./logic/fields";
import { type Answered, framesOf } from "./logic/frames";
import { interpolate, type Lookup } from "./logic/interpolation";
import { alignDown, intervalMs, type Steps, stepsOf, stepVariables } from "./logic/intervals";
import { transformed } from "./logic/transformations";
import type { Frame, Panel, Query } from "./logic/types";
import { withFilters } from "./logic/variables";
import { lookupOf, type Values } from "./scope";

export interface Scope {
  values: Values;
  local: Values;
  builtIn: Record<string, string>;
  filters: { key: string; operator: string; value: string }[];
}

export interface Asked {
  query: Query;
  expr: string;
  legend: string;
  isInstant: boolean;
  /** Unix seconds. */
  start: number;
  end: number;
  step: number;
}

const SCRAPE_MS = 15_000;

/** Where the range of a panel starts that looks `from` so far back; undefined for a text that is no time. */
function ownStart(from: string, end: number): number | undefined {
  try {
    return parseTime(from.startsWith("now") ? from : `now-${from}`, end * 1000) / 1000;
  } catch {
    return undefined;
  }
}

/** The range of a panel, which may have one of its own: one that cannot be read is not used. Unix seconds. */
export function panelRange(panel: Panel, shared: { start: number; end: number }, isRelative: boolean, lookup: Lookup): { start: number; end: number } {
  let { start, end } = shared;
  const from = interpolate(panel.time_from ?? "", lookup, "glob");
  if (from && isRelative) start = ownStart(from, end) ?? start;
  const shift = intervalMs(interpolate(panel.time_shift ?? "", lookup, "glob"));
  return shift ? { start: start - shift / 1000, end: end - shift / 1000 } : { start, end };
}

/** What is sent for each query of a panel that is `width` pixels wide. */
export function askedOf(panel: Panel, scope: Scope, shared: { start: number; end: number }, width: number, isRelative: boolean): Asked[] {
  const base = lookupOf(scope.values, scope.local, scope.builtIn);
  const own = panelRange(panel, shared, isRelative, base);
  const rangeMs = (own.end - own.start) * 1000;
  return (panel.queries ?? []).filter(({ hidden }) => !hidden).flatMap((query) => {
    const steps: Steps = stepsOf({
      rangeMs,
      maxDataPoints: panel.max_data_points ?? Math.max(Math.round(width), 100),
      panelInterval: interpolate(panel.min_interval ?? "", base, "glob"),
      queryInterval: interpolate(query.min_step ?? "", base, "glob"),
      factor: query.step_factor ?? 1,
      scrapeMs: SCRAPE_MS,
    });
    const lookup = lookupOf(scope.values, scope.local, { ...scope.builtIn, ...stepVariables(steps, rangeMs) });
    const expr = withFilters(interpolate(query.expr, lookup, "promql"), scope.filters);
    if (!expr.trim()) return [];
    const zone = isRelative ? zoneOffset(own.end * 1000) : 0;
    const on = (seconds: number) => alignDown(seconds * 1000, steps.stepMs, zone) / 1000;
    const asked = { query, expr, legend: interpolate(query.legend ?? "", lookup, "glob"), step: steps.stepMs / 1000 };
    const found: Asked[] = [];
    // Neither means a range, and both mean two queries.
    if (query.instant) found.push({ ...asked, isInstant: true, start: own.start, end: own.end });
    if (query.range ?? !query.instant) found.push({ ...asked, isInstant: false, start: on(own.start), end: on(own.end) });
    return found;
  });
}

async function answer(asked: Asked, signal: AbortSignal): Promise<Answered> {
  const { expr, start, end, step } = asked;
  if (!asked.isInstant) {
    const { data, warnings } = await queryRange(expr, { start, end, step }, signal);
    return { ...asked, series: data.result, warnings };
  }
  const { data, warnings } = await askNow(expr, end, signal);
  if (data.resultType === "vector" || data.resultType === "matrix") {
    return { ...asked, series: data.result as (MatrixSeries & VectorSeries)[], warnings };
  }
  return { ...asked, series: [{ metric: {}, value: data.result }], warnings };
}

export interface PanelData {
  frames: Frame[];
  asked: Asked[];
  /** How many series each query has answered. */
  counts: number[];
  warnings: string[];
  error: Error | undefined;
  isLoading: boolean;
}

/** `isWanted`: whether the panel is to be seen, and what it depends on is known. */
export function usePanelData(panel: Panel, source: Panel, scope: Scope, width: number, isWanted: boolean): PanelData {
  const shared = range.value;
  const isRelative = to.value.startsWith("now");
  const asked = useMemo(
    () => (isWanted ? askedOf(source, scope, shared, width, isRelative) : []),
    [source, scope, shared, width, isWanted, isRelative],
  );
  const key = JSON.stringify(asked.map(({ expr, isInstant, start, end, step }) => [expr, isInstant, start, end, step]));
  const request = useRequest(
    asked.length ? (signal) => Promise.all(asked.map((one) => answer(one, signal))) : null,
    [key],
  );
  const frames = useMemo(() => {
    const found = (request.data ?? []).map((answered, index) => ({ ...answered, ...pickTexts(answered, asked[index]) }));
    const tables = new Set(found.filter(({ query }) => query.format === "table").map(({ query }) => query.ref));
    const made = found.flatMap((answered) => framesOf(answered, tables.size > 1, panel.type === "heatmap"));
    return withSettings(transformed(made, panel.transformations), panel.fields, panel.overrides);
  }, [request.data, panel]);
  const counts = (request.data ?? []).map(({ series }) => series.length);
  const warnings = [...new Set((request.data ?? []).flatMap((answered) => answered.warnings ?? []))];
  return { frames, asked, counts, warnings, error: request.error, isLoading: request.isLoading };
}

/** The legend and the format may change without a new question. */
function pickTexts(answered: Answered, asked: Asked | undefined): Partial<Answered> {
  return asked?.query.ref === answered.query.ref ? { query: asked.query, legend: asked.legend } : {};
}
