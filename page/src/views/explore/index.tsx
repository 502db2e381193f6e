/** Explore: expressions as plots. */
import { useState } from "preact/hooks";
import { queryRange } from "../../api/prometheus";
import { formatSeries } from "../../format/series";
import { plotData } from "../../plot/data";
import { Legend } from "../../plot/legend";
import { Plot } from "../../plot/plot";
import { place, setQuery } from "../../router";
import { autoStep, onGrid, range, zoomTo } from "../../time/range";
import { Empty, ErrorBox, Notices } from "../../ui/states";
import { useRequest } from "../../use_request";

export default function Explore() {
  const expression = place.value.query.get("g0.expr") ?? "";
  const grid = onGrid(range.value, autoStep(range.value));
  const [hidden, setHidden] = useState<ReadonlySet<number>>(new Set());
  const { data, error, isLoading } = useRequest(
    expression
      ? async (signal) => {
          const answer = await queryRange(expression, grid, signal);
          return { ...answer, grid, plot: plotData(answer.data.result, grid) };
        }
      : null,
    [expression, grid.start, grid.end, grid.step],
  );
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const text = new FormData(event.currentTarget as HTMLFormElement).get("expression");
    setHidden(new Set());
    setQuery({ "g0.expr": String(text) });
  };
  const lines = (data?.plot.series ?? []).map(({ labels, values }, index) => ({
    name: formatSeries(labels),
    values,
    hidden: hidden.has(index),
  }));
  return (
    <div class="stack">
      <h1>Explore</h1>
      <form class="row" onSubmit={submit} key={expression}>
        <input class="grow mono" name="expression" aria-label="Expression" defaultValue={expression} />
        <button type="submit">Run</button>
      </form>
      {error && <ErrorBox error={error} />}
      {data && <Notices {...data} />}
      {data && lines.length > 0 && (
        <section class="card" aria-busy={isLoading}>
          <Plot label={expression} times={data.plot.times} lines={lines} range={data.grid} onZoom={zoomTo} />
          <Legend lines={lines} onHide={setHidden} />
        </section>
      )}
      {data && !lines.length && <Empty title="The expression has no series in this time range." />}
    </div>
  );
}
