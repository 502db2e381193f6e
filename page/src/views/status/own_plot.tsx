/** A plot of what the service measures of itself. */
import { useMemo } from "preact/hooks";
import { queryRange } from "../../api/prometheus";
import { OWN_JOB } from "../../catalogue/catalogue";
import { formatValue } from "../../format/numbers";
import { plotData, reduce } from "../../plot/data";
import { Plot } from "../../plot/plot";
import { hrefOf, place } from "../../router";
import { autoStep, onGrid, range, zoomTo } from "../../time/range";
import { useRequest } from "../../use_request";

/** Matches the series of the service itself. */
export const OWN = `job="${OWN_JOB}"`;
const WIDTH = 400;
/** How often the service scrapes itself. */
const INTERVAL_SECONDS = 15;

/** `$own` and `$window` in the expression stand for the matcher and for the window of a rate. */
export function OwnPlot({
  name,
  expression,
  unit,
  stacked = false,
}: {
  name: string;
  expression: string;
  unit: string;
  stacked?: boolean;
}) {
  const grid = onGrid(range.value, autoStep(range.value, WIDTH, INTERVAL_SECONDS));
  const window = `${Math.max(grid.step, 4 * INTERVAL_SECONDS)}s`;
  const text = expression.replaceAll("$own", OWN).replaceAll("$window", window);
  const { data, error } = useRequest(
    async (signal) => {
      const answer = await queryRange(text, grid, signal);
      return { ...plotData(answer.data.result, grid), grid };
    },
    [text, grid.start, grid.end, grid.step],
  );
  const lines = useMemo(
    () => data?.series.map(({ labels, values }) => ({ name: Object.values(labels).join(" ") || name, values })) ?? [],
    [data, name],
  );
  const last = lines.map(({ values }) => reduce(values, "last")).filter((value) => value !== null);
  const { query } = place.value;
  const explore = { "g0.expr": text, "g0.tab": "0", from: query.get("from"), to: query.get("to") };
  return (
    <section class="card own-plot">
      <h3>
        <a href={hrefOf("explore", explore)}>{name}</a>
        <span>{last.length > 0 ? formatValue(last.reduce((sum, value) => sum + value, 0), unit) : ""}</span>
      </h3>
      {error && <p class="hint">{error.message}</p>}
      {data && lines.length > 0 ? (
        <Plot
          label={name}
          times={data.times}
          lines={lines}
          range={data.grid}
          unit={unit}
          height={150}
          min={0}
          stacked={stacked}
          cursorKey="status"
          onZoom={zoomTo}
        />
      ) : (
        !error && <p class="hint own-plot-empty">{data ? "nothing in this time range" : "…"}</p>
      )}
    </section>
  );
}
