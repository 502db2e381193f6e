/** The variables of a dashboard: their options, asked for in order, and what the address selects. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, labelNames, labelValues, query, series } from "../../api/prometheus";
import { formatSeries } from "../../format/series";
import { navigate, place } from "../../router";
import { askedAgain, range, readAtMs } from "../../time/range";
import { autoInterval, intervalText, roundInterval } from "./logic/intervals";
import { ALL, interpolate, type Lookup, type VariableValue, variablesIn } from "./logic/interpolation";
import type { Dashboard, Option, Variable } from "./logic/types";
import { inOrder, optionsOf, parseVariableQuery, regexOf, selectedOf, valueOf } from "./logic/variables";
import { lookupOf, type Values } from "./scope";

export interface VariableState {
  variable: Variable;
  options: Option[];
  selected: string[];
  value: VariableValue;
  error?: string;
}

/** The values of `var-name` in an address, undefined if it has none. */
function inAddress(address: URLSearchParams, name: string): string[] | undefined {
  const found = address.getAll(`var-${name}`);
  return found.length ? found : undefined;
}

/** Write a selection into the address. */
export function select(name: string, values: readonly string[]): void {
  write({ [name]: values }, false);
}

function write(selections: Record<string, readonly string[]>, replace: boolean): void {
  const { path, query: address } = place.peek();
  const changed = new URLSearchParams(address);
  for (const [name, values] of Object.entries(selections)) {
    changed.delete(`var-${name}`);
    for (const value of values.length ? values : [""]) changed.append(`var-${name}`, value);
  }
  navigate(path, changed, { replace });
}

async function results(text: string, lookup: Lookup, times: { start: number; end: number }): Promise<string[]> {
  const asked = parseVariableQuery(interpolate(text, lookup, "promql"));
  if (!asked) return [];
  const matchers = (selector: string) => (selector ? [selector] : []);
  switch (asked.kind) {
    case "label_values": {
      const parameters = { "match[]": matchers(asked.selector), start: times.start, end: times.end };
      const path = `label/${encodeURIComponent(asked.label)}/values`;
      return (await call<string[]>(path, { parameters })).data ?? [];
    }
    case "label_names":
      return labelNames(matchers(asked.selector));
    case "metrics": {
      const pattern = new RegExp(asked.pattern);
      return (await labelValues("__name__")).filter((name) => pattern.test(name));
    }
    case "series":
      return (await series([asked.selector])).map(formatSeries);
    case "query_result": {
      const { data } = await query(asked.expr, times.end);
      if (data.resultType === "scalar" || data.resultType === "string") return [`${data.result[1]} ${data.result[0] * 1000}`];
      if (data.resultType !== "vector") return [];
      return data.result.map(({ metric, value }) => `${formatSeries(metric)} ${value?.[1] ?? ""} ${(value?.[0] ?? 0) * 1000}`);
    }
  }
}

async function optionsFor(variable: Variable, lookup: Lookup, times: { start: number; end: number }): Promise<Option[]> {
  switch (variable.kind) {
    case "query":
      return optionsOf(await results(variable.query ?? "", lookup, times), regexOf(variable, lookup), variable.sort ?? "none");
    case "custom":
    case "interval": {
      const given = variable.options ?? [];
      return variable.auto_count ? [{ text: "auto", value: "$__auto" }, ...given] : given;
    }
    case "datasource":
      return variable.current ? [{ text: "default", value: String(variable.current) }] : [];
    default:
      return [];
  }
}

function initial(variable: Variable): string[] {
  const current = variable.current ?? "";
  return Array.isArray(current) ? current : [current];
}

/** `isKept`: whether what the address selects counts even if it is no option. */
async function stateOf(variable: Variable, lookup: Lookup, address: URLSearchParams, times: { start: number; end: number }, isKept: boolean): Promise<VariableState> {
  let options: Option[] = [];
  let error: string | undefined;
  try {
    options = await optionsFor(variable, lookup, times);
  } catch (problem) {
    error = problem instanceof Error ? problem.message : String(problem);
  }
  const given = inAddress(address, variable.name);
  const wanted = given ?? initial(variable);
  if (variable.kind === "textbox" || variable.kind === "constant") {
    const text = given?.[0] ?? (initial(variable)[0] || (variable.query ?? ""));
    // Typed text may hold variables itself.
    const value = interpolate(text, lookup, "glob");
    return { variable, options, selected: [text], value: { values: [value], texts: [text], isAll: false, isMulti: false }, ...(error && { error }) };
  }
  const selected = variable.kind === "datasource" ? initial(variable) : selectedOf(variable, options, wanted, given !== undefined && (isKept || error !== undefined));
  return { variable, options, selected, value: valueOf(variable, options, selected), ...(error && { error }) };
}

export interface Variables {
  states: VariableState[];
  values: Values;
  /** Whether all are known for what the address selects. */
  isReady: boolean;
}

const NO_VARIABLES: Variable[] = [];

export function useVariables(dashboard: Dashboard): Variables {
  const address = place.value.query;
  const key = [...address].filter(([name]) => name.startsWith("var-")).map(String).join("&");
  const times = range.value;
  // A draft that is edited keeps its list, so that other changes of it ask nothing again.
  const list = dashboard.variables ?? NO_VARIABLES;
  // Those that name nothing of the time range are asked once, as in Grafana.
  const dependsOnTime = list.some(({ refresh, query }) => refresh === "time" || /\$__(range|from|to)/.test(query ?? ""));
  const timeKey = dependsOnTime ? `${times.start} ${times.end}` : "";
  const [found, setFound] = useState<{ key: string; list: Variable[]; states: VariableState[] } | null>(null);
  // What could not be asked is asked again by the next refresh.
  const lastTry = useRef(readAtMs.peek());
  if (found?.states.some(({ error }) => error)) lastTry.current = readAtMs.value;
  const settled = useRef<{ address: URLSearchParams; values: Values } | null>(null);

  useEffect(() => {
    let isCurrent = true;
    const before = settled.current;
    void (async () => {
      const values: Values = {};
      const changed = new Set<string>();
      const outdated: Record<string, string[]> = {};
      // What a link names is kept; what was selected among the options of another value is not.
      const isKept = (variable: Variable) =>
        !before || !isEqual(inAddress(address, variable.name), inAddress(before.address, variable.name)) || !namesOf(variable).some((name) => changed.has(name));
      const byName = new Map<string, VariableState>();
      const builtIn = timeVariables(times);
      for (const level of levelsOf(inOrder(list))) {
        const states = await Promise.all(level.map((variable) => stateOf(variable, lookupOf(values, {}, builtIn), address, times, isKept(variable))));
        for (const state of states) {
          const { name } = state.variable;
          if (before && !isEqual(state.value, before.values[name])) changed.add(name);
          if (!isKept(state.variable) && inAddress(address, name)?.some((value) => !state.selected.includes(value))) outdated[name] = state.selected;
          values[name] = state.value;
          byName.set(name, state);
        }
      }
      if (!isCurrent) return;
      settled.current = { address, values };
      if (Object.keys(outdated).length) return write(outdated, true);
      const states = list.flatMap(({ name }) => byName.get(name) ?? []);
      setFound({ key, list, states });
    })();
    return () => {
      isCurrent = false;
    };
  }, [list, key, timeKey, lastTry.current, askedAgain.value]);

  return useMemo(() => {
    const states = found?.list === list ? found.states : [];
    const rangeMs = (times.end - times.start) * 1000;
    const values = Object.fromEntries(states.map((state) => [state.variable.name, atRange(state, rangeMs)]));
    return { states, values, isReady: found?.list === list && found.key === key };
  }, [found, list, key, times]);
}

function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** The variables that the query of one names. */
function namesOf({ query: text = "", regex = "" }: Variable): string[] {
  return [...variablesIn(`${text} ${regex}`)];
}

/** `auto` of an interval depends on the range. */
function atRange({ variable, selected, value }: VariableState, rangeMs: number): VariableValue {
  if (variable.kind !== "interval" || !selected[0]?.startsWith("$__auto")) return value;
  const text = autoInterval(rangeMs, variable.auto_count ?? 30, variable.auto_min ?? "10s");
  return { ...value, values: [text], texts: ["auto"] };
}

/** Variables that do not name each other are asked at the same time. */
function levelsOf(ordered: Variable[]): Variable[][] {
  const levels: Variable[][] = [];
  const levelOf = new Map<string, number>();
  for (const variable of ordered) {
    const level = Math.max(0, ...namesOf(variable).map((name) => (levelOf.get(name) ?? -1) + 1));
    levelOf.set(variable.name, level);
    (levels[level] ??= []).push(variable);
  }
  return levels;
}

function timeVariables({ start, end }: { start: number; end: number }): Record<string, string> {
  const seconds = Math.round(end - start);
  const interval = intervalText(Math.max(roundInterval((seconds * 1000) / 1000), 15_000));
  return {
    __from: String(Math.round(start * 1000)), __to: String(Math.round(end * 1000)),
    __range: `${seconds}s`, __range_s: String(seconds), __range_ms: String(seconds * 1000),
    __interval: interval, __interval_ms: "15000", __rate_interval: "1m0s",
  };
}

export { ALL };
