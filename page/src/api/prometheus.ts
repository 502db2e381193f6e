/** The Prometheus HTTP API, as far as views use it; docs/http-api.md has all of it. */
import { type Parameters, sendForJson } from "./transport";

export type Labels = Record<string, string>;
/** Unix seconds, and a number as text. */
export type Sample = [number, string];

export interface NativeHistogram {
  count: string;
  sum: string;
  /** Which bounds belong to the bucket, lower bound, upper bound, count. */
  buckets?: [number, string, string, string][];
}

export interface VectorSeries {
  metric: Labels;
  value?: Sample;
  histogram?: [number, NativeHistogram];
}

export interface MatrixSeries {
  metric: Labels;
  values?: Sample[];
  histograms?: [number, NativeHistogram][];
}

export type QueryData =
  | { resultType: "vector"; result: VectorSeries[]; stats?: QueryStats }
  | { resultType: "matrix"; result: MatrixSeries[]; stats?: QueryStats }
  | { resultType: "scalar"; result: Sample; stats?: QueryStats }
  | { resultType: "string"; result: Sample; stats?: QueryStats };

export interface QueryStats {
  timings: Record<string, number>;
  samples: { totalQueryableSamples: number; peakSamples: number };
}

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
}

interface Envelope<T> {
  data?: T;
  warnings?: string[];
  infos?: string[];
}

/** A call of the API: the data of its envelope with warnings and infos. */
export async function call<T>(
  path: string,
  options: { parameters?: Parameters; form?: Parameters; signal?: AbortSignal } = {},
): Promise<Answer<T>> {
  const envelope = await sendForJson<Envelope<T>>(`api/v1/${path}`, options);
  return {
    data: envelope?.data as T,
    warnings: envelope?.warnings ?? [],
    infos: envelope?.infos ?? [],
  };
}

export interface Range {
  /** Unix seconds. */
  start: number;
  end: number;
  /** Seconds. */
  step: number;
}

/** `limit`: how many series the answer has at most; a warning says if there are more. */
export function queryRange(
  query: string,
  { start, end, step }: Range,
  signal?: AbortSignal,
  limit?: number,
): Promise<Answer<Extract<QueryData, { resultType: "matrix" }>>> {
  const form = { query, start, end, step, limit };
  return call("query_range", { form, ...(signal && { signal }) });
}

/** `time`: Unix seconds; `limit` as for a range. */
export function query(
  text: string,
  time: number,
  signal?: AbortSignal,
  limit?: number,
): Promise<Answer<QueryData>> {
  return call("query", { form: { query: text, time, limit }, ...(signal && { signal }) });
}

export async function formatQuery(text: string): Promise<string> {
  return (await call<string>("format_query", { form: { query: text } })).data;
}

export async function labelValues(
  label: string,
  matchers: string[] = [],
  signal?: AbortSignal,
): Promise<string[]> {
  const parameters = { "match[]": matchers };
  const path = `label/${encodeURIComponent(label)}/values`;
  return (await call<string[]>(path, { parameters, ...(signal && { signal }) })).data ?? [];
}

export async function labelNames(matchers: string[] = [], signal?: AbortSignal): Promise<string[]> {
  const parameters = { "match[]": matchers };
  return (await call<string[]>("labels", { parameters, ...(signal && { signal }) })).data ?? [];
}

export async function series(matchers: string[], limit?: number): Promise<Labels[]> {
  const parameters = { "match[]": matchers, limit };
  return (await call<Labels[]>("series", { parameters })).data ?? [];
}

export interface Metadata {
  type: string;
  help: string;
  unit: string;
}

export async function metadata(): Promise<Record<string, Metadata[]>> {
  return (await call<Record<string, Metadata[]>>("metadata")).data ?? {};
}

export interface ExplainNode {
  type: string;
  text: string;
  children: ExplainNode[];
  leaf?: number;
  step_invariant?: boolean;
  omitted?: number;
}

export interface ExplainLeaf {
  matchers: { name: string; type: "=" | "!=" | "=~" | "!~"; value: string }[];
  /** The samples after `start` up to `end`, in Unix seconds. */
  start: number;
  end: number;
  series: number;
  rules: { rule: string; applies: boolean; reason: string }[];
  sql: string;
  parameters: unknown[];
  estimated_rows: number | null;
  actual_rows: number | null;
  seconds: number | null;
  database_plan: string | null;
}

export interface Explanation {
  query: string;
  formatted: string;
  tree: ExplainNode;
  result_type: string;
  steps: number;
  leaves: ExplainLeaf[];
  stages: Record<string, number> | null;
}

export async function explain(form: Parameters, signal?: AbortSignal): Promise<Explanation> {
  return (await call<Explanation>("explain", { form, ...(signal && { signal }) })).data;
}

export interface Target {
  scrapePool: string;
  labels: Labels;
  health: "up" | "down" | "unknown";
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  scrapeUrl: string;
}
