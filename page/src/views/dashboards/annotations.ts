/** Annotations: the times at which expressions are above zero, as marks in graphs. */
import { queryRange } from "../../api/prometheus";
import { isAbort } from "../../api/transport";
import { numberOf } from "../../format/numbers";
import { formatLegend } from "../../format/series";
import type { Mark } from "../../plot/plot";
import { range } from "../../time/range";
import { useRequest } from "../../use_request";
import { interpolate, type Lookup } from "./logic/interpolation";
import { intervalMs } from "./logic/intervals";
import type { Annotation } from "./logic/types";

const MAX_POINTS = 11_000;
/** An annotation with its marks, or with why there are none. */
export interface Annotated {
  annotation: Annotation;
  marks: Mark[];
  error?: Error;
}

const NONE: readonly Annotated[] = [];

async function marksOf(annotation: Annotation, lookup: Lookup, times: { start: number; end: number }, signal: AbortSignal): Promise<Mark[]> {
  const given = (intervalMs(interpolate(annotation.step ?? "60s", lookup, "glob")) ?? 60_000) / 1000;
  const step = Math.max(given, Math.ceil((times.end - times.start) / MAX_POINTS));
  const start = Math.floor(times.start / step) * step;
  const { data } = await queryRange(interpolate(annotation.expr, lookup, "promql"), { start, end: times.end, step }, signal);
  return data.result.flatMap(({ metric, values = [] }) => {
    const name = formatLegend(annotation.title || annotation.name, metric);
    const marks: Mark[] = [];
    for (const [time, text] of values) {
      if (!(numberOf(text) > 0)) continue;
      const at = annotation.value_is_time ? Number(text) / 1000 : time;
      const last = marks.at(-1);
      // Samples that follow each other are one region.
      if (last && at - (last.end ?? last.start) <= step && !annotation.value_is_time) last.end = at;
      else marks.push({ start: at, name, ...(annotation.color && { colour: annotation.color }) });
    }
    return marks;
  });
}

/** The marks of the annotations that are switched on. */
export function useAnnotations(annotations: readonly Annotation[], lookup: Lookup, isReady: boolean): readonly Annotated[] {
  const times = range.value;
  const { data } = useRequest(
    isReady && annotations.length
      ? (signal) => Promise.all(annotations.map(async (annotation): Promise<Annotated> => {
          try {
            return { annotation, marks: await marksOf(annotation, lookup, times, signal) };
          } catch (problem) {
            if (isAbort(problem)) throw problem;
            return { annotation, marks: [], error: problem instanceof Error ? problem : new Error(String(problem)) };
          }
        }))
      : null,
    [annotations, lookup, times, isReady],
  );
  return data ?? NONE;
}

export function marksFor(panelId: number, all: readonly Annotated[]): Mark[] {
  return all.filter(({ annotation: { panels, exclude_panels } }) => !panels || panels.includes(panelId) !== Boolean(exclude_panels)).flatMap(({ marks }) => marks);
}
