/** The samples of a selector as they were sent, with their own times. */
import { parser } from "@prometheus-io/lezer-promql";
import { useMemo, useState } from "preact/hooks";
import { type NativeHistogram, query } from "../../api/prometheus";
import { formatDurationMs } from "../../format/durations";
import { formatCount, numberOf } from "../../format/numbers";
import { formatSeries } from "../../format/series";
import { formatTime } from "../../format/times";
import { Empty, ErrorBox, Loading } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { useRequest } from "../../use_request";
import { HistogramCell } from "./table_tab";
import type { TabProps } from "./state";

const MOST_SERIES = 200;
const MOST_SAMPLES = 50_000;

interface Row {
  series: string;
  time: number;
  value: string;
  histogram: NativeHistogram | null;
}

export function SamplesTab({ panel, range }: TabProps) {
  const selectors = useMemo(() => selectorsOf(panel.expression), [panel.expression]);
  const [chosen, setChosen] = useState("");
  const selector = selectors.includes(chosen) ? chosen : (selectors[0] ?? "");
  const duration = formatDurationMs(Math.max(Math.round((range.end - range.start) * 1000), 1));
  const { data, error, isLoading } = useRequest(
    selector ? (signal) => query(`${selector}[${duration}]`, range.end, signal, MOST_SERIES) : null,
    [selector, duration, range.end],
  );
  const rows = useMemo(() => {
    if (data?.data.resultType !== "matrix") return [];
    return data.data.result.flatMap(({ metric, values = [], histograms = [] }) => {
      const series = formatSeries(metric);
      return [
        ...values.map(([time, value]): Row => ({ series, time, value, histogram: null })),
        ...histograms.map(([time, histogram]): Row => ({ series, time, value: histogram.count, histogram })),
      ];
    });
  }, [data]);
  if (!selectors.length) return <Empty title="The expression selects no series, so it has no samples." />;
  return (
    <div aria-busy={isLoading}>
      {selectors.length > 1 && (
        <label>
          Selector
          <select value={selector} onChange={(event) => setChosen(event.currentTarget.value)}>
            {selectors.map((text) => (
              <option key={text}>{text}</option>
            ))}
          </select>
        </label>
      )}
      {error && <ErrorBox error={error} />}
      {!data && isLoading && <Loading what="Asking" />}
      {data && (
        <>
          <p class="hint">
            {formatCount(rows.length)} samples of <code>{selector}</code> in {duration}
            {data.data.resultType === "matrix" && data.data.result.length >= MOST_SERIES
              ? `, of the first ${MOST_SERIES} series`
              : ""}
            {rows.length > MOST_SAMPLES ? `; the first ${formatCount(MOST_SAMPLES)} are listed` : ""}.
          </p>
          <Table label={`Samples of ${selector}`} columns={COLUMNS} rows={rows.slice(0, MOST_SAMPLES)} />
        </>
      )}
    </div>
  );
}

const COLUMNS: Column<Row>[] = [
  { name: "Series", value: (row) => row.series, show: (row) => <code>{row.series}</code> },
  { name: "Time", value: (row) => row.time, show: (row) => formatTime(row.time) },
  {
    name: "Value",
    isNumber: true,
    value: (row) => numberOf(row.value),
    show: (row) => (row.histogram ? <HistogramCell histogram={row.histogram} /> : row.value),
  },
];

/** The selectors of an expression, each once, without ranges and offsets. */
export function selectorsOf(expression: string): string[] {
  const found = new Set<string>();
  parser.parse(expression).iterate({
    enter: ({ name, from, to }) => {
      if (name === "VectorSelector") found.add(expression.slice(from, to));
    },
  });
  return [...found];
}
