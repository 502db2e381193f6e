/** An alert expression over time: each of its comparisons with its limit. */
import { useMemo, useState } from "preact/hooks";
import { type Labels, query, queryRange } from "../../api/prometheus";
import { formatSeries } from "../../format/series";
import { unitOfName } from "../../format/numbers";
import { plotData } from "../../plot/data";
import { Legend, keyOf } from "../../plot/legend";
import { type Line, type Mark, Plot } from "../../plot/plot";
import { hrefOf } from "../../router";
import { type TimeRange, autoStep, onGrid, zoomTo } from "../../time/range";
import { Empty, ErrorBox, Loading, Notices } from "../../ui/states";
import { useRequest } from "../../use_request";
import { type Condition, conditionsOf } from "./conditions";

interface Shown {
  text: string;
  range: TimeRange;
  /** Only series whose labels are among these, if there are any. */
  labels?: Labels;
  marks?: Mark[];
  /** The least step in seconds: how often the rule is evaluated. */
  least?: number;
}

export function ConditionPlots(props: Shown) {
  const conditions = useMemo(() => conditionsOf(props.text), [props.text]);
  return (
    <div class="stack">
      {conditions.map((condition, index) => (
        <ConditionPlot key={`${index} ${condition.text}`} condition={condition} {...props} />
      ))}
    </div>
  );
}

function ConditionPlot({ condition, range, labels, marks, least = 1 }: Shown & { condition: Condition }) {
  const { text, operator, limit, isConstant } = condition;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const grid = onGrid(range, autoStep(range, 1000, least));
  const { data, error } = useRequest(
    async (signal) => {
      const wanted = queryRange(text, grid, signal);
      const limits = limit !== null && !isConstant ? queryRange(limit, grid, signal) : null;
      const constant = limit !== null && isConstant ? constantOf(limit, grid.end, signal) : null;
      const answer = await wanted;
      return {
        grid,
        warnings: answer.warnings,
        infos: answer.infos,
        plot: plotData(answer.data.result, grid),
        limits: limits && plotData((await limits).data.result, grid).series,
        constant: await constant,
      };
    },
    [text, limit, grid.start, grid.end, grid.step],
  );
  const thresholds = useMemo(
    () => (data?.constant == null ? [] : [{ value: data.constant, name: `${operator} ${limit}` }]),
    [data?.constant, operator, limit],
  );
  const lines = useMemo((): Line[] => {
    if (!data) return [];
    const of = matching(data.plot.series, labels);
    const bounds = matching(data.limits ?? [], labels);
    return [
      ...of.map(({ labels: own, values }): Line => ({ name: formatSeries(own), values })),
      ...bounds.map(({ labels: own, values }): Line => ({ name: `${operator} ${formatSeries(own)}`, values, dash: [6, 4] })),
    ].map((line) => ({ ...line, hidden: hidden.has(keyOf(line)) }));
  }, [data, hidden, labels && JSON.stringify(labels)]);
  const unit = unitOfName(/^[\w:]+/.exec(text)?.[0] ?? "");
  const name = limit === null ? text : `${text} ${operator} ${limit}`;
  return (
    <figure class="condition">
      <figcaption class="row">
        <code class="grow">{name}</code>
        <a href={exploreHref(text, range)}>Explore</a>
      </figcaption>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data && <Notices {...data} />}
      {data && lines.length > 0 && (
        <>
          <Plot
            label={name}
            times={data.plot.times}
            lines={lines}
            range={data.grid}
            thresholds={thresholds}
            marks={marks ?? NO_MARKS}
            unit={unit}
            height={220}
            onZoom={zoomTo}
          />
          <Legend lines={lines} onHide={setHidden} unit={unit} />
        </>
      )}
      {data && !lines.length && <Empty title="The expression has no series in this time." />}
    </figure>
  );
}

const NO_MARKS: Mark[] = [];

async function constantOf(text: string, time: number, signal: AbortSignal): Promise<number | null> {
  if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  const { data } = await query(text, time, signal);
  return data.resultType === "scalar" ? Number(data.result[1]) : null;
}

/** The series of an alert: those with its labels, else those with no other value of one of them. */
function matching<T extends { labels: Labels }>(series: T[], labels: Labels | undefined): T[] {
  if (!labels) return series;
  const having = (isOwn: (name: string, value: string) => boolean) =>
    series.filter(({ labels: own }) =>
      Object.entries(own).every(([name, value]) => name === "__name__" || isOwn(name, value)),
    );
  const equal = having((name, value) => labels[name] === value);
  if (equal.length) return equal;
  const compatible = having((name, value) => (labels[name] ?? value) === value);
  return compatible.length ? compatible : series;
}

export function exploreHref(text: string, range: TimeRange): string {
  const from = Math.floor(range.start * 1000);
  const to = Math.ceil(range.end * 1000);
  return hrefOf("explore", { "g0.expr": text, "g0.tab": 0, from, to });
}
