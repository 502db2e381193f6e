/**
 * The queries of Explore as they are in the address, by the names of Prometheus' own page: `g0.expr`
 * is the first expression, `g1.expr` the second one. So links of Prometheus and of alerts work.
 */
import { parseDurationMs } from "../../format/durations";
import { type QueryChange, place, setQuery } from "../../router";
import type { TimeRange } from "../../time/range";
import { timeBefore } from "../../time/relative";
import type { Finding } from "../../ui/promql/findings";

export const TABS = ["graph", "table", "samples", "explain"] as const;
export const MODES = ["lines", "stacked", "heatmap"] as const;
export type Tab = (typeof TABS)[number];
export type Mode = (typeof MODES)[number];

export interface Panel {
  expression: string;
  tab: Tab;
  mode: Mode;
  /** A duration or a number of seconds; empty for one that suits the range. */
  step: string;
  unit: string;
  /** With `{{label}}` for values of labels; empty for the whole name of the series. */
  legend: string;
  logarithmic: boolean;
  exemplars: boolean;
  /** How many series are asked for at most; 0 for the usual number. */
  limit: number;
  /** Whether explain runs the query and measures it. */
  measure: boolean;
}

/** What each tab has. */
export interface TabProps {
  panel: Panel;
  range: TimeRange;
  isNarrow: boolean;
  onChange: (change: Partial<Panel>) => void;
  /** Receives the places that the service says something about. */
  onFindings: (findings: Finding[]) => void;
}

export const EMPTY: Panel = {
  expression: "",
  tab: "graph",
  mode: "lines",
  step: "",
  unit: "",
  legend: "",
  logarithmic: false,
  exemplars: false,
  limit: 0,
  measure: false,
};

/** Prometheus numbers its two oldest tabs. */
const TAB_TEXTS: Record<Tab, string> = { graph: "0", table: "1", samples: "samples", explain: "explain" };

/** The resolutions of Prometheus that come with a step. */
const OWN_STEP = /^(fixed|custom)$/;

/** The panels of an address; one empty panel where it has none. */
export function readPanels(query: URLSearchParams): Panel[] {
  const panels: Panel[] = [];
  for (let index = 0; query.has(`g${index}.expr`); index += 1) {
    const get = (name: string) => query.get(`g${index}.${name}`) ?? "";
    const tab = TABS.find((name) => get("tab") === name || get("tab") === TAB_TEXTS[name]);
    const mode = get("display_mode") || (get("stacked") === "1" ? "stacked" : "lines");
    panels.push({
      expression: get("expr"),
      tab: tab ?? "graph",
      mode: MODES.find((name) => name === mode) ?? "lines",
      step: get("step_input") || (OWN_STEP.test(get("res_type")) ? get("res_step") : ""),
      unit: get("unit"),
      legend: get("legend"),
      logarithmic: get("log") === "1",
      exemplars: get("show_exemplars") === "1",
      limit: Number(get("limit")) || 0,
      measure: get("measure") === "1",
    });
  }
  return panels.length ? panels : [EMPTY];
}

/** Put panels into the address, in place of those that it has. */
export function writePanels(panels: readonly Panel[], options: { replace?: boolean } = {}): void {
  const change: QueryChange = {};
  for (const name of place.peek().query.keys()) if (/^g\d+\./.test(name)) change[name] = null;
  panels.forEach((panel, index) => {
    const put = (name: string, value: string | number | boolean) => {
      change[`g${index}.${name}`] = value;
    };
    // A space stands for an expression that is still to be written, as an empty one is left out.
    put("expr", panel.expression || " ");
    put("tab", TAB_TEXTS[panel.tab]);
    if (panel.mode !== "lines") put("display_mode", panel.mode);
    put("step_input", panel.step);
    put("unit", panel.unit);
    put("legend", panel.legend);
    put("log", panel.logarithmic);
    put("show_exemplars", panel.exemplars);
    put("limit", panel.limit || "");
    put("measure", panel.measure);
  });
  setQuery(change, options);
}

/**
 * Turn the range of Prometheus' links (`g0.range_input`, `g0.end_input` in UTC, or the one time of
 * its table) into that of the page.
 */
export function adoptRange(): void {
  const { query } = place.peek();
  const change: QueryChange = {};
  for (const [name, value] of query) {
    const [, panel = "", field] =
      /^(g\d+)\.(range_input|end_input|moment_input|stacked|res_\w+)$/.exec(name) ?? [];
    if (!field) continue;
    change[name] = null;
    if (field === "stacked" && value === "1") change[`${panel}.display_mode`] = "stacked";
    if (field === "res_type" && OWN_STEP.test(value)) {
      change[`${panel}.step_input`] = query.get(`${panel}.res_step`);
    }
  }
  if (!Object.keys(change).length) return;
  if (!query.has("from")) {
    const lengthMs = parseDurationMs(query.get("g0.range_input") ?? "") ?? 3_600_000;
    const end = query.get("g0.end_input") ?? query.get("g0.moment_input") ?? "";
    const endMs = Date.parse(`${end.replace(" ", "T").replace(/Z$/i, "")}Z`);
    change.from = Number.isNaN(endMs) ? timeBefore(lengthMs) : String(endMs - lengthMs);
    change.to = Number.isNaN(endMs) ? "now" : String(endMs);
  }
  setQuery(change, { replace: true });
}

/** The step in seconds that a panel asks for; null for one that suits the range. */
export function fixedStep(panel: Panel): number | null {
  const ms = panel.step ? parseDurationMs(panel.step) : null;
  return ms ? ms / 1000 : null;
}
