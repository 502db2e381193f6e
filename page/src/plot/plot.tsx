/** A plot of series over time, drawn by uPlot. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatValue, isBinary } from "../format/numbers";
import { formatTime, plotDate } from "../format/times";
import { type Exemplar, ExemplarFacts, drawExemplars, exemplarAt } from "./exemplars";
import { zone } from "../time/zone";
import { colour, isDark } from "../theme";
import { stack } from "./data";
import { seriesColour } from "./palette";
import { yRange } from "./y_range";
import { FONT, timeAxis, widthOf } from "./axes";

export interface Line {
  name: string;
  /** What it is, also when another answer has it at another place; the name if not given. */
  key?: string;
  /** A value for each time of the plot; null is a gap. */
  values: (number | null)[];
  colour?: string;
  hidden?: boolean;
  /** A dash pattern in pixels, such as `[6, 4]`. */
  dash?: number[];
  width?: number;
  /** 0 to 1; the default is 0, and 0.5 where the plot is stacked. */
  fill?: number;
  draw?: "line" | "bars" | "points" | "steps";
}

export interface Threshold {
  value: number;
  name: string;
  colour?: string;
}

/** A moment, or a time span, that is marked in the plot. Unix seconds. */
export interface Mark {
  start: number;
  end?: number;
  name: string;
  colour?: string;
}

export interface PlotProps {
  /** What the plot shows, for those who do not see it. */
  label: string;
  times: number[];
  lines: Line[];
  /** The times at the left and right end, in Unix seconds. */
  range: { start: number; end: number };
  height?: number;
  unit?: string;
  decimals?: number;
  stacked?: boolean;
  logarithmic?: boolean;
  min?: number;
  thresholds?: Threshold[];
  marks?: Mark[];
  /** Drawn as diamonds. */
  exemplars?: readonly Exemplar[];
  /** Plots with the same key show the cursor at the same time. */
  cursorKey?: string;
  /** Draw lines over gaps. */
  spansGaps?: boolean;
  /** After a drag over the plot: Unix seconds. */
  onZoom?: (start: number, end: number) => void;
}

/** Beyond this many lines the cursor has no points, and single samples between gaps are not drawn. */
const MANY = 100;
const TOOLTIP_ROWS = 15;

interface Hover {
  left: number;
  top: number;
  row: number;
  isRight: boolean;
  exemplar?: Exemplar | undefined;
}

export function Plot(props: PlotProps) {
  const { height = 320 } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const zoom = useRef(props.onZoom);
  zoom.current = props.onZoom;
  const [hover, setHover] = useState<Hover | null>(null);
  const dark = isDark.value;
  const columns = useMemo(() => shownColumns(props), [props.lines, props.stacked]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const options = optionsOf(props, element.clientWidth || 600, height, zoom, setHover);
    const drawn = new uPlot(options, [props.times, ...columns] as uPlot.AlignedData, element);
    plot.current = drawn;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth && element.clientWidth !== drawn.width) {
        drawn.setSize({ width: element.clientWidth, height });
      }
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [
    props.times, columns, props.range.start, props.range.end, height, props.unit, props.decimals,
    props.logarithmic, props.min, props.thresholds, props.marks, props.exemplars, props.cursorKey,
    props.spansGaps, dark, zone.value,
  ]);

  return (
    <div class="plot" role="img" aria-label={props.label}>
      <div ref={box} class="plot-canvas" style={{ height: `${height}px` }} />
      {hover && <Tooltip hover={hover} {...props} />}
    </div>
  );
}

function shownColumns({ lines, stacked }: PlotProps): (number | null)[][] {
  if (!stacked) return lines.map((line) => line.values);
  const shown = lines.filter((line) => !line.hidden);
  const sums = stack(shown.map((line) => line.values));
  let next = 0;
  return lines.map((line) => (line.hidden ? line.values : (sums[next++] ?? line.values)));
}

function Tooltip({ hover, times, lines, unit, decimals }: PlotProps & { hover: Hover }) {
  const time = times[hover.row];
  const rows = useMemo(() => {
    const found = lines
      .map((line, index) => ({ line, index, value: line.values[hover.row] ?? null }))
      .filter(({ line, value }) => value !== null && !line.hidden);
    return found.toSorted((a, b) => (b.value ?? 0) - (a.value ?? 0));
  }, [lines, hover.row]);
  if (time === undefined || (!rows.length && !hover.exemplar)) return null;
  const style = {
    top: `${Math.max(hover.top - 20, 0)}px`,
    ...(hover.isRight ? { right: `calc(100% - ${hover.left - 14}px)` } : { left: `${hover.left + 14}px` }),
  };
  return (
    <div class="plot-tooltip" style={style} aria-hidden="true">
      <strong>{formatTime(time)}</strong>
      {rows.slice(0, TOOLTIP_ROWS).map(({ line, index, value }) => (
        <div class="plot-tooltip-row" key={index}>
          <Swatch colour={line.colour ?? seriesColour(index)} />
          <span class="plot-tooltip-name">{line.name}</span>
          <span>{formatValue(value, unit, decimals)}</span>
        </div>
      ))}
      {rows.length > TOOLTIP_ROWS && <div>and {rows.length - TOOLTIP_ROWS} more</div>}
      {hover.exemplar && <ExemplarFacts exemplar={hover.exemplar} unit={unit} />}
    </div>
  );
}

export function Swatch({ colour }: { colour: string }) {
  return <span class="swatch" style={{ background: colour }} aria-hidden="true" />;
}

function optionsOf(
  props: PlotProps,
  width: number,
  height: number,
  zoom: { current: PlotProps["onZoom"] },
  setHover: (hover: Hover | null) => void,
): uPlot.Options {
  const { lines, range, unit, decimals, cursorKey } = props;
  const axis = {
    stroke: colour("--soft-text"),
    font: FONT,
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { stroke: colour("--grid"), width: 1, size: 4 },
  };
  const isMany = lines.length > MANY;
  const time = timeAxis(axis);
  return {
    width,
    height,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    tzDate: plotDate,
    series: [{}, ...lines.map((line, index) => seriesOf(line, index, props, isMany))],
    ...(props.stacked && { bands: bandsOf(lines) }),
    scales: {
      x: { time: true, range: () => [range.start, range.end] },
      y: {
        distr: props.logarithmic ? 3 : 1,
        range: (_, low, high) => yRange(props, low, high),
      },
    },
    axes: [
      time.axis,
      {
        ...axis,
        ...(isBinary(unit) && { incrs: BINARY_TICKS }),
        values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : formatValue(tick, unit, decimals))),
        size: (_, values) => Math.max(44, 14 + widthOf(values ?? [])),
      },
    ],
    cursor: {
      drag: { x: true, y: false, setScale: false },
      points: { show: !isMany },
      ...(cursorKey && { sync: { key: cursorKey } }),
    },
    hooks: {
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width > 4) zoom.current?.(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      setCursor: [
        (plot) => {
          const { left = -1, top = -1, idx } = plot.cursor;
          // A cursor that another plot moves has no event of ours.
          if (left < 0 || idx === null || idx === undefined || !plot.cursor.event) return setHover(null);
          const offset = plot.over.offsetLeft;
          const exemplar = exemplarAt(plot, props.exemplars ?? [], "y");
          setHover({ left: left + offset, top, row: idx, isRight: left > plot.over.clientWidth / 2, exemplar });
        },
      ],
      drawAxes: [time.draw],
      draw: [
        (plot) => {
          drawThresholds(plot, props.thresholds ?? []);
          drawExemplars(plot, props.exemplars ?? [], "y");
        },
      ],
      drawClear: [(plot) => drawMarks(plot, props.marks ?? [])],
    },
  };
}

function seriesOf(line: Line, index: number, props: PlotProps, isMany: boolean): uPlot.Series {
  const stroke = line.colour ?? seriesColour(index);
  const fill = line.fill ?? (props.stacked ? 0.5 : 0);
  const base: uPlot.Series = {
    label: line.name,
    show: !line.hidden,
    stroke,
    width: line.width ?? (isMany ? 1 : 1.5),
    spanGaps: props.spansGaps ?? false,
    points: isMany ? { show: false } : { size: 5, filter: lonePoints },
  };
  if (line.dash) base.dash = line.dash;
  if (fill > 0) base.fill = withAlpha(stroke, fill);
  if (line.draw === "bars") base.paths = uPlot.paths.bars!({ size: [0.8, 40] });
  else if (line.draw === "steps") base.paths = uPlot.paths.stepped!({ align: 1 });
  else if (line.draw === "points") {
    base.paths = () => null;
    base.points = { show: true, size: 5 };
  }
  return base;
}

/** Samples without neighbours, of which a line shows nothing; or all, where they are few. */
function lonePoints(plot: uPlot, series: number, show: boolean): number[] | null {
  if (show) return null;
  const values = plot.data[series] ?? [];
  const found: number[] = [];
  for (let row = 0; row < values.length; row += 1) {
    if (values[row] != null && values[row - 1] == null && values[row + 1] == null) found.push(row);
  }
  return found;
}

/** Between each shown line and the one below it. */
function bandsOf(lines: Line[]): uPlot.Band[] {
  const shown = lines.flatMap((line, index) => (line.hidden ? [] : [index + 1]));
  return shown.slice(1).map((series, index) => ({ series: [series, shown[index] ?? series] }));
}

/** Distances of ticks that are round in units with factors of 1024. */
const BINARY_TICKS = Array.from({ length: 61 }, (_, power) => 2 ** power);

function drawThresholds(plot: uPlot, thresholds: Threshold[]): void {
  const { ctx, bbox } = plot;
  for (const { value, name, colour: stroke } of thresholds) {
    const y = plot.valToPos(value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.save();
    ctx.strokeStyle = stroke ?? colour("--critical");
    ctx.fillStyle = ctx.strokeStyle;
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.fillText(name, bbox.left + 4 * devicePixelRatio, y - 4 * devicePixelRatio);
    ctx.restore();
  }
}

function drawMarks(plot: uPlot, marks: Mark[]): void {
  const { ctx, bbox } = plot;
  for (const { start, end = start, name, colour: fill } of marks) {
    const left = Math.max(plot.valToPos(start, "x", true), bbox.left);
    const right = Math.min(plot.valToPos(end, "x", true), bbox.left + bbox.width);
    if (right < bbox.left || left > bbox.left + bbox.width) continue;
    ctx.save();
    ctx.fillStyle = fill ?? colour("--critical");
    ctx.globalAlpha = end > start ? 0.14 : 0.8;
    ctx.fillRect(left, bbox.top, Math.max(right - left, 1.5 * devicePixelRatio), bbox.height);
    ctx.globalAlpha = 1;
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.fillText(name, left + 4 * devicePixelRatio, bbox.top + 2 * devicePixelRatio);
    ctx.restore();
  }
}

function withAlpha(colour: string, alpha: number): string {
  return `color-mix(in srgb, ${colour} ${Math.round(alpha * 100)}%, transparent)`;
}
