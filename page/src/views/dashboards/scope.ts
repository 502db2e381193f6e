/** What variables stand for in the texts of a dashboard, and where its links lead. */
import { hrefOf, place } from "../../router";
import { zone } from "../../time/zone";
import { ALL, interpolate, type Lookup, queryParameters, type VariableValue } from "./logic/interpolation";

export type Values = Record<string, VariableValue>;

/** Local values (of repeats) win over those of the dashboard, these over built-in ones. */
export function lookupOf(values: Values, local: Values, builtIn: Record<string, string>): Lookup {
  return (name, path) => {
    const found = local[name] ?? values[name];
    if (found && path === "text") return found.isAll ? "All" : found.texts.join(" + ");
    if (found) return found;
    return builtIn[path ? `${name}.${path}` : name];
  };
}

/** The built-in variables that do not depend on a query. */
export function builtInVariables(uid: string, title: string, values: Values, range: { start: number; end: number }): Record<string, string> {
  const query = place.value.query;
  const [from, to] = [Math.round(range.start * 1000), Math.round(range.end * 1000)];
  return {
    __from: String(from),
    __to: String(to),
    __dashboard: title,
    "__dashboard.uid": uid,
    "__org.id": "1",
    "__org.name": "Main Org.",
    "__user.login": "",
    __timezone: zone.value ?? "browser",
    __url: window.location.href,
    "__url.params": window.location.search,
    __url_time_range: `from=${encodeURIComponent(query.get("from") ?? String(from))}&to=${encodeURIComponent(query.get("to") ?? String(to))}`,
    __all_variables: Object.entries(values)
      .map(([name, value]) => queryParameters(`var-${name}`, value))
      .join("&"),
  };
}

/** Addresses that may be opened; a dashboard of Grafana (`/d/uid/…`) is one of this page. */
export function safeHref(url: string): string | undefined {
  const text = url.trim();
  const dashboard = /^(?:https?:\/\/[^/]+)?\/?(?:[\w-]+\/)?d\/([\w-]+)(?:\/[^?#]*)?(?:\?([^#]*))?/.exec(text);
  if (dashboard && !/^https?:/.test(text)) {
    const query = new URLSearchParams(dashboard[2] ?? "");
    query.set("uid", dashboard[1] ?? "");
    return hrefOf("dashboards", query);
  }
  return /^(https?:|mailto:)/i.test(text) || !hasScheme(text) ? text : undefined;
}

/** The address of a link of a panel or of data, with the variables of the value that it is for. */
export function linkHref(url: string, lookup: Lookup, data: Record<string, string> = {}): string | undefined {
  const withData: Lookup = (name, path) => {
    const key = path ? `${name}.${path}` : name;
    return key in data ? data[key] : lookup(name, path);
  };
  return safeHref(interpolate(url, withData, "glob"));
}

/** Browsers leave out spaces and control characters in an address, so that they hide no scheme. */
function hasScheme(url: string): boolean {
  const visible = [...url].filter((character) => character > " ").join("");
  return /^[a-z][a-z0-9+.-]*:/i.test(visible);
}

export { ALL };
