/** Options of variables: what their queries mean, what of each result counts, and what is selected. */
import { escapeRegex, promqlName, quote } from "../../../format/series";
import { ALL, interpolate, type Lookup, type VariableValue, variablesIn } from "./interpolation";
import type { Filter, Option, Variable } from "./types";

export type VariableQuery =
  | { kind: "label_values"; label: string; selector: string }
  | { kind: "label_names"; selector: string }
  | { kind: "metrics"; pattern: string }
  | { kind: "query_result"; expr: string }
  | { kind: "series"; selector: string };

/** What a query asks for; null for none. `label_values` splits at the last comma. */
export function parseVariableQuery(text: string): VariableQuery | null {
  const query = text.trim();
  if (!query) return null;
  const call = /^(label_values|label_names|metrics|query_result)\s*\(([\s\S]*)\)$/.exec(query);
  const inside = call?.[2]?.trim() ?? "";
  switch (call?.[1]) {
    case "label_values": {
      const comma = inside.lastIndexOf(",");
      const selector = comma < 0 ? "" : inside.slice(0, comma).trim();
      return { kind: "label_values", label: inside.slice(comma + 1).trim(), selector: /^(\{\s*\})?$/.test(selector) ? "" : selector };
    }
    case "label_names": return { kind: "label_names", selector: inside };
    case "metrics": return { kind: "metrics", pattern: inside };
    case "query_result": return { kind: "query_result", expr: inside };
    default: return { kind: "series", selector: query };
  }
}

/** The options in the results of a query: cut by the regular expression, without duplicates, sorted. */
export function optionsOf(results: readonly string[], regex: string, sort: string): Option[] {
  const found = regex ? results.flatMap((text) => cut(text, regex)) : results.map((text) => ({ text, value: text }));
  const seen = new Set<string>();
  const distinct = found.filter(({ value }) => !seen.has(value) && seen.add(value));
  return sorted(distinct, sort);
}

function cut(text: string, regex: string): Option[] {
  const slashed = /^\/([\s\S]*)\/([a-z]*)$/.exec(regex);
  let pattern: RegExp;
  try {
    pattern = slashed ? new RegExp(slashed[1] ?? "", slashed[2] ?? "") : new RegExp(`^${regex}$`);
  } catch {
    return [];
  }
  const matches = pattern.global ? [...text.matchAll(pattern)] : [pattern.exec(text)].filter((match) => match !== null);
  return matches.map((match) => {
    const { value, text: label } = match.groups ?? {};
    const chosen = value ?? label ?? match[1] ?? match[0];
    return { text: label ?? chosen, value: chosen };
  });
}

function firstNumber(text: string): number {
  return Number(/\d+/.exec(text)?.[0] ?? -1);
}

const ORDERS: Record<string, (a: Option, b: Option) => number> = {
  asc: (a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0),
  numeric: (a, b) => firstNumber(a.text) - firstNumber(b.text),
  ignore_case: (a, b) => a.text.toLowerCase().localeCompare(b.text.toLowerCase()),
  natural: (a, b) => a.text.localeCompare(b.text, undefined, { numeric: true }),
};

function sorted(options: Option[], sort: string): Option[] {
  const order = ORDERS[sort.replace(/_?(asc|desc)$/, "") || "asc"];
  if (!order || sort === "none") return options;
  const found = options.toSorted(order);
  return sort.endsWith("desc") ? found.toReversed() : found;
}

/**
 * What is selected of the options: what was, as far as it is among them, else the first one. What
 * the address names is kept.
 */
export function selectedOf(variable: Variable, options: readonly Option[], wanted: readonly string[], isFromAddress: boolean): string[] {
  const has = (value: string) => options.some((option) => option.value === value);
  const byText = (text: string) => options.find((option) => option.text === text)?.value;
  const current = wanted.filter((value) => value !== "");
  if (variable.include_all && current.some((value) => value === ALL || (value === "All" && !has("All")))) return [ALL];
  const known = current.flatMap((value) => (has(value) ? [value] : (byText(value) ?? (isFromAddress ? value : []))));
  if (known.length) return variable.multi ? known : known.slice(0, 1);
  const [first] = options;
  // Without a selection, one of several values is the first, as one of a single value is.
  if (first) return [first.value];
  return variable.include_all ? [ALL] : [];
}

/** What a variable stands for in texts. */
export function valueOf(variable: Variable, options: readonly Option[], selected: readonly string[]): VariableValue {
  const isAll = selected.length === 1 && selected[0] === ALL && Boolean(variable.include_all);
  const chosen = isAll ? options.map(({ value }) => value) : [...selected];
  const texts = chosen.map((value) => options.find((option) => option.value === value)?.text ?? value);
  return {
    values: chosen.length ? chosen : [""],
    texts: texts.length ? texts : [""],
    isAll,
    ...(variable.all_value ? { allValue: variable.all_value } : {}),
    isMulti: Boolean(variable.multi || variable.include_all),
  };
}

/** The variables in an order in which each comes after those that it names. */
export function inOrder(variables: readonly Variable[]): Variable[] {
  const rest = [...variables];
  const done: Variable[] = [];
  while (rest.length) {
    const index = rest.findIndex((variable) => {
      const names = variablesIn(`${variable.query ?? ""} ${variable.regex ?? ""}`);
      return !rest.some((other) => other !== variable && names.has(other.name));
    });
    // Variables that name each other run in the order they have.
    done.push(...rest.splice(Math.max(index, 0), 1));
  }
  return done;
}

/** The regular expression with its variables replaced by what matches their values. */
export function regexOf(variable: Variable, lookup: Lookup): string {
  return interpolate(variable.regex ?? "", (name, path) => {
    const found = lookup(name, path);
    if (found === undefined || typeof found === "string") return found === undefined ? undefined : escapeRegex(found);
    const escaped = found.values.map(escapeRegex);
    return escaped.length === 1 ? escaped[0] : `(${escaped.join("|")})`;
  }, "glob");
}

/** The ad hoc filters that hold: those of the address (`var-name=key|=|value`, as in Grafana), else its own. */
export function filtersOf(variable: Variable, address: URLSearchParams): Filter[] {
  const given = address.getAll(`var-${variable.name}`);
  if (!given.length) return variable.filters ?? [];
  return given.flatMap((text) => {
    const [key = "", operator = "", ...value] = text.split("|").map((part) => part.replaceAll("__gfp__", "|"));
    const known = FILTER_OPERATORS.find((one) => one === operator);
    return key && known ? [{ key, operator: known, value: value.join("|") }] : [];
  });
}

export const FILTER_OPERATORS = ["=", "!=", "=~", "!~"] as const;

/** A filter as the address has it. */
export function filterText({ key, operator, value }: Filter): string {
  return [key, operator, value].map((part) => part.replaceAll("|", "__gfp__")).join("|");
}

/** An expression with these matchers added to each of its selectors. */
export function withFilters(expr: string, filters: readonly { key: string; operator: string; value: string }[]): string {
  if (!filters.length) return expr;
  const matchers = filters.map(({ key, operator, value }) => `${promqlName(key)}${operator}${quote(value)}`).join(",");
  return addMatchers(expr, matchers);
}

const WORD = /[a-zA-Z_:][\w:]*/y;
const KEYWORDS = new Set(["by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "anchored", "smoothed", "and", "or", "unless", "atan2", "inf", "nan", "start", "end"]);
const GROUPINGS = new Set(["by", "without", "on", "ignoring", "group_left", "group_right"]);

/** Walks over the text: names that are no functions, keywords or labels are selectors. */
function addMatchers(expr: string, matchers: string): string {
  let [result, at] = ["", 0];
  while (at < expr.length) {
    const char = expr[at] ?? "";
    if (char === '"' || char === "'" || char === "`") {
      const end = endOfString(expr, at);
      result += expr.slice(at, end);
      at = end;
    } else if (char === "#") {
      const end = expr.indexOf("\n", at);
      result += expr.slice(at, end < 0 ? expr.length : end);
      at = end < 0 ? expr.length : end;
    } else if (char === "[") {
      const end = expr.indexOf("]", at);
      result += expr.slice(at, end < 0 ? expr.length : end + 1);
      at = end < 0 ? expr.length : end + 1;
    } else if (char === "{") {
      const end = endOfBraces(expr, at);
      const inside = expr.slice(at + 1, end - 1).trim().replace(/,$/, "");
      result += `{${inside}${inside ? "," : ""}${matchers}}`;
      at = end;
    } else if (/[a-zA-Z_:]/.test(char)) {
      WORD.lastIndex = at;
      const word = WORD.exec(expr)?.[0] ?? char;
      at += word.length;
      result += word;
      const next = /\S/.exec(expr.slice(at))?.[0];
      if (GROUPINGS.has(word.toLowerCase()) && next === "(") {
        const end = expr.indexOf(")", at) + 1;
        result += expr.slice(at, end);
        at = end;
      } else if (next !== "(" && next !== "{" && !KEYWORDS.has(word.toLowerCase()) && !isGroupedAggregation(expr, at)) {
        result += `{${matchers}}`;
      }
    } else if (/[0-9]/.test(char)) {
      const number = /^[0-9][0-9a-zA-Z_.]*/.exec(expr.slice(at))?.[0] ?? char;
      result += number;
      at += number.length;
    } else {
      result += char;
      at += 1;
    }
  }
  return result;
}

/** `sum by (…) (…)`: the aggregation stands before its grouping. */
function isGroupedAggregation(expr: string, at: number): boolean {
  return /^\s*(by|without)\s*\(/i.test(expr.slice(at));
}

function endOfString(text: string, start: number): number {
  const quote = text[start];
  let at = start + 1;
  while (at < text.length && text[at] !== quote) at += text[at] === "\\" && quote !== "`" ? 2 : 1;
  return at + 1;
}

function endOfBraces(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== "}") at = /["'`]/.test(text[at] ?? "") ? endOfString(text, at) : at + 1;
  return at + 1;
}
