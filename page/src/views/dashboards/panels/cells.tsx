/** Panels of cells over time: heatmap, status history, state timeline; and histogram. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatTime } from "../../../format/times";
import { colour, isDark } from "../../../theme";
import { FONT, ONE_LINE, TWO_LINES, drawTimeLabels, shortened, widthOf } from "../../../plot/axes";
import { timeTicks } from "../../../plot/time_ticks";
import { zoomTo } from "../../../time/range";
import { type Cells, cellsOf, histogramOf, intensity } from "../logic/buckets";
import { heatmapColor, namedColor, paletteColor, readableOn } from "../logic/colors";
import { displayName, limitsOf, type Shown, shown } from "../logic/fields";
import { unitText } from "../logic/units";
import type { PanelProps } from "./props";


/** Labels need that much of a row. */
const LINE_PIXELS = 14;

/** A canvas that is drawn anew for its size and the theme. */
function useCanvas(draw: (context: CanvasRenderingContext2D, width: number, height: number) => void, width: number, height: number, inputs: unknown[]) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const dark = isDark.value;
  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context) return;
    element.width = Math.max(width, 1) * devicePixelRatio;
    element.height = Math.max(height, 1) * devicePixelRatio;
    context.scale(devicePixelRatio, devicePixelRatio);
    context.clearRect(0, 0, width, height);
    context.font = FONT;
    draw(context, width, height);
  }, [...inputs, width, height, dark]);
  return canvas;
}

/** A low panel needs its height for other things than dates. */
function axisHeight(height: number): number {
  return height < 120 ? ONE_LINE : TWO_LINES;
}

/** Room for labels at the left, which do not take more than a third. */
function leftOf(labels: string[], width: number): number {
  return Math.min(Math.max(12 + widthOf(labels), 30), width * 0.35);
}

function drawTimes(context: CanvasRenderingContext2D, range: { start: number; end: number }, left: number, width: number, height: number, place: (ms: number) => number): void {
  const bottom = axisHeight(height);
  drawTimeLabels(context, timeTicks(range, width - left), (time) => place(time * 1000), height - bottom + 4, width, 1, bottom === TWO_LINES ? 2 : 1);
}

interface Pointed {
  x: number;
  y: number;
  text: string[];
}

function Pointer({ at }: { at: Pointed | null }) {
  if (!at) return null;
  return (
    <div class="plot-tooltip" style={{ left: `${at.x + 12}px`, top: `${Math.max(at.y - 10, 0)}px` }} aria-hidden="true">
      {at.text.map((line, index) => (index ? <div key={line}>{line}</div> : <strong key={line}>{line}</strong>))}
    </div>
  );
}

export function HeatmapPanel({ panel, data, range, width, height }: PanelProps) {
  const options = panel.options?.heatmap ?? {};
  const [at, setAt] = useState<Pointed | null>(null);
  const cells = useMemo(() => cellsOf(data.frames, options), [data.frames, panel]);
  const unit = options.y_axis?.unit;
  const labels = cells.rows.map((name) => (Number.isNaN(Number(name)) ? name : unitText(Number(name), unit, options.y_axis?.decimals)));
  const left = leftOf(labels, width);
  const place = (time: number) => left + ((time / 1000 - range.start) / (range.end - range.start)) * (width - left);
  const rowHeight = (height - axisHeight(height)) / Math.max(cells.rows.length, 1);
  const canvas = useCanvas((context) => drawHeatmap(context, cells, labels, options, { left, width, height, rowHeight, place, range }), width, height, [cells, range.start, range.end]);
  if (!cells.times.length) return <div class="no-data">No data</div>;
  const point = (event: MouseEvent) => {
    const row = cells.rows.length - 1 - Math.floor(event.offsetY / rowHeight);
    const time = (range.start + ((event.offsetX - left) / (width - left)) * (range.end - range.start)) * 1000;
    const column = cells.times.findLastIndex((start) => start <= time);
    const count = cells.counts[row]?.[column];
    if (event.offsetX < left || count === undefined || count === null) return setAt(null);
    setAt({ x: event.offsetX, y: event.offsetY, text: [formatTime((cells.times[column] ?? 0) / 1000), `${labels[row]}: ${unitText(count, options.cell_unit)}`] });
  };
  return (
    <div class="plot">
      <canvas ref={canvas} style={{ width: `${width}px`, height: `${height}px` }} role="img" aria-label={panel.title || "heatmap"} onMouseMove={point} onMouseLeave={() => setAt(null)} />
      <Pointer at={at} />
    </div>
  );
}

interface Frame {
  left: number;
  width: number;
  height: number;
  rowHeight: number;
  place: (time: number) => number;
  range: { start: number; end: number };
}

function drawHeatmap(context: CanvasRenderingContext2D, cells: Cells, labels: string[], options: NonNullable<PanelProps["panel"]["options"]>["heatmap"], frame: Frame): void {
  const { left, width, height, rowHeight, place, range } = frame;
  const { color = {} } = options ?? {};
  const drawn = cells.counts.flat().filter((count): count is number => intensity(count, 0, 1, options) !== null);
  const min = color.min ?? drawn.reduce((a, b) => Math.min(a, b), Infinity);
  const max = color.max ?? drawn.reduce((a, b) => Math.max(a, b), -Infinity);
  const dark = isDark.peek();
  const fill = namedColor(color.fill ?? "dark-orange", dark);
  // Where cells share a pixel, it is a stripe.
  const whole = (x: number) => Math.round(x * devicePixelRatio) / devicePixelRatio;
  const y = (row: number) => height - axisHeight(height) - (row + 1) * rowHeight;
  cells.counts.forEach((row, index) => {
    row.forEach((count, column) => {
      const at = intensity(count, min, max, options);
      const x = whole(place(cells.times[column] ?? 0));
      if (at === null || x > width) return;
      const length = whole(place((cells.times[column] ?? 0) + cells.stepMs)) - x;
      if (x + length < left) return;
      context.globalAlpha = color.mode === "opacity" ? Math.max(at, 0.03) : 1;
      context.fillStyle = color.mode === "opacity" ? fill : heatmapColor(color.scheme ?? "Oranges", at, dark);
      context.fillRect(Math.max(x, left), y(index), Math.max(length - (length > 6 ? 1 : 0), whole(1)), Math.max(rowHeight - (rowHeight > 4 ? 1 : 0), 1));
    });
  });
  context.globalAlpha = 1;
  context.fillStyle = colour("--soft-text");
  context.textAlign = "right";
  const every = Math.max(Math.ceil(LINE_PIXELS / rowHeight), 1);
  labels.forEach((text, row) => row % every || context.fillText(shortened(text, left - 6), left - 6, y(row) + rowHeight / 2 + 4));
  drawTimes(context, range, left, width, height, place);
}

interface Lane {
  name: string;
  pieces: { start: number; end: number; shown: Shown }[];
}

/** One lane a series: a piece for each sample, or for each time with the same value. */
export function States({ panel, data, range, width, height }: PanelProps) {
  const isMerged = panel.type === "state-timeline" && panel.options?.merge_values !== false;
  const dark = isDark.value;
  const [at, setAt] = useState<Pointed | null>(null);
  const lanes = useMemo(() => data.frames.flatMap((frame) => {
    const times = (frame.fields.find(({ type }) => type === "time")?.values ?? []) as number[];
    return frame.fields.filter(({ type }) => type !== "time").map((field): Lane => {
      const limits = limitsOf(field, data.frames);
      const step = (times[1] ?? 0) - (times[0] ?? 0) || 60_000;
      const pieces: Lane["pieces"] = [];
      field.values.forEach((value, row) => {
        if (value === null) return;
        const found = shown(value, field.settings, limits, dark);
        const [start, end] = [times[row] ?? 0, (times[row + 1] ?? (times[row] ?? 0) + step)];
        const before = pieces.at(-1);
        if (isMerged && before && before.end === start && before.shown.text === found.text && before.shown.color === found.color) before.end = end;
        else pieces.push({ start, end, shown: found });
      });
      return { name: displayName(field, frame), pieces };
    });
  }), [data.frames, dark, isMerged]);
  const left = leftOf(lanes.map(({ name }) => name), width);
  const laneHeight = (height - axisHeight(height)) / Math.max(lanes.length, 1);
  const place = (time: number) => left + ((time / 1000 - range.start) / (range.end - range.start)) * (width - left);
  const canvas = useCanvas((context) => {
    const showValue = panel.options?.show_value ?? "auto";
    const every = Math.max(Math.ceil(LINE_PIXELS / laneHeight), 1);
    lanes.forEach(({ name, pieces }, lane) => {
      const y = lane * laneHeight;
      for (const { start, end, shown: piece } of pieces) {
        const [x, x2] = [Math.max(place(start), left), Math.min(place(end), width)];
        if (x2 <= x) continue;
        context.fillStyle = piece.color;
        context.fillRect(x, y + laneHeight * 0.05, Math.max(x2 - x - (isMerged ? 0 : 1), 1), laneHeight * 0.9);
        const text = piece.prefix + piece.text + piece.suffix;
        if (showValue !== "never" && every === 1 && widthOf([text]) + 6 < x2 - x) {
          context.fillStyle = readableOn(piece.color);
          context.textAlign = "left";
          context.fillText(text, x + 3, y + laneHeight / 2 + 4);
        }
      }
      context.fillStyle = colour("--soft-text");
      context.textAlign = "right";
      if (lane % every === 0) context.fillText(shortened(name, left - 6), left - 6, y + laneHeight / 2 + 4);
    });
    drawTimes(context, range, left, width, height, place);
  }, width, height, [lanes, range.start, range.end]);
  if (!lanes.length) return <div class="no-data">No data</div>;
  const point = (event: MouseEvent) => {
    const lane = lanes[Math.floor(event.offsetY / laneHeight)];
    const time = (range.start + ((event.offsetX - left) / (width - left)) * (range.end - range.start)) * 1000;
    const piece = lane?.pieces.find(({ start, end }) => start <= time && time < end);
    if (!lane || !piece || event.offsetX < left) return setAt(null);
    setAt({ x: event.offsetX, y: event.offsetY, text: [`${formatTime(piece.start / 1000)} – ${formatTime(piece.end / 1000)}`, `${lane.name}: ${piece.shown.prefix}${piece.shown.text}${piece.shown.suffix}`] });
  };
  return (
    <div class="plot">
      <canvas ref={canvas} style={{ width: `${width}px`, height: `${height}px` }} role="img" aria-label={panel.title || "states"} onMouseMove={point} onMouseLeave={() => setAt(null)} onDblClick={() => zoomTo(range.start, range.end)} />
      <Pointer at={at} />
    </div>
  );
}

export function Histogram({ panel, data, width, height }: PanelProps) {
  const { bucket_count, bucket_size, bucket_offset } = panel.options ?? {};
  const bars = useMemo(() => histogramOf(data.frames, bucket_count ?? 30, bucket_size, bucket_offset), [data.frames, panel]);
  const canvas = useCanvas((context) => {
    const most = bars.reduce((top, { count }) => Math.max(top, count), 0);
    const each = (width - 40) / Math.max(bars.length, 1);
    const every = Math.max(Math.ceil(60 / each), 1);
    bars.forEach(({ from, count }, index) => {
      const high = ((height - ONE_LINE - 8) * count) / (most || 1);
      context.fillStyle = paletteColor(0, isDark.peek());
      context.fillRect(36 + index * each, height - ONE_LINE - high, Math.max(each - 1, 1), high);
      context.fillStyle = colour("--soft-text");
      context.textAlign = "center";
      if (index % every === 0) context.fillText(unitText(from, panel.fields?.unit, panel.fields?.decimals), 36 + index * each, height - 6);
    });
    context.textAlign = "right";
    context.fillText(String(most), 32, 14);
  }, width, height, [bars]);
  if (!bars.length) return <div class="no-data">No data</div>;
  return <canvas ref={canvas} style={{ width: `${width}px`, height: `${height}px` }} role="img" aria-label={panel.title || "histogram"} />;
}
