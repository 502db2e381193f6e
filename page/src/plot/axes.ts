/** The labels of axes, which are alike in every plot, and never cut off. */
import type uPlot from "uplot";
import { colour } from "../theme";
import { SPACE, type TimeTicks, timeLabels } from "./time_ticks";

/** Of labels. */
export const FONT = "12px system-ui, sans-serif";
const LINE = 14;
/** Between labels, in pixels. */
const GAP = 6;
/** What two lines of labels need below a plot, and one. */
export const TWO_LINES = 34;
export const ONE_LINE = 20;

/**
 * Write labels below a plot, each in the middle below its place, but within `width`, which is that of the
 * canvas; one for which there is no room is left out. All in pixels, of which the canvas has `scale` for each.
 */
export function drawTimeLabels(
  context: CanvasRenderingContext2D, ticks: TimeTicks, place: (time: number) => number, top: number, width: number, scale = 1, nLines = 2,
): void {
  context.save();
  context.font = FONT.replace("12px", `${12 * scale}px`);
  context.fillStyle = colour("--soft-text");
  context.textAlign = "center";
  context.textBaseline = "top";
  const ends = Array.from({ length: nLines }, () => -Infinity);
  timeLabels(ticks).forEach((lines, index) => {
    lines.slice(0, nLines).forEach((text, line) => {
      const half = Math.ceil(context.measureText(text).width / 2);
      const x = Math.min(Math.max(place(ticks.times[index] ?? 0), half), width - half);
      if (x - half < (ends[line] ?? 0) + GAP * scale) return;
      context.fillText(text, x, top + line * LINE * scale);
      ends[line] = x + half;
    });
  });
  context.restore();
}

/** The time axis of a uPlot: its own knows nothing of the canvas' end, so it gets no labels, and `draw` writes them. */
export function timeAxis(style: uPlot.Axis): { axis: uPlot.Axis; draw: (plot: uPlot) => void } {
  let ticks: TimeTicks = { times: [], step: 1 };
  const size = 4;
  const axis: uPlot.Axis = {
    ...style,
    space: SPACE,
    size: TWO_LINES + size,
    values: (_, times, __, ___, step) => {
      ticks = { times, step };
      return times.map(() => "");
    },
  };
  const draw = (plot: uPlot) => {
    const { ctx, bbox } = plot;
    const top = bbox.top + bbox.height + (size + 5) * devicePixelRatio;
    drawTimeLabels(ctx, ticks, (time) => plot.valToPos(time, "x", true), top, ctx.canvas.width, devicePixelRatio);
  };
  return { axis, draw };
}

let measuring: CanvasRenderingContext2D | null = null;

/** How wide the widest of some labels is, in pixels. */
export function widthOf(texts: readonly (string | null | undefined)[]): number {
  measuring ??= document.createElement("canvas").getContext("2d");
  if (!measuring) return 0;
  measuring.font = FONT;
  let most = 0;
  for (const text of texts) if (text) most = Math.max(most, measuring.measureText(text).width);
  return Math.ceil(most);
}

/** A label without its end, where all of it is wider than `width` pixels. */
export function shortened(text: string, width: number): string {
  if (widthOf([text]) <= width) return text;
  let [fits, beyond] = [0, text.length];
  while (beyond - fits > 1) {
    const length = (fits + beyond) >> 1;
    if (widthOf([`${text.slice(0, length)}…`]) <= width) fits = length;
    else beyond = length;
  }
  return `${text.slice(0, fits)}…`;
}
