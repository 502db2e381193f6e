import assert from "node:assert/strict";
import { test } from "node:test";
import { cellsOf, histogramOf, intensity } from "./buckets";
import { paletteColor, spline, thresholdColor } from "./colors";
import { addPanel, copyPanel, movePanel, removeRow } from "./edits";
import { shown, withSettings } from "./fields";
import { framesOf, seriesNames } from "./frames";
import { interpolate, variablesIn } from "./interpolation";
import { goDuration, intervalText, roundInterval, stepsOf, stepVariables } from "./intervals";
import { compacted, placedRows } from "./layout";
import { fillsTo, graphData, withGaps } from "./lines";
import { reduceValues } from "./reducers";
import { singleValues } from "./single_values";
import { compareValues, transformed } from "./transformations";
import { formatDate, unitText } from "./units";
import { formatValue, numberOf } from "../../../format/numbers";
import { equalFilter, filterText } from "../../../format/series";
import { parseTime, timeBefore } from "../../../time/relative";
import { setZone, timeOfWall, wallClock } from "../../../time/zone";
import { sort } from "../../../ui/table";
import { inOrder, optionsOf, parseVariableQuery, selectedOf, valueOf, withFilters } from "./variables";

const HOUR = 3_600_000;
const steps = (rangeMs, maxDataPoints, more = {}) =>
  stepsOf({ rangeMs, maxDataPoints, panelInterval: "", queryInterval: "", factor: 1, scrapeMs: 15_000, ...more });

test("intervals are those of Grafana", () => {
  const cases = [
    [HOUR, 1000, "15s", "1m0s"], [HOUR, 100, "30s", "1m0s"], [6 * HOUR, 1000, "20s", "1m0s"],
    [24 * HOUR, 1000, "1m", "1m15s"], [24 * HOUR, 500, "2m", "2m15s", { panelInterval: "1m" }],
    [168 * HOUR, 1000, "10m", "10m15s"], [720 * HOUR, 1000, "30m", "30m15s"],
    [24 * HOUR, 500, "2m", "4m0s", { panelInterval: "1m", queryInterval: "1m" }],
  ];
  for (const [rangeMs, points, interval, rate, more] of cases) {
    const found = stepVariables(steps(rangeMs, points, more), rangeMs);
    assert.deepEqual([found["__interval"], found["__rate_interval"]], [interval, rate]);
  }
  assert.equal(steps(HOUR, 1000, { factor: 2 }).stepMs, 30_000);
  assert.equal(steps(HOUR, 1000, { queryInterval: "25s" }).stepMs, 25_000);
  const rate = steps(HOUR, 1000, { queryInterval: "$__rate_interval", factor: 2 });
  assert.deepEqual([rate.stepMs, rate.rateIntervalMs], [60_000, 60_000]);
  assert.equal(steps(HOUR, 1000, { queryInterval: "$__interval" }).rateIntervalMs, 60_000);
  assert.deepEqual([9, 20_000, 90_000].map(roundInterval), [1, 20_000, 120_000]);
  assert.deepEqual([90_000, 7_200_000, 250].map(intervalText), ["1m", "2h", "250ms"]);
  assert.deepEqual([150_000, 3_600_000, 15_000].map(goDuration), ["2m30s", "1h0m0s", "15s"]);
});

const variables = {
  one: { values: ["a.b"], texts: ["a.b"], isAll: false, isMulti: false },
  host: { values: ["10.0.0.1:9100"], texts: ["x"], isAll: false, isMulti: true },
  many: { values: ["a|b", "c"], texts: ["A", "C"], isAll: false, isMulti: true },
  all: { values: ["p", "q"], texts: ["P", "Q"], isAll: true, isMulti: true },
  raw: { values: ["p"], texts: ["P"], isAll: true, isMulti: true, allValue: "$one.+" },
  path: { values: ["C:\\x'y"], texts: [""], isAll: false, isMulti: false },
  cluster: "c", __from: "1700000000000",
};
const promql = (text) => interpolate(text, (name) => variables[name], "promql");

test("variables in expressions are escaped as Grafana escapes them", () => {
  const cases = {
    'x{a="$one"}': 'x{a="a.b"}',
    '{a=~"$host"}': '{a=~"10\\\\.0\\\\.0\\\\.1:9100"}',
    '{a=~"$many"}': '{a=~"(a\\\\|b|c)"}',
    '{a=~"${all}"}': '{a=~"(p|q)"}',
    '{a=~"$raw"}': '{a=~"a.b.+"}',
    "[[one]]": "a.b",
    "${many:pipe} ${many:csv} ${many:regex} ${many:text}": "a|b|c a|b,c (a\\|b|c) A + C",
    '$cluster_id label_replace(x, "a", "$1", "b", "(.*)") $none': '$cluster_id label_replace(x, "a", "$1", "b", "(.*)") $none',
    $path: "C:\\\\x\\\\'y",
    "${all:queryparam} ${many:queryparam}": "var-all=%24__all var-many=a%7Cb&var-many=c",
    "${__from:date:YYYY-MM} ${__from:date:seconds}": "2023-11 1700000000",
  };
  for (const [given, expected] of Object.entries(cases)) assert.equal(promql(given), expected);
  assert.equal(interpolate("$many", (name) => variables[name], "glob"), "{a|b,c}");
  assert.equal(interpolate("$all", (name) => variables[name], "text"), "All");
  assert.deepEqual([...variablesIn("$a ${b:x} [[c]] ${d.e}")], ["a", "b", "c", "d"]);
});

test("units are written as Grafana writes them", () => {
  const cases = [
    [0.5, "short", "0.500"], [999.9, "short", "1000"], [1234.5, "short", "1.23 K"], [1234567.8, "short", "1.23 Mil"],
    [1.5e12, "short", "1.50 Tri"], [-1536, "short", "-1.54 K"], [1234.5, "none", "1235"], [1e21, "none", "1e+21"],
    [0.5, "percentunit", "50%"], [0.0123, "percentunit", "1.23%"], [1 / 3, "percentunit", "33.3%"], [12.345, "percent", "12.3%"],
    [0, "s", "0 s"], [0.0123, "s", "12.3 ms"], [99.95, "s", "1.67 mins"], [60, "s", "1 min"], [12345, "s", "3.43 hours"],
    [123456, "s", "1.43 days"], [1234567.8, "s", "2.04 weeks"], [1234.5, "ms", "1.23 s"], [123456, "ms", "2.06 mins"],
    [123456, "µs", "123 ms"], [2.5, "d", "2.50 days"], [12345, "dtdurations", "3 hours"], [1023, "bytes", "1023 B"],
    [1234.5, "bytes", "1.21 KiB"], [1e9, "bytes", "954 MiB"], [1234.5, "mbytes", "1.21 GiB"], [0.5, "decbytes", "500 mB"],
    [1234.5, "decbytes", "1.23 kB"], [1e9, "bps", "1 Gb/s"], [12345, "pps", "12.3 kp/s"], [1234.5, "decmbytes", "1.23 GB"],
    [12.345, "ops", "12.3 ops/s"], [1234.5, "reqps", "1.23K req/s"], [1e9, "ops", "1B ops/s"], [21.34, "celsius", "21.3 °C"],
    [1234.5, "rotrpm", "1235 rpm"], [1234567.8, "locale", "1,234,567.8"], [1234.5, "currencyUSD", "$1.23K"],
    [-0.25, "currencyUSD", "-$0.250"], [0, "bool_yes_no", "No"], [12345, "clockms", "12s:345ms"],
    [1234567.8, "errps", "1234568 errps"], [NaN, "short", "NaN"], [99.95, "none", "100.0"], [12.345, "none", "12.3"],
  ];
  for (const [value, unit, expected] of cases) assert.equal(unitText(value, unit), expected, `${value} ${unit}`);
  assert.equal(unitText(12345, "dtdurations", 2), "3 hours, 25 minutes, 45 seconds");
  assert.deepEqual([unitText(2.5, "short", 0), unitText(2.5, "short", 3)], ["3", "2.500"]);
  assert.equal(formatDate(1.7e12, "YYYY-MM-DD HH:mm:ss", true), "2023-11-14 22:13:20");
});

test("names of series", () => {
  const series = [{ instance: "a", job: "x" }, { instance: "b", job: "x" }];
  assert.deepEqual(seriesNames(series, "{{ instance }}/{{none}}", false, "e"), ["a/", "b/"]);
  assert.deepEqual(seriesNames(series, "", false, "e"), ['{instance="a", job="x"}', '{instance="b", job="x"}']);
  assert.deepEqual(seriesNames(series, "", true, "e"), ['{instance="a", job="x"}', '{instance="b", job="x"}']);
  assert.deepEqual(seriesNames(series.map((one) => ({ ...one, __name__: "up" })), "", true, "e"), ['{instance="a"}', '{instance="b"}']);
  assert.deepEqual(seriesNames([{ a: "1" }, { a: "2" }], "", true, "e"), ["1", "2"]);
  assert.deepEqual(seriesNames([{}], "", false, "1 + 1"), ["1 + 1"]);
});

const answered = (series, more = {}) => ({ query: { ref: "A", expr: "e" }, expr: "e", legend: "", isInstant: false, start: 0, end: 30, step: 15, series, ...more });

test("answers become frames on the grid of their steps", () => {
  const [frame] = framesOf(answered([{ metric: { a: "1" }, values: [[0, "1"], [30, "+Inf"]] }]), false);
  assert.deepEqual(frame.fields.map(({ values }) => values), [[0, 15_000, 30_000], [1, null, Infinity]]);
  const table = framesOf(answered([{ metric: { b: "x" }, value: [30, "2"] }, { metric: { a: "y" }, value: [30, "3"] }],
    { query: { ref: "B", expr: "e", format: "table" }, isInstant: true }), true);
  assert.deepEqual(table[0].fields.map(({ name, values }) => [name, values]), [
    ["Time", [30_000, 30_000]], ["a", ["", "y"]], ["b", ["x", ""]], ["Value #B", [2, 3]],
  ]);
  const buckets = framesOf(answered([["+Inf", "9"], ["1", "2"], ["5", "6"]].map(([le, count]) => ({ metric: { le }, values: [[0, count]] })),
    { query: { ref: "A", expr: "e", format: "heatmap" } }), false);
  assert.deepEqual(buckets.map(({ fields }) => [fields[1].legendName, fields[1].values[0]]), [["1", 2], ["5", 4], ["+Inf", 3]]);
});

const table = (ref, columns) => ({ ref, format: "table", fields: Object.entries(columns).map(([name, values]) => ({
  name, values, settings: {}, type: name === "Time" ? "time" : typeof values[0] === "string" ? "string" : "number",
})) });
const plain = (frames) => frames.map(({ fields }) => Object.fromEntries(fields.map(({ name, settings, legendName, values }) => [settings.display_name ?? legendName ?? name, values])));
const A = table("A", { Time: [9, 9], host: ["a", "b"], "Value #A": [1, 2] });
const B = table("B", { Time: [9, 9], host: ["b", "c"], "Value #B": [3, 4] });

test("transformations", () => {
  const run = (frames, ...list) => plain(transformed(frames, list));
  assert.deepEqual(run([A, B], { id: "joinByField", options: { byField: "host", mode: "outer" } }), [
    { host: ["a", "b", "c"], "Time 1": [9, 9, null], "Value #A": [1, 2, null], "Time 2": [null, 9, 9], "Value #B": [null, 3, 4] },
  ]);
  assert.deepEqual(run([A, B], { id: "joinByField", options: { byField: "host", mode: "inner" } })[0].host, ["b"]);
  assert.deepEqual(run([A, B], { id: "merge" }), [{ Time: [9, 9, 9], host: ["a", "b", "c"], "Value #A": [1, 2, null], "Value #B": [null, 3, 4] }]);
  const organize = { id: "organize", options: { excludeByName: { Time: true }, indexByName: { "Value #A": 0, host: 1 }, renameByName: { host: "Host" } } };
  assert.deepEqual(Object.keys(run([A], organize)[0]), ["Value #A", "Host"]);
  const grouped = { id: "groupBy", options: { fields: { Time: { operation: "groupby" }, "Value #A": { operation: "aggregate", aggregations: ["sum", "max"] } } } };
  assert.deepEqual(run([A], grouped), [{ Time: [9], "Value #A (sum)": [3], "Value #A (max)": [2] }]);
  assert.deepEqual(run([A], { id: "sortBy", options: { sort: [{ field: "host", desc: true }] } })[0].host, ["b", "a"]);
  assert.deepEqual(run([A], { id: "filterFieldsByName", options: { include: { pattern: "/Value/", names: ["host"] } } }), [{ host: ["a", "b"], "Value #A": [1, 2] }]);
  assert.deepEqual(run([A], { id: "calculateField", options: { mode: "binary", binary: { left: "Value #A", operator: "*", right: "10" }, alias: "x" } })[0].x, [10, 20]);
  assert.deepEqual(run([A], { id: "renameByRegex", options: { regex: "Value #(.*)", renamePattern: "$1!" } })[0]["A!"], [1, 2]);
  assert.deepEqual(run([A], { id: "filterByValue", options: { type: "include", match: "all", filters: [{ fieldName: "Value #A", config: { id: "greater", options: { value: 1 } } }] } })[0].host, ["b"]);
  const [series] = framesOf(answered([{ metric: { a: "1", b: "z" }, values: [[0, "5"], [15, "7"]] }]), false);
  assert.deepEqual(run([series], { id: "reduce", options: { reducers: ["max", "lastNotNull"] } }), [{ Field: ['{a="1", b="z"}'], Max: [7], "Last *": [7] }]);
  assert.deepEqual(Object.keys(run([series], { id: "labelsToFields", options: { valueLabel: "b" } })[0]), ["Time", "a", "z"]);
  assert.deepEqual(run([A], { ...organize, disabled: true }), plain([A]));
});

test("overrides win in their order, and match by name, pattern, query, type and value", () => {
  const frames = [table("A", { Time: [1], "in": [1], out: [0] })];
  const found = withSettings(frames, { unit: "s", min: 0 }, [
    { matcher: { by: "regexp", name: "/^o/" }, settings: { unit: "bytes", transform: "negative_y" } },
    { matcher: { by: "name", name: "out" }, settings: { unit: "percent" } },
    { matcher: { by: "query", name: "A" }, settings: { decimals: 1 } },
    { matcher: { by: "type", name: "string" }, settings: { decimals: 9 } },
    { matcher: { by: "value", calc: "allIsZero", operator: "gte", operand: 1 }, settings: { hidden: { graph: true } } },
    { matcher: { by: "names", names: ["in"], exclude: true }, settings: { axis: "right" } },
  ]);
  assert.deepEqual(found[0].fields.slice(1).map(({ settings }) => settings), [
    { unit: "s", min: 0, decimals: 1 },
    { unit: "percent", min: 0, transform: "negative_y", decimals: 1, hidden: { graph: true }, axis: "right" },
  ]);
});

test("values are mapped and coloured", () => {
  const limits = { min: 0, max: 200 };
  const text = (value, settings) => shown(value, settings, limits, true).text;
  const mappings = [{ kind: "value", match: "1", text: "up", color: "blue" }, { kind: "range", start: 5, text: "many" }, { kind: "special", match: "null+nan", text: "?" }, { kind: "regex", match: "v(.*)", text: "$1" }];
  assert.deepEqual([1, 7, null, NaN, "v2", 3].map((value) => text(value, { mappings, unit: "bytes" })), ["up", "many", "?", "?", "2", "3"]);
  assert.equal(shown(1, { mappings }, limits, true).color, "#5794F2");
  const thresholds = { mode: "absolute", steps: [{ color: "green" }, { value: 80, color: "red" }] };
  assert.deepEqual([79, 80].map((value) => thresholdColor(value, thresholds, 0, 100)), ["green", "red"]);
  assert.equal(thresholdColor(160, { ...thresholds, mode: "percentage" }, 0, 200), "red");
  assert.equal(thresholdColor(5, { steps: [] }, 0, 1), "#808080");
  assert.deepEqual([paletteColor(0, true), paletteColor(1, true), paletteColor(64, true)], ["#73BF69", "#F2CC0C", "#73BF69"]);
  assert.equal(spline(["#000000", "#ffffff"], 0.5), "#808080");
});

test("calculations leave out gaps and NaN", () => {
  const values = [null, 3, NaN, 5, 1, null];
  const found = ["lastNotNull", "last", "min", "max", "mean", "sum", "count", "range", "delta", "diff", "firstNotNull"].map((id) => reduceValues(values, id));
  assert.deepEqual(found, [1, null, 1, 5, 3, 9, 3, 4, 3, -2, 3]);
  assert.deepEqual([reduceValues([], "mean"), reduceValues([], "sum"), reduceValues([0, 0], "allIsZero")], [null, 0, 1]);
});

test("queries and options of variables", () => {
  assert.deepEqual(parseVariableQuery('label_values(up{a="x,y"}, job)'), { kind: "label_values", selector: 'up{a="x,y"}', label: "job" });
  assert.deepEqual(parseVariableQuery("label_values({}, job)"), { kind: "label_values", selector: "", label: "job" });
  assert.equal(parseVariableQuery("query_result(sum(x) by (y))").expr, "sum(x) by (y)");
  assert.deepEqual([parseVariableQuery("up"), parseVariableQuery(" ")], [{ kind: "series", selector: "up" }, null]);
  const values = (list, regex, sort) => optionsOf(list, regex, sort).map(({ value }) => value);
  assert.deepEqual(values(["b", "a", "b"], "", "none"), ["b", "a"]);
  assert.deepEqual(values(["x10", "x9"], "", "numeric_asc"), ["x9", "x10"]);
  assert.deepEqual(values(["B", "a"], "", "asc"), ["B", "a"]);
  assert.deepEqual(values(["B", "a"], "", "ignore_case_desc"), ["B", "a"]);
  assert.deepEqual(values(['up{job="a"}', "down"], '/job="([^"]+)"/', "asc"), ["a"]);
  assert.deepEqual(values(["ab", "b"], "b", "none"), ["b"]);
  assert.deepEqual(optionsOf(["1 one"], "/(?<value>\\d+) (?<text>\\w+)/", "none"), [{ text: "one", value: "1" }]);
  const options = [{ text: "A", value: "a" }, { text: "B", value: "b" }];
  const select = (variable, wanted, isFromAddress = false) => selectedOf({ name: "v", kind: "query", ...variable }, options, wanted, isFromAddress);
  assert.deepEqual(select({}, ["b"]), ["b"]);
  assert.deepEqual(select({}, ["x"]), ["a"]);
  assert.deepEqual(select({}, ["x"], true), ["x"]);
  assert.deepEqual(select({ multi: true }, ["x", "b", "a"]), ["b", "a"]);
  assert.deepEqual(select({ include_all: true }, ["All"]), ["$__all"]);
  assert.deepEqual(valueOf({ name: "v", kind: "query", include_all: true }, options, ["$__all"]).values, ["a", "b"]);
  const ordered = inOrder([{ name: "c", query: "x($b)" }, { name: "b", query: "x($a)" }, { name: "a", query: "" }]);
  assert.deepEqual(ordered.map(({ name }) => name), ["a", "b", "c"]);
});

test("ad hoc filters are added to every selector", () => {
  const filters = [{ key: "a", operator: "=", value: "x" }];
  const cases = {
    "sum by (job) (rate(up[5m]))": 'sum by (job) (rate(up{a="x"}[5m]))',
    'x{b="}"} / on(job) y offset 5m': 'x{b="}",a="x"} / on(job) y{a="x"} offset 5m',
    "sum(x) by (le) > bool 1e3": 'sum(x{a="x"}) by (le) > bool 1e3',
    "x # it's {a}\n+ y": 'x{a="x"} # it\'s {a}\n+ y{a="x"}',
    "rate(x[5m] anchored) + x smoothed": 'rate(x{a="x"}[5m] anchored) + x{a="x"} smoothed',
  };
  assert.equal(withFilters("x", [{ key: "service.name", operator: "=~", value: 'a"b' }]), 'x{"service.name"=~"a\\"b"}');
  for (const [given, expected] of Object.entries(cases)) assert.equal(withFilters(given, filters), expected);
});

test("panels float up, and repeats are copied", () => {
  const at = (id, x, y, width, height, more = {}) => ({ id, type: "stat", grid: { x, y, width, height }, ...more });
  const places = (panels) => panels.map(({ grid }) => [grid.x, grid.y, grid.width]);
  assert.deepEqual(places(compacted([at(1, 0, 3, 12, 4), at(2, 12, 9, 12, 4), at(3, 0, 3, 12, 2)])), [[0, 0, 12], [0, 4, 12], [12, 0, 12]]);
  const values = { values: ["a", "b", "c"], texts: ["A", "B", "C"], isAll: false, isMulti: true };
  const rows = [
    { panels: [at(1, 0, 0, 6, 4, { repeat: { variable: "v", max_per_row: 2 } }), at(2, 0, 4, 24, 4)] },
    { title: "$v", repeat: "v", panels: [at(3, 0, 0, 24, 4)] },
  ];
  const placed = placedRows(rows, (name) => (name === "v" ? values : undefined));
  assert.deepEqual(places(placed[0].panels), [[0, 0, 12], [12, 0, 12], [0, 4, 12], [0, 8, 24]]);
  assert.deepEqual(placed.slice(1).map(({ scope }) => scope.v.values), [["a"], ["b"], ["c"]]);
});

const series = (name, values, settings = {}) => ({ ref: "A", format: "time_series", fields: [
  { name: "Time", type: "time", values: values.map((_, index) => index * 1000), settings: {} },
  { name: "Value", type: "number", legendName: name, values, settings },
] });

test("stacks have gaps only where all lines have one, and negative lines go down", () => {
  const stacking = { mode: "normal", group: "A" };
  const frames = [series("a", [1, null, null], { stacking }), series("b", [2, 5, null], { stacking }),
    series("c", [4, 4, 4], { stacking, transform: "negative_y" }), series("d", [9, 9, 9])];
  const { times, lines } = graphData(frames, true);
  assert.deepEqual(times, [0, 1, 2]);
  assert.deepEqual(lines.map(({ drawn }) => drawn), [[1, 0, null], [3, 5, null], [-4, -4, -4], [9, 9, 9]]);
  assert.deepEqual(lines.map(({ values }) => values[0]), [1, 2, 4, 9]);
  assert.deepEqual(fillsTo(lines, () => false), [undefined, 0, undefined, undefined]);
  assert.deepEqual(graphData(frames, true, (name) => name === "a").lines[1].drawn, [2, 5, null]);
  const percent = graphData(frames.slice(0, 2).map((frame) => withSettings([frame], { stacking: { mode: "percent" } })[0]), true).lines;
  assert.deepEqual(percent.map(({ drawn }) => drawn), [[1 / 3, 0, null], [1, 1, null]]);
  const axes = graphData([series("a", [1], { unit: "s" }), series("b", [1], { unit: "s" }), series("c", [1], { unit: "s", axis: "right" })], true).lines;
  assert.equal(new Set(axes.map(({ scale }) => scale)).size, 2);
  assert.deepEqual(withGaps([1, null, 2, null, null, 3], [0, 1, 2, 3, 4, 5], { span_nulls: 2000 }), [1, undefined, 2, null, null, 3]);
});

test("single values are calculations of fields, or rows", () => {
  const frames = [series("a", [1, 3]), series("b", [5, null])];
  const values = (reduce) => singleValues(frames, reduce, true).map(({ name, value }) => [name, value]);
  assert.deepEqual(values({ calcs: ["lastNotNull"] }), [["a", 3], ["b", 5]]);
  assert.deepEqual(values({ calcs: ["min", "max"] })[1], ["a (Max)", 3]);
  assert.deepEqual(values({ values: true, limit: 1 }), [["a", 1], ["b", 5]]);
  assert.deepEqual(values({ fields: "/^b$/" }), [["b", 5]]);
});

test("times are those of the zone of the dashboard, which an unknown one does not change", () => {
  setZone("Europe/Berlin");
  assert.equal(formatDate(1.7e12, "YYYY-MM-DD HH:mm:ss"), "2023-11-14 23:13:20");
  // The clock goes from 3 back to 2 on that day.
  const before = Date.UTC(2023, 9, 28, 22);
  const day = wallClock(before);
  assert.equal(day.getUTCHours(), 0);
  day.setUTCDate(day.getUTCDate() + 1);
  assert.equal(timeOfWall(day) - before, 25 * 3_600_000);
  setZone("utc");
  assert.equal(formatDate(1.7e12, "HH:mm"), "22:13");
  const own = new Date(1.7e12).getHours();
  for (const name of ["Moon/Crater", "browser"]) {
    setZone(name);
    assert.equal(formatDate(1.7e12, "H"), String(own));
  }
});

test("numbers of the API are sorted as numbers, the infinities at the ends and NaN last", () => {
  const column = { name: "Value", value: numberOf };
  const texts = ["+Inf", "1", "NaN", "-Inf", "+Inf", "-5", "10"];
  assert.deepEqual(sort(texts, [column], "Value"), ["-Inf", "-5", "1", "10", "+Inf", "+Inf", "NaN"]);
  assert.deepEqual(sort(texts, [column], "-Value"), ["+Inf", "+Inf", "10", "1", "-5", "-Inf", "NaN"]);
});

test("the buckets of native histograms are rows of a heatmap, those of all series together", () => {
  const histogram = (...buckets) => ({ count: "1", sum: "1", buckets: buckets.map(([low, high, count]) => [0, low, high, count]) });
  const series = [
    { metric: { a: "1" }, histograms: [[10, histogram(["2", "4", "3"], ["0.5", "1", "1"])]] },
    { metric: { a: "2" }, histograms: [[10, histogram(["2", "4", "1"])], [20, histogram(["4", "+Inf", "7"])]] },
  ];
  const answered = { query: { ref: "A", expr: "x" }, expr: "x", legend: "", isInstant: false, start: 10, end: 20, step: 10, series };
  const found = cellsOf(framesOf(answered, false, true));
  assert.deepEqual([found.times, found.rows], [[10_000, 20_000], ["1", "4", "+Inf"]]);
  assert.deepEqual(found.counts, [[1, null], [4, null], [null, 7]]);
});

test("what is missing comes last in either order", () => {
  const found = [2, null, 1, Number.NaN, 3];
  assert.deepEqual(found.toSorted((a, b) => compareValues(a, b)), [1, 2, 3, null, Number.NaN]);
  assert.deepEqual(found.toSorted((a, b) => compareValues(a, b, true)), [3, 2, 1, null, Number.NaN]);
  const table = { ref: "A", format: "table", fields: [{ name: "v", type: "number", values: found, settings: {} }] };
  const [sorted] = transformed([table], [{ id: "sortBy", options: { sort: [{ field: "v", desc: true }] } }]);
  assert.deepEqual(sorted.fields[0].values, [3, 2, 1, null, Number.NaN]);
});

test("decimals that no number has are taken for the nearest that one has", () => {
  assert.deepEqual([unitText(0, "none", -1), unitText(1.5, "none", -1), unitText(1234, "sci", -1), unitText(0, "none", 2)], ["0", "2", "1e+3", "0.00"]);
});

test("heatmaps and histograms", () => {
  const rows = cellsOf([series("10", [1, 0]), series("2", [3, 4])]);
  assert.deepEqual([rows.rows, rows.counts], [["2", "10"], [[3, 4], [1, 0]]]);
  const made = cellsOf([series("a", [1, 2, 9])], { calculate: true, y_buckets: { size: 5 }, x_buckets: { size: 2000 } });
  assert.deepEqual([made.rows, made.counts], [["5", "10"], [[2, 0], [0, 1]]]);
  assert.deepEqual([intensity(0, 0, 4), intensity(4, 0, 4), intensity(1, 0, 4, { color: { steps: 3 } })], [null, 1, 0.5]);
  assert.deepEqual(histogramOf([series("a", [1, 2, 9])], 30, 5).map(({ from, count }) => [from, count]), [[0, 2], [5, 1]]);
});

test("panels are added, copied and moved without covering each other", () => {
  const { dashboard, panel } = addPanel({ title: "D", rows: [{ panels: [{ id: 4, type: "stat", grid: { x: 0, y: 0, width: 12, height: 4 } }] }] });
  assert.deepEqual([panel.id, panel.grid.y], [5, 4]);
  const places = ({ rows }) => Object.fromEntries(rows.flatMap(({ panels }) => panels).map(({ id, grid }) => [id, [grid.x, grid.y, grid.width, grid.height]]));
  assert.deepEqual(places(movePanel(dashboard, 5, 12, -4, false)), { 4: [0, 0, 12, 4], 5: [12, 0, 12, 8] });
  assert.deepEqual(places(movePanel(dashboard, 5, 0, -4, false)), { 4: [0, 8, 12, 4], 5: [0, 0, 12, 8] });
  assert.deepEqual(places(movePanel(dashboard, 4, 99, 2, true))[4], [0, 0, 24, 6]);
  assert.deepEqual(places(copyPanel(dashboard, panel))[6], [0, 12, 12, 8]);
  const rows = [{ panels: dashboard.rows[0].panels }, { title: "R", panels: [{ id: 9, type: "stat", grid: { x: 0, y: 0, width: 6, height: 3 } }] }];
  assert.deepEqual(places(removeRow({ title: "D", rows }, 1))[9], [0, 12, 6, 3]);
});

test("a filter for one value is a text that is read as that value", () => {
  const text = (value, lost) => filterText(equalFilter("a", value, lost));
  assert.deepEqual(["x.y", "a,b", "~x", " x", "x ", "a\nb"].map((value) => text(value)),
    ["a=x.y", "a=a,b", "a=~~x", "a=~\\x{20}x", "a=~x\\x{20}", "a=~a\\x{a}b"]);
  assert.equal(text("a,b", /,/), "a=~a\\x{2c}b");
});

const utc = (...fields) => new Date(Date.UTC(...fields)).toISOString();
const iso = (text, now, roundsUp) => new Date(parseTime(text, Date.parse(now), roundsUp)).toISOString();

test("a day begins when the clock that is put forward at midnight begins it", () => {
  setZone("America/Santiago");
  assert.equal(iso("now/d", "2026-09-06T15:00:00Z"), "2026-09-06T04:00:00.000Z");
  assert.equal(iso("now/d", "2026-09-05T15:00:00Z", true), "2026-09-06T03:59:59.999Z");
  setZone("America/New_York");
  // Half past two is left out on that day.
  assert.equal(iso("now-1d", "2026-03-09T06:30:00Z"), "2026-03-08T07:30:00.000Z");
  assert.equal(iso("now-1d", "2026-03-08T15:00:00Z"), "2026-03-07T16:00:00.000Z");
  setZone("browser");
});

test("an hour that the clock shows twice is the one of now", () => {
  for (const [name, changed] of [["Europe/Berlin", Date.UTC(2026, 9, 25, 1)], ["America/New_York", Date.UTC(2026, 10, 1, 6)]]) {
    setZone(name);
    for (const hour of [-1, 0]) {
      const start = changed + hour * HOUR;
      const now = new Date(start + 1_825_500).toISOString();
      assert.equal(iso("now/h", now), new Date(start).toISOString());
      assert.equal(iso("now/h", now, true), new Date(start + HOUR - 1).toISOString());
      assert.equal(iso("now-5m/m", now), new Date(start + 1_500_000).toISOString());
    }
  }
  setZone("Asia/Kolkata");
  assert.equal(iso("now/h", "2026-01-01T12:10:00Z"), utc(2026, 0, 1, 11, 30));
  setZone("browser");
});

test("a time before now has one unit, which is read again", () => {
  assert.deepEqual([90 * 60, 80 * 60, 3600, 86_400 * 14, 86_400 * 61 + 3600, 90, 0.2].map((seconds) => timeBefore(seconds * 1000)),
    ["now-90m", "now-80m", "now-1h", "now-2w", "now-1465h", "now-90s", "now-1s"]);
  assert.equal(parseTime(timeBefore(5_400_000), 1e12), 1e12 - 5_400_000);
});

test("a number has no more zeros than can be read", () => {
  assert.equal(unitText(1e-300), "1e-300");
  assert.equal(unitText(-2.5e-30), "-2.5e-30");
  assert.equal(unitText(0.00012345), "0.000123");
  assert.equal(formatValue(1.7e308), "1.700e+308");
  assert.equal(formatValue(1.5e25), "15 Y");
  assert.equal(formatValue(1e300, "bytes"), "1.000e+300 B");
});
