/** Exemplars over a plot: single observations, with the labels that lead to their traces. */
import { useMemo } from "preact/hooks";
import type uPlot from "uplot";
import { type Labels, call } from "../api/prometheus";
import { formatValue } from "../format/numbers";
import { formatTime } from "../format/times";
import { colour } from "../theme";
import { useRequest } from "../use_request";

export interface Exemplar {
  /** Unix seconds. */
  time: number;
  value: number;
  /** Its own labels, such as `trace_id`. */
  labels: Labels;
  series: Labels;
}

interface Answered {
  seriesLabels: Labels;
  exemplars: { labels: Labels; value: string; timestamp: number }[];
}

/** As many as a plot can tell apart. */
const MOST = 500;
const SIZE = 4;
const REACH = 8;
const NONE: readonly Exemplar[] = [];

/** The newest exemplars of the series that expressions select; the same array until there are others. */
export function useExemplars(expressions: readonly string[], { start, end }: { start: number; end: number }): readonly Exemplar[] {
  const { data } = useRequest(
    expressions.length
      ? async (signal) => {
          const ask = (query: string) => call<Answered[]>("query_exemplars", { form: { query, start, end }, signal });
          const answers = await Promise.all(expressions.map(ask));
          return answers
            .flatMap((answer) => answer.data ?? [])
            .flatMap(({ seriesLabels, exemplars }) =>
              exemplars.map(({ labels, value, timestamp }) => ({ time: timestamp, value: Number(value), labels, series: seriesLabels })),
            )
            .toSorted((a, b) => b.time - a.time)
            .slice(0, MOST);
        }
      : null,
    [expressions.join("\0"), start, end],
  );
  return useMemo(() => data ?? NONE, [data]);
}

/** Where one is, in pixels of the canvas or of the page; beyond an end of the axis it is at that end. */
function placeOf(plot: uPlot, { time, value }: Exemplar, scale: string, isCanvas: boolean): [number, number] {
  const { top, height } = isCanvas ? plot.bbox : { top: 0, height: plot.over.clientHeight };
  const y = plot.valToPos(value, scale, isCanvas);
  return [plot.valToPos(time, "x", isCanvas), Math.min(Math.max(Number.isFinite(y) ? y : top + height, top), top + height)];
}

export function drawExemplars(plot: uPlot, exemplars: readonly Exemplar[], scale: string): void {
  const { ctx, bbox } = plot;
  const size = SIZE * devicePixelRatio;
  ctx.save();
  ctx.fillStyle = colour("--accent");
  ctx.strokeStyle = colour("--background");
  for (const exemplar of exemplars) {
    const [x, y] = placeOf(plot, exemplar, scale, true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, y - size);
    ctx.lineTo(x + size, y);
    ctx.lineTo(x, y + size);
    ctx.lineTo(x - size, y);
    ctx.closePath();
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
}

/** The one that is nearest to the cursor, if it is near. */
export function exemplarAt(plot: uPlot, exemplars: readonly Exemplar[], scale: string): Exemplar | undefined {
  const { left = -1, top = -1 } = plot.cursor;
  let [found, distance]: [Exemplar | undefined, number] = [undefined, REACH];
  for (const exemplar of exemplars) {
    const [x, y] = placeOf(plot, exemplar, scale, false);
    const away = Math.hypot(x - left, y - top);
    if (away < distance) [found, distance] = [exemplar, away];
  }
  return found;
}

/** Lines of a tooltip. */
export function ExemplarFacts({ exemplar, unit }: { exemplar: Exemplar; unit?: string | undefined }) {
  const { time, value, labels } = exemplar;
  return (
    <>
      <strong>
        Exemplar at {formatTime(time)}: {formatValue(value, unit)}
      </strong>
      {Object.entries(labels).map(([name, text]) => (
        <div key={name}>
          {name}={text}
        </div>
      ))}
    </>
  );
}
