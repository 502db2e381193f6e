/** The data of a panel: its queries with their steps and variables, and what becomes of the answers. */
import { useMemo } from "preact/hooks";
import { query as askNow } from "../../api/prometheus";
import { isAbort } from "../../api/transport";
import { columnOf, type PackedData, stepCount } from "../../plot/data";
import { MOST_SERIES, queryPacked, splitWarnings } from "../../plot/range_query";
import { range, to } from "../../time/range";
import { parseTime } from "../../time/relative";
import { zoneOffset } from "../../time/zone";
import { useRequest } from "../../use_request";
import { withSettings } from "./logic/fields";
import { type Answered, type AnsweredSeries, framesOf } from "./logic/frames";
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

async function answer(asked: Asked, limit: number, signal: AbortSignal): Promise<Answered> {
  const { expr, start, end, step } = asked;
  if (!asked.isInstant) {
    const range = { start, end, step };
    const { data, warnings } = await queryPacked(expr, range, signal, limit);
    return { ...asked, series: seriesOf(data, stepCount(range)), warnings };
  }
  const { data, warnings } = await askNow(expr, end, signal, MOST_SERIES);
  if (data.resultType === "vector" || data.resultType === "matrix") {
    return { ...asked, series: data.result as AnsweredSeries[], warnings };
  }
  return { ...asked, series: [{ metric: {}, value: data.result }], warnings };
}

/** The series of an answer: lines, those that have histograms as well, and those that have nothing else. */
function seriesOf(data: PackedData, length: number): AnsweredSeries[] {
  const histogramsOf = new Map(data.histograms.map(({ labels, histograms }) => [labels, histograms]));
  const lines = data.labels.map((metric, index): AnsweredSeries => {
    const histograms = histogramsOf.get(metric);
    histogramsOf.delete(metric);
    return { metric, column: columnOf(data, index, length), ...(histograms && { histograms }) };
  });
  return [...lines, ...[...histogramsOf].map(([metric, histograms]) => ({ metric, histograms }))];
}

/** Some queries of a panel have failed, or all: the others are answered. */
class QueriesFailed extends Error {
  constructor(
    /** By query; undefined for those that have failed. */
    readonly answers: readonly (Answered | undefined)[],
    readonly faults: readonly Fault[],
  ) {
    super(faults[0]?.error.message);
  }
}

export interface Fault {
  /** The letter of the query. */
  ref: string;
  error: Error;
}

async function answers(asked: readonly Asked[], limit: number, signal: AbortSignal): Promise<readonly (Answered | undefined)[]> {
  const settled = await Promise.allSettled(asked.map((one) => answer(one, limit, signal)));
  const found = settled.map((one) => (one.status === "fulfilled" ? one.value : undefined));
  const faults = settled.flatMap((one, index): Fault[] => {
    if (one.status === "fulfilled") return [];
    if (isAbort(one.reason)) throw one.reason;
    return [{ ref: asked[index]?.query.ref ?? "", error: one.reason instanceof Error ? one.reason : new Error(String(one.reason)) }];
  });
  if (faults.length) throw new QueriesFailed(found, faults);
  return found;
}

export interface PanelData {
  frames: Frame[];
  asked: Asked[];
  /** How many series each query has answered. */
  counts: number[];
  warnings: string[];
  /** Whether there are histograms, and no numbers. */
  hasOnlyHistograms: boolean;
  /** Whether there are more series than were asked for. */
  isTruncated: boolean;
  /** The queries that have failed; the frames are those of the others. */
  faults: readonly Fault[];
  isLoading: boolean;
}

const NO_FAULTS: readonly Fault[] = [];

/** `isWanted`: whether the panel is to be seen, and what it depends on is known. `limit`: of series of each query over the range. */
export function usePanelData(panel: Panel, source: Panel, scope: Scope, width: number, isWanted: boolean, limit: number): PanelData {
  const shared = range.value;
  const isRelative = to.value.startsWith("now");
  const asked = useMemo(
    () => (isWanted ? askedOf(source, scope, shared, width, isRelative) : []),
    [source, scope, shared, width, isWanted, isRelative],
  );
  const key = JSON.stringify([limit, asked.map(({ expr, isInstant, start, end, step }) => [expr, isInstant, start, end, step])]);
  const request = useRequest(asked.length ? (signal) => answers(asked, limit, signal) : null, [key]);
  const failed = request.error instanceof QueriesFailed ? request.error : undefined;
  const faults = failed?.faults ?? (request.error ? [{ ref: "", error: request.error }] : NO_FAULTS);
  const answered = failed?.answers ?? request.data;
  const frames = useMemo(() => {
    const found = (answered ?? []).flatMap((one, index) => (one ? [{ ...one, ...pickTexts(one, asked[index]) }] : []));
    const tables = new Set(found.filter(({ query }) => query.format === "table").map(({ query }) => query.ref));
    const made = found.flatMap((one) => framesOf(one, tables.size > 1, panel.type === "heatmap"));
    return withSettings(transformed(made, panel.transformations), panel.fields, panel.overrides);
  }, [answered, panel]);
  const counts = (answered ?? []).map((one) => one?.series.length ?? 0);
  const series = (answered ?? []).flatMap((one) => one?.series ?? []);
  const hasOnlyHistograms = series.length > 0 && series.every(({ column, value, values }) => !column && !value && !values);
  const { isTruncated, others } = splitWarnings([...new Set((answered ?? []).flatMap((one) => one?.warnings ?? []))]);
  return { frames, asked, counts, warnings: others, hasOnlyHistograms, isTruncated, faults, isLoading: request.isLoading };
}

/** The legend and the format may change without a new question. */
function pickTexts(answered: Answered, asked: Asked | undefined): Partial<Answered> {
  return asked?.query.ref === answered.query.ref ? { query: asked.query, legend: asked.legend } : {};
}
