/** Panels of the type timeseries: uPlot with the axes, stacks and fills of the document. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatTime, plotDate } from "../../../format/times";
import { type Exemplar, ExemplarFacts, drawExemplars, exemplarAt, useExemplars } from "../../../plot/exemplars";
import { zone } from "../../../time/zone";
import { type Mark, Swatch } from "../../../plot/plot";
import { FONT, timeAxis, widthOf } from "../../../plot/axes";
import { colour, isDark } from "../../../theme";
import { zoomTo } from "../../../time/range";
import { namedColor } from "../logic/colors";
import { compareValues } from "../logic/transformations";
import { reduceValues, reducerTitle } from "../logic/reducers";
import { fillsTo, type GraphData, graphData, type GraphLine, withGaps } from "../logic/lines";
import type { FieldSettings, PanelOptions } from "../logic/types";
import { formatUnit, isBinary, unitText } from "../logic/units";
import type { PanelProps } from "./props";

const TOOLTIP_ROWS = 20;
const MANY = 200;
const LEGEND_ROWS = 500;

interface Hover {
  left: number;
  top: number;
  row: number;
  nearest: number;
  exemplar?: Exemplar | undefined;
}

export function Graph({ panel, data, range, marks, cursorKey, height }: PanelProps) {
  const [off, setOff] = useState<ReadonlySet<string>>(new Set());
  const options = panel.options ?? {};
  const dark = isDark.value;
  const isOff = (name: string) => off.has(name);
  const graph = useMemo(() => graphData(data.frames, dark, isOff), [data.frames, dark, off]);
  const withExemplars = data.asked.filter(({ query, isInstant }) => query.exemplars && !isInstant);
  const exemplars = useExemplars(withExemplars.map(({ expr }) => expr), withExemplars[0] ?? range);
  const legend = options.legend;
  const isEmpty = useMemo(() => graph.lines.every(({ values }) => values.every((value) => value === null)), [graph]);
  const shown = graph.lines.filter(({ settings }) => !settings.hidden?.legend);
  const hasLegend = legend?.mode !== "hidden" && shown.length > 0;
  const isRight = legend?.placement === "right";
  const legendRows = legend?.mode === "table" ? Math.min(shown.length + 1, 6) : 1;
  const plotHeight = hasLegend && !isRight ? Math.max(height - legendRows * 25 - 6, 60) : height;
  if (isEmpty) return <div class="no-data">{panel.fields?.no_value ?? "No data"}</div>;
  return (
    <div class={`graph ${isRight ? "is-right" : ""}`} style={{ height: `${height}px` }}>
      <Drawing graph={graph} off={off} options={options} range={range} height={plotHeight} exemplars={exemplars} {...(marks && { marks })} {...(cursorKey && { cursorKey })} label={panel.title || "graph"} />
      {hasLegend && <GraphLegend lines={shown} options={options} off={off} onOff={setOff} />}
    </div>
  );
}

interface DrawingProps {
  graph: GraphData;
  off: ReadonlySet<string>;
  options: PanelOptions;
  range: { start: number; end: number };
  height: number;
  marks?: Mark[];
  cursorKey?: string;
  exemplars: readonly Exemplar[];
  label: string;
}

function Drawing({ graph, off, options, range, height, marks, cursorKey, exemplars, label }: DrawingProps) {
  const box = useRef<HTMLDivElement>(null);
  const [hover, setHover] = useState<Hover | null>(null);
  const dark = isDark.value;
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const settings = plotOptions(graph, off, range, element.clientWidth || 400, height, marks ?? [], exemplars, cursorKey, setHover);
    const columns = graph.lines.map((line) => withGaps(line.drawn, graph.times, line.settings));
    const plot = new uPlot(settings, [graph.times, ...columns] as uPlot.AlignedData, element);
    const observer = new ResizeObserver(() => {
      if (element.clientWidth && element.clientWidth !== plot.width) plot.setSize({ width: element.clientWidth, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [graph, off, range.start, range.end, height, dark, marks, exemplars, cursorKey, zone.value]);
  return (
    <div class="plot graph-plot" role="img" aria-label={label}>
      <div ref={box} class="plot-canvas" style={{ height: `${height}px` }} />
      {hover && options.tooltip?.mode !== "none" && <Tooltip hover={hover} graph={graph} off={off} options={options} />}
    </div>
  );
}

function Tooltip({ hover, graph, off, options }: { hover: Hover; graph: GraphData; off: ReadonlySet<string>; options: PanelOptions }) {
  const time = graph.times[hover.row];
  const { mode = "single", sort = "none", hide_zeros } = options.tooltip ?? {};
  let rows = graph.lines
    .map((line, index) => ({ line, index, value: line.values[hover.row] ?? null }))
    .filter(({ line, value }) => value !== null && !off.has(line.name) && !line.settings.hidden?.tooltip && !line.settings.hidden?.graph && !(hide_zeros && value === 0));
  if (mode === "single") rows = rows.filter(({ index }) => index === hover.nearest);
  if (sort !== "none") rows = rows.toSorted((a, b) => compareValues(a.value, b.value, sort === "desc"));
  if (time === undefined || (!rows.length && !hover.exemplar)) return null;
  const isRight = hover.left > 320;
  const style = { top: `${Math.max(hover.top - 20, 0)}px`, ...(isRight ? { right: `calc(100% - ${hover.left - 14}px)` } : { left: `${hover.left + 14}px` }) };
  return (
    <div class="plot-tooltip" style={style} aria-hidden="true">
      <strong>{formatTime(time)}</strong>
      {rows.slice(0, TOOLTIP_ROWS).map(({ line, index, value }) => (
        <div class="plot-tooltip-row" key={index}>
          <Swatch colour={line.color} />
          <span class="plot-tooltip-name">{line.name}</span>
          <span>{unitText(value ?? Number.NaN, line.settings.unit, line.settings.decimals)}</span>
        </div>
      ))}
      {rows.length > TOOLTIP_ROWS && <div>and {rows.length - TOOLTIP_ROWS} more</div>}
      {hover.exemplar && <ExemplarFacts exemplar={hover.exemplar} unit={graph.lines[0]?.settings.unit} />}
    </div>
  );
}

function GraphLegend({ lines, options, off, onOff }: { lines: GraphLine[]; options: PanelOptions; off: ReadonlySet<string>; onOff: (off: ReadonlySet<string>) => void }) {
  const { mode = "list", calcs = [], sort_by, sort_desc, width, placement } = options.legend ?? {};
  const own = width && placement === "right" ? { width: `${width}px` } : undefined;
  const [order, setOrder] = useState<{ by: string; desc: boolean } | null>(sort_by ? { by: sort_by, desc: sort_desc ?? false } : null);
  const valueOf = (line: GraphLine, title: string) => {
    const calc = calcs.find((id) => reducerTitle(id) === title);
    return calc ? reduceValues(line.values, calc) : line.name;
  };
  const sorted = order ? lines.toSorted((a, b) => compareValues(valueOf(a, order.by), valueOf(b, order.by), order.desc)) : lines;
  const ordered = sorted.slice(0, LEGEND_ROWS);
  const rest = sorted.length > LEGEND_ROWS && <p class="hint">and {sorted.length - LEGEND_ROWS} more series</p>;
  const text = (line: GraphLine, calc: string) => {
    const value = reduceValues(line.values, calc);
    const { unit, decimals } = line.settings;
    return typeof value === "number" ? unitText(value, calc === "count" ? "none" : unit, decimals) : "";
  };
  const toggle = (name: string, event: MouseEvent) => {
    const next = new Set(off);
    if (event.ctrlKey || event.metaKey) {
      if (!next.delete(name)) next.add(name);
      return onOff(next);
    }
    const isAlone = !off.has(name) && lines.every((line) => line.name === name || off.has(line.name));
    onOff(new Set(isAlone ? [] : lines.map((line) => line.name).filter((other) => other !== name)));
  };
  const button = (line: GraphLine) => (
    <button type="button" class={`legend-name ${off.has(line.name) ? "is-off" : ""}`} aria-pressed={!off.has(line.name)}
      title="Click: this one alone. Ctrl-click: hide or show it." onClick={(event) => toggle(line.name, event)}>
      <Swatch colour={line.color} />
      {line.name}
      {line.settings.axis === "right" && <span class="hint"> (right)</span>}
    </button>
  );
  if (mode !== "table") {
    return (
      <div class="graph-legend is-list" tabIndex={0} role="region" aria-label="Legend" style={own}>
        {ordered.map((line, index) => (
          <span key={index}>
            {button(line)}
            {calcs.map((calc) => (
              <span class="hint" key={calc}>{reducerTitle(calc)}: {text(line, calc)} </span>
            ))}
          </span>
        ))}
        {rest}
      </div>
    );
  }
  const heading = (title: string, isNumber: boolean) => (
    <th scope="col" class={isNumber ? "number" : ""} key={title} aria-sort={order?.by === title ? (order.desc ? "descending" : "ascending") : "none"}>
      <button type="button" class="quiet" onClick={() => setOrder({ by: title, desc: order?.by === title ? !order.desc : isNumber })}>
        {title}
        {order?.by === title && (order.desc ? " ↓" : " ↑")}
      </button>
    </th>
  );
  return (
    <div class="graph-legend" tabIndex={0} role="region" aria-label="Legend" style={own}>
      <table>
        <thead>
          <tr>
            {heading("Name", false)}
            {calcs.map((calc) => heading(reducerTitle(calc), true))}
          </tr>
        </thead>
        <tbody>
          {ordered.map((line, index) => (
            <tr key={index}>
              <td>{button(line)}</td>
              {calcs.map((calc) => <td class="number" key={calc}>{text(line, calc)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
      {rest}
    </div>
  );
}

function plotOptions(
  graph: GraphData, off: ReadonlySet<string>, range: { start: number; end: number }, width: number, height: number,
  marks: Mark[], exemplars: readonly Exemplar[], cursorKey: string | undefined, setHover: (hover: Hover | null) => void,
): uPlot.Options {
  const { lines } = graph;
  const isHidden = (line: GraphLine) => off.has(line.name) || Boolean(line.settings.hidden?.graph);
  const keys = [...new Set(lines.map(({ scale }) => scale))];
  const isMany = lines.length > MANY;
  const fills = fillsTo(lines, (name) => off.has(name));
  const bands = fills.flatMap((below, index): uPlot.Band[] => (below === undefined ? [] : [{ series: [index + 1, below + 1] }]));
  const scales: uPlot.Scales = { x: { time: true, range: () => [range.start, range.end] } };
  const time = timeAxis(axisStyle());
  const axes: uPlot.Axis[] = [time.axis];
  let autos = 0;
  keys.forEach((key, index) => {
    const first = lines.find(({ scale, settings }) => scale === key && !settings.hidden?.graph) ?? lines.find(({ scale }) => scale === key);
    if (!first) return;
    const name = `y${index}`;
    scales[name] = scaleOf(first.settings, lines.filter(({ scale }) => scale === key));
    const isRight = first.settings.axis === "right" || ((first.settings.axis ?? "auto") === "auto" && autos++ > 0);
    axes.push(axisOf(first.settings, name, isRight, index > 0));
  });
  if (!keys.length) scales["y"] = { range: () => [0, 100] };
  return {
    width, height, padding: [8, 16, 0, 0], legend: { show: false }, tzDate: plotDate, scales, axes, bands,
    series: [{}, ...lines.map((line) => seriesOf(line, `y${keys.indexOf(line.scale)}`, isHidden(line), isMany))],
    cursor: {
      drag: { x: true, y: false, setScale: false }, points: { show: !isMany },
      focus: { prox: 1e6 },
      ...(cursorKey && { sync: { key: cursorKey } }),
    },
    focus: { alpha: 1 },
    hooks: {
      setSelect: [(plot) => {
        const { left, width: selected } = plot.select;
        if (selected > 4) zoomTo(plot.posToVal(left, "x"), plot.posToVal(left + selected, "x"));
        plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      }],
      setCursor: [(plot) => setHover(hoverOf(plot, exemplars))],
      drawAxes: [time.draw],
      drawClear: [(plot) => { drawAreas(plot, lines, keys); drawMarks(plot, marks); }],
      draw: [(plot) => { drawThresholdLines(plot, lines, keys); drawExemplars(plot, exemplars, keys.length ? "y0" : "y"); }],
    },
  };
}

function hoverOf(plot: uPlot, exemplars: readonly Exemplar[]): Hover | null {
  const { left = -1, top = -1, idx } = plot.cursor;
  if (left < 0 || idx === null || idx === undefined || !plot.cursor.event) return null;
  let [nearest, distance] = [-1, Infinity];
  plot.series.forEach((series, index) => {
    const value = index && series.show ? plot.data[index]?.[idx] : null;
    if (value === null || value === undefined) return;
    const found = Math.abs(plot.valToPos(value, series.scale ?? "y") - top);
    if (found < distance) [nearest, distance] = [index - 1, found];
  });
  return { left: left + plot.over.offsetLeft, top, row: idx, nearest, exemplar: exemplarAt(plot, exemplars, plot.scales["y0"] ? "y0" : "y") };
}

function axisStyle(): uPlot.Axis {
  return {
    stroke: colour("--soft-text"), font: FONT,
    grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1, size: 4 },
  };
}

function axisOf(settings: FieldSettings, scale: string, isRight: boolean, isSecond: boolean): uPlot.Axis {
  const { unit, decimals, axis_label, axis, stacking } = settings;
  const isPercent = stacking?.mode === "percent";
  const text = (tick: number | null) => (tick === null ? "" : tickText(tick, isPercent ? "percentunit" : unit, decimals));
  return {
    ...axisStyle(), scale, side: isRight ? 1 : 3, show: axis !== "hidden",
    grid: { stroke: colour("--grid"), width: 1, show: !isSecond },
    values: (_, ticks) => ticks.map(text),
    ...(isBinary(unit) && axisIncrements()),
    ...(decimals === 0 && { incrs: WHOLE }),
    ...(axis_label && { label: axis_label, labelSize: 22, labelFont: FONT }),
    size: (_, values) => Math.max(40, 14 + widthOf(values ?? [])),
  };
}

const WHOLE = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

/** Powers of two, so that ticks are whole numbers of KiB and MiB. */
function axisIncrements(): { incrs: number[] } {
  return { incrs: Array.from({ length: 62 }, (_, power) => 2 ** power) };
}

/** Ticks are rounder than values: zeros at the end say nothing. */
function tickText(tick: number, unit: string | undefined, decimals: number | undefined): string {
  const { prefix, text, suffix } = formatUnit(tick, unit, decimals);
  const short = decimals === undefined && !/e/.test(text) ? text.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") : text;
  return prefix + short + suffix;
}

function scaleOf(settings: FieldSettings, lines: GraphLine[]): uPlot.Scale {
  const { axis_scale, stacking } = settings;
  const isLog = axis_scale?.type === "log";
  return {
    distr: isLog ? 3 : axis_scale?.type === "symlog" ? 4 : 1,
    ...(isLog && { log: axis_scale?.base ?? 10 }),
    range: (_, low, high) => rangeOf(settings, low, high, isLog, stacking?.mode === "percent", lines),
  };
}

/** The values and a tenth more, with zero where that reaches it; fixed ends are hard. */
function rangeOf(settings: FieldSettings, low: number | null, high: number | null, isLog: boolean, isPercent: boolean, lines: GraphLine[]): uPlot.Range.MinMax {
  const { min, max, axis_soft_min, axis_soft_max, axis_scale, axis_centered } = settings;
  if (isPercent) return [lines.some((line) => line.drawn.some((value) => (value ?? 0) < 0)) ? -1 : 0, 1];
  let [bottom, top] = [low ?? 0, high ?? 100];
  if (isLog) {
    const [from, to] = [(min ?? 0) > 0 ? min : bottom, (max ?? 0) > 0 ? max : top];
    return uPlot.rangeLog((from ?? 0) > 0 ? (from as number) : 1e-3, (to ?? 0) > 0 ? (to as number) : 1, axis_scale?.base ?? 10, true);
  }
  // Nothing but zeros: as high as a percentage is, which is 1 for those of the unit percentunit.
  const whole = settings.unit === "percentunit" ? 1 : 100;
  if (bottom === top) [bottom, top] = bottom === 0 ? [0, whole] : [Math.min(0, 2 * bottom), Math.max(0, 2 * bottom)];
  const hasBars = lines.some(({ settings: own }) => own.draw === "bars" || (own.stacking && own.stacking.mode !== "none"));
  const pad = (top - bottom) * 0.1;
  let least = bottom >= 0 && (bottom - pad <= 0 || hasBars) ? 0 : bottom - pad;
  let most = top <= 0 && top + pad >= 0 ? 0 : top + pad;
  if (axis_soft_min !== undefined) least = Math.min(bottom, axis_soft_min);
  if (axis_soft_max !== undefined) most = Math.max(top, axis_soft_max);
  if (axis_centered) [least, most] = [-Math.max(Math.abs(least), Math.abs(most)), Math.max(Math.abs(least), Math.abs(most))];
  const found: uPlot.Range.MinMax = [min ?? least, max ?? most];
  return (found[0] ?? 0) < (found[1] ?? 0) ? found : [0, whole];
}

function seriesOf(line: GraphLine, scale: string, isHidden: boolean, isMany: boolean): uPlot.Series {
  const { settings, color } = line;
  const { draw = "line", line_width = 1, fill_opacity = 0, line_interpolation, points = "auto", point_size = 5, line_style, span_nulls, gradient } = settings;
  const series: uPlot.Series = {
    label: line.name, scale, show: !isHidden, stroke: color, width: line_width, spanGaps: span_nulls === true,
    points: { show: draw === "points" || points === "always", size: point_size, fill: color, ...(draw === "line" && points === "auto" && !isMany && { show: true, filter: lonePoints }) },
  };
  if (line_width === 0) series.stroke = "rgba(0,0,0,0)";
  if (fill_opacity > 0) series.fill = gradient === "opacity" ? (plot) => faded(plot, color, fill_opacity / 100) : translucent(color, fill_opacity / 100);
  if (line_style && line_style.style !== "solid") series.dash = line_style.dash?.length ? line_style.dash : line_style.style === "dot" ? [0, 6] : [10, 10];
  if (line_style?.style === "dot") series.cap = "round";
  if (draw === "bars") series.paths = uPlot.paths.bars!({ size: [0.8, 60] });
  else if (draw === "points") series.paths = () => null;
  else if (line_interpolation === "smooth") series.paths = uPlot.paths.spline!();
  else if (line_interpolation === "step_after") series.paths = uPlot.paths.stepped!({ align: 1 });
  else if (line_interpolation === "step_before") series.paths = uPlot.paths.stepped!({ align: -1 });
  return series;
}

/** Samples without neighbours, of which a line shows nothing. */
function lonePoints(plot: uPlot, series: number): number[] {
  const values = plot.data[series] ?? [];
  return [...values.keys()].filter((row) => values[row] != null && values[row - 1] == null && values[row + 1] == null);
}

function translucent(color: string, alpha: number): string {
  return `color-mix(in srgb, ${color} ${Math.round(alpha * 100)}%, transparent)`;
}

function faded(plot: uPlot, color: string, alpha: number): CanvasGradient | string {
  const { top, height } = plot.bbox;
  if (!Number.isFinite(top) || !height) return translucent(color, alpha);
  const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, translucent(color, alpha));
  gradient.addColorStop(1, translucent(color, 0));
  return gradient;
}

/** The thresholds that are drawn: those of the first field of each axis. */
function drawnThresholds(lines: GraphLine[], keys: string[]): { line: GraphLine; scale: string; style: string }[] {
  return keys.flatMap((key, index) => {
    const line = lines.find(({ scale, settings }) => scale === key && settings.thresholds && (settings.thresholds_drawn ?? "off") !== "off");
    return line ? [{ line, scale: `y${index}`, style: line.settings.thresholds_drawn ?? "" }] : [];
  });
}

function thresholdAt(line: GraphLine, value: number): number {
  const { thresholds } = line.settings;
  const { min, max } = line.limits;
  return thresholds?.mode === "percentage" ? min + ((max - min) * value) / 100 : value;
}

function drawAreas(plot: uPlot, lines: GraphLine[], keys: string[]): void {
  const { ctx, bbox } = plot;
  for (const { line, scale, style } of drawnThresholds(lines, keys)) {
    if (!style.includes("area")) continue;
    const steps = line.settings.thresholds?.steps ?? [];
    steps.forEach((step, index) => {
      const color = namedColor(step.color, isDark.peek());
      if (step.color === "transparent") return;
      const at = (value: number | null | undefined, end: number) => (value === null || value === undefined ? end : Math.min(Math.max(plot.valToPos(thresholdAt(line, value), scale, true), bbox.top), bbox.top + bbox.height));
      const low = index ? at(step.value, bbox.top + bbox.height) : bbox.top + bbox.height;
      const high = at(steps[index + 1]?.value, bbox.top);
      ctx.save();
      ctx.fillStyle = translucent(color, 0.15);
      ctx.fillRect(bbox.left, high, bbox.width, low - high);
      ctx.restore();
    });
  }
}

function drawThresholdLines(plot: uPlot, lines: GraphLine[], keys: string[]): void {
  const { ctx, bbox } = plot;
  for (const { line, scale, style } of drawnThresholds(lines, keys)) {
    if (!/line|dashed/.test(style)) continue;
    for (const step of (line.settings.thresholds?.steps ?? []).slice(1)) {
      const y = plot.valToPos(thresholdAt(line, step.value ?? 0), scale, true);
      if (!(y >= bbox.top && y <= bbox.top + bbox.height)) continue;
      ctx.save();
      ctx.globalAlpha = 0.7;
      ctx.strokeStyle = namedColor(step.color, isDark.peek());
      ctx.lineWidth = 2 * devicePixelRatio;
      if (style.includes("dashed")) ctx.setLineDash([10, 10]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.restore();
    }
  }
}

function drawMarks(plot: uPlot, marks: Mark[]): void {
  const { ctx, bbox } = plot;
  for (const { start, end = start, colour: color = "red" } of marks) {
    const left = Math.max(plot.valToPos(start, "x", true), bbox.left);
    const right = Math.min(plot.valToPos(end, "x", true), bbox.left + bbox.width);
    if (right < bbox.left || left > bbox.left + bbox.width) continue;
    ctx.save();
    ctx.fillStyle = namedColor(color, isDark.peek());
    ctx.globalAlpha = end > start ? 0.15 : 0.8;
    ctx.fillRect(left, bbox.top, Math.max(right - left, 1.5 * devicePixelRatio), bbox.height);
    ctx.restore();
  }
}
