/** Variables in texts: `$name`, `${name}`, `${name:format}`, `${name.field}`, `[[name]]`. */

import { escapeRegex } from "../../../format/series";

export const ALL = "$__all";

/** What a variable stands for. */
export interface VariableValue {
  values: string[];
  texts: string[];
  isAll: boolean;
  /** What stands for All in place of the options, as it is. */
  allValue?: string;
  /** Whether it may have several values, so that its values are parts of regular expressions. */
  isMulti: boolean;
}

export type Lookup = (name: string, path: string | undefined) => VariableValue | string | undefined;
export type Format = "promql" | "glob" | "text";

const VARIABLE =
  /\$(\w+)|\[\[(\w+)(?::(\w+))?\]\]|\$\{(\w+)(?:\.([^:}]+)|\[(?:"([^"]*)"|'([^']*)'|(\d+))\]([^:}]*))?(?::([^}]+))?\}/g;

/**
 * The text with its variables replaced; unknown ones stay as they are. `format` is for those that
 * name none.
 */
export function interpolate(text: string, lookup: Lookup, format: Format, depth = 0): string {
  if (!text.includes("$") && !text.includes("[[")) return text;
  return text.replace(VARIABLE, (found, plain, old, oldFormat, braced, path, key, key2, index, rest, own) => {
    const name: string = plain ?? old ?? braced;
    const subPath: string | undefined =
      path ?? (key !== undefined || key2 !== undefined || index !== undefined ? `${key ?? key2 ?? index}${rest ?? ""}` : undefined);
    const value = lookup(name, subPath);
    if (value === undefined) return found;
    const given: string | undefined = own ?? oldFormat;
    if (typeof value === "string") return given ? formatted(name, single(value), given) : value;
    if (value.isAll && value.allValue !== undefined && given !== "text" && format !== "text") {
      // Itself a text with variables, and never escaped.
      return depth < 5 ? interpolate(value.allValue, lookup, format, depth + 1) : value.allValue;
    }
    return formatted(name, value, given ?? format);
  });
}

function single(text: string): VariableValue {
  return { values: [text], texts: [text], isAll: false, isMulti: false };
}

/** The names of the variables in a text. */
export function variablesIn(text: string): Set<string> {
  const found = new Set<string>();
  for (const match of text.matchAll(VARIABLE)) {
    const name = match[1] ?? match[2] ?? match[4];
    if (name) found.add(name);
  }
  return found;
}

function formatted(name: string, value: VariableValue, format: string): string {
  const { values } = value;
  const [kind, ...parameters] = format.split(":");
  const parameter = parameters.join(":");
  const first = values[0] ?? "";
  const each = (change: (text: string) => string, separator = ",") => values.map(change).join(separator);
  switch (kind) {
    case "promql":
      return promql(value);
    case "text":
      return value.isAll ? "All" : value.texts.join(" + ");
    case "raw":
    case "csv":
      return values.join(",");
    case "pipe":
      return values.join("|");
    case "regex":
      return values.length === 1 ? escapeRegex(first) : `(${each(escapeRegex, "|")})`;
    case "json":
      return JSON.stringify(values.length === 1 ? first : values);
    case "singlequote":
      return each((text) => `'${text.replaceAll("'", "\\'")}'`);
    case "doublequote":
      return each((text) => `"${text.replaceAll('"', '\\"')}"`);
    case "sqlstring":
      return each((text) => `'${text.replaceAll("'", "''")}'`);
    case "html":
      return escapeHtml(values.join(", "));
    case "percentencode":
      return encodeURIComponentStrict(glob(values));
    case "uriencode":
      return encodeURI(glob(values));
    case "lucene":
      return values.length === 1 ? lucene(first) : `(${each((text) => `"${lucene(text)}"`, " OR ")})`;
    case "distributed":
      return values.map((text, index) => (index ? `${name}=${text}` : text)).join(",");
    case "join":
      return values.join(parameter || ",");
    case "queryparam":
      return queryParameters(`var-${name}`, value);
    case "customqueryparam": {
      const [key = name, prefix = ""] = parameters;
      return values.map((text) => `${encodeURIComponent(key)}=${encodeURIComponent(prefix + text)}`).join("&");
    }
    case "date":
      return dateText(first, parameter);
    default:
      return glob(values);
  }
}

function glob(values: string[]): string {
  return values.length === 1 ? (values[0] ?? "") : `{${values.join(",")}}`;
}

/**
 * Inside a string of PromQL: values of variables that may have several are regular expressions,
 * whose backslashes the string doubles.
 */
function promql({ values, isMulti }: VariableValue): string {
  if (!isMulti) return (values[0] ?? "").replaceAll("\\", "\\\\").replaceAll("'", "\\\\'").replaceAll('"', '\\"');
  const escaped = values.map((text) =>
    text.replaceAll("\\", "\\\\\\\\").replace(/[$^*{}[\]+?.()|]/g, "\\\\$&").replaceAll('"', '\\"'),
  );
  return escaped.length === 1 ? (escaped[0] ?? "") : `(${escaped.join("|")})`;
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (found) => `&#${found.charCodeAt(0)};`);
}

function encodeURIComponentStrict(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (found) => `%${found.charCodeAt(0).toString(16).toUpperCase()}`);
}

function lucene(text: string): string {
  return text.replace(/[!*+\-=<>\s&|()[\]{}^~?:\\/"]/g, "\\$&");
}

export function queryParameters(name: string, value: VariableValue): string {
  const values = value.isAll ? [ALL] : value.values;
  return values.map((text) => `${encodeURIComponent(name)}=${encodeURIComponent(text)}`).join("&");
}

function dateText(ms: string, format: string): string {
  const date = new Date(Number(ms));
  if (Number.isNaN(date.getTime())) return ms;
  if (format === "seconds") return String(Math.floor(date.getTime() / 1000));
  if (format === "ms") return String(date.getTime());
  const iso = date.toISOString();
  if (!format || format === "iso") return iso;
  const parts: Record<string, string> = {
    YYYY: iso.slice(0, 4), MM: iso.slice(5, 7), DD: iso.slice(8, 10),
    HH: iso.slice(11, 13), mm: iso.slice(14, 16), ss: iso.slice(17, 19),
  };
  return format.replace(/YYYY|MM|DD|HH|mm|ss/g, (part) => parts[part] ?? part);
}
