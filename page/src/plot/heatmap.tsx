/** Histograms over time: the darker a cell, the more observations are in the bucket. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatNumber, formatValue } from "../format/numbers";
import { formatTime } from "../format/times";
import { colour, isDark } from "../theme";
import type { Cell, Heatmap } from "./buckets";
import { FONT, TWO_LINES, drawTimeLabels, widthOf } from "./axes";
import { timeTicks } from "./time_ticks";

const BOTTOM = TWO_LINES;
const TOP = 8;
const RIGHT = 12;

export interface HeatmapProps {
  label: string;
  data: Heatmap;
  range: { start: number; end: number; step: number };
  /** Of the bounds. */
  unit?: string;
  height?: number;
  onZoom?: (start: number, end: number) => void;
}

interface Geometry {
  left: number;
  width: number;
  height: number;
  x: (time: number) => number;
  y: (bound: number) => number;
}

export function HeatmapPlot({ label, data, range, unit, height = 320, onZoom }: HeatmapProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [hover, setHover] = useState<{ x: number; y: number; cell: Cell } | null>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const dark = isDark.value;
  const left = useMemo(() => Math.max(44, 14 + widthOf(data.bounds.map((bound) => formatValue(bound, unit)))), [data, unit]);
  const plotWidth = Math.max(width - left - RIGHT, 1);
  const plotHeight = height - TOP - BOTTOM;
  const geometry: Geometry = {
    left,
    width: plotWidth,
    height: plotHeight,
    x: (time) => left + ((time - range.start) / (range.end - range.start || 1)) * plotWidth,
    y: (bound) => TOP + plotHeight * (1 - bound / Math.max(data.bounds.length - 1, 1)),
  };

  useEffect(() => {
    const parent = canvas.current?.parentElement;
    if (!parent) return;
    const observer = new ResizeObserver(() => setWidth(parent.clientWidth));
    observer.observe(parent);
    setWidth(parent.clientWidth);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (canvas.current && width) draw(canvas.current, width, height, data, range, geometry, unit);
  }, [data, width, height, unit, dark]);

  const timeAt = (x: number) =>
    range.start + ((x - left) / plotWidth) * (range.end - range.start);
  const offset = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const move = (event: PointerEvent) => {
    const { x, y } = offset(event);
    if (drag) setDrag({ ...drag, to: x });
    const column = Math.round((timeAt(x) - range.start) / range.step);
    const row = (1 - (y - TOP) / plotHeight) * Math.max(data.bounds.length - 1, 1);
    const cell = data.cells.find((it) => it.column === column && it.low <= row && row < it.high);
    setHover(cell ? { x, y, cell } : null);
  };
  const release = () => {
    if (drag && Math.abs(drag.to - drag.from) > 4) {
      onZoom?.(timeAt(Math.min(drag.from, drag.to)), timeAt(Math.max(drag.from, drag.to)));
    }
    setDrag(null);
  };
  return (
    <div class="plot" role="img" aria-label={label}>
      <canvas
        ref={canvas}
        onPointerMove={move}
        onPointerDown={(event) => setDrag({ from: offset(event).x, to: offset(event).x })}
        onPointerUp={release}
        onPointerLeave={() => {
          setHover(null);
          setDrag(null);
        }}
      />
      {drag && (
        <div
          class="heatmap-select"
          style={{
            left: `${Math.min(drag.from, drag.to)}px`,
            width: `${Math.abs(drag.to - drag.from)}px`,
            top: `${TOP}px`,
            height: `${plotHeight}px`,
          }}
        />
      )}
      {hover && (
        <div
          class="plot-tooltip"
          aria-hidden="true"
          style={{
            top: `${hover.y + 8}px`,
            ...(hover.x > width / 2 ? { right: `${width - hover.x + 8}px` } : { left: `${hover.x + 8}px` }),
          }}
        >
          <strong>{formatTime(data.times[hover.cell.column] ?? 0)}</strong>
          <div>
            {formatValue(data.bounds[hover.cell.low], unit)} – {formatValue(data.bounds[hover.cell.high], unit)}
          </div>
          <div>{formatNumber(hover.cell.count)}</div>
        </div>
      )}
    </div>
  );
}

function draw(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
  { cells, bounds, most }: Heatmap,
  range: HeatmapProps["range"],
  geometry: Geometry,
  unit: string | undefined,
): void {
  const scale = devicePixelRatio;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(scale, scale);
  context.save();
  context.beginPath();
  context.rect(geometry.left, TOP, geometry.width, geometry.height);
  context.clip();
  context.fillStyle = colour("--heat");
  for (const { column, low, high, count } of cells) {
    const middle = range.start + column * range.step;
    // Whole pixels: where cells share one, it is a stripe.
    const left = Math.round(geometry.x(middle - range.step / 2) * scale) / scale;
    const right = Math.round(geometry.x(middle + range.step / 2) * scale) / scale;
    const top = geometry.y(high);
    // Small counts can be seen beside large ones.
    context.globalAlpha = 0.08 + 0.92 * Math.sqrt(count / most);
    // A gap between cells, unless they are so narrow that it would be most of them.
    const gap = right - left > 6 ? 1 : 0;
    context.fillRect(left, top, Math.max(right - left - gap, 1 / scale), Math.max(geometry.y(low) - top - 1, 1));
  }
  context.restore();
  context.fillStyle = colour("--soft-text");
  context.font = FONT;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const everyBound = Math.ceil(bounds.length / Math.max(geometry.height / 22, 1));
  bounds.forEach((bound, index) => {
    if (index % everyBound === 0) context.fillText(formatValue(bound, unit), geometry.left - 6, geometry.y(index));
  });
  drawTimeLabels(context, timeTicks(range, geometry.width), geometry.x, height - BOTTOM + 4, width);
}
