/** The values of an expression at the end of the range. */
import { useEffect, useMemo } from "preact/hooks";
import { type NativeHistogram, type QueryData, query } from "../../api/prometheus";
import { formatCount, formatNumber, numberOf } from "../../format/numbers";
import { formatTime } from "../../format/times";
import { Empty, ErrorBox, Loading, Notices } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { useRequest } from "../../use_request";
import { findingOfError, findingsOfNotices } from "../../ui/promql/findings";
import type { TabProps } from "./state";

const MOST_ROWS = 50_000;

interface Row {
  labels: Record<string, string>;
  value: string | null;
  histogram: NativeHistogram | null;
}

export function TableTab({ panel, range, onFindings }: TabProps) {
  const { data, error, isLoading } = useRequest(
    (signal) => query(panel.expression, range.end, signal, MOST_ROWS),
    [panel.expression, range.end],
  );
  useEffect(
    () => onFindings(error ? findingOfError(error) : data ? findingsOfNotices(data.warnings, data.infos) : []),
    [data, error],
  );
  const rows = useMemo(() => (data ? rowsOf(data.data) : []), [data]);
  const columns = useMemo(() => columnsOf(rows), [rows]);
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading what="Asking" />;
  return (
    <div aria-busy={isLoading}>
      <Notices {...data} />
      <p class="hint">
        {formatCount(rows.length)} {rows.length === 1 ? "result" : "results"} at {formatTime(range.end)}
      </p>
      {rows.length ? (
        <Table label={panel.expression} columns={columns} rows={rows} />
      ) : (
        <Empty title="No series has a value at this time." />
      )}
    </div>
  );
}

function rowsOf(data: QueryData): Row[] {
  if (data.resultType === "scalar" || data.resultType === "string") {
    return [{ labels: {}, value: data.result[1], histogram: null }];
  }
  if (data.resultType === "vector") {
    return data.result.map(({ metric, value, histogram }) => ({
      labels: metric,
      value: value?.[1] ?? null,
      histogram: histogram?.[1] ?? null,
    }));
  }
  // A range selector: the newest sample of each series.
  return data.result.map(({ metric, values, histograms }) => ({
    labels: metric,
    value: values?.at(-1)?.[1] ?? null,
    histogram: histograms?.at(-1)?.[1] ?? null,
  }));
}

function columnsOf(rows: readonly Row[]): Column<Row>[] {
  const names = new Set<string>();
  for (const { labels } of rows) for (const name of Object.keys(labels)) names.add(name);
  const sorted = [...names].toSorted((a, b) =>
    a === "__name__" ? -1 : b === "__name__" ? 1 : a.localeCompare(b),
  );
  // A label may be called so itself.
  const free = (heading: string, other: string) => (names.has(heading) ? other : heading);
  return [
    ...sorted.map((name) => ({
      name: name === "__name__" ? free("name", name) : name,
      value: ({ labels }: Row) => labels[name],
    })),
    {
      name: free("Value", "Value of the series"),
      isNumber: true,
      value: ({ value, histogram }: Row) => numberOf(value ?? histogram?.count ?? ""),
      show: ({ value, histogram }: Row) => (histogram ? <HistogramCell histogram={histogram} /> : value),
    },
  ];
}

/** A native histogram in words: how many observations, their sum and mean, and each bucket. */
export function HistogramCell({ histogram }: { histogram: NativeHistogram }) {
  const sum = numberOf(histogram.sum);
  const mean = sum / numberOf(histogram.count);
  return (
    <details>
      <summary>
        count {histogram.count}, sum {formatNumber(sum)}, mean {formatNumber(mean)}
      </summary>
      {histogram.buckets?.map(([kind, low, high, count]) => (
        <div class="histogram-cell" key={`${low} ${high}`}>
          {kind === 1 || kind === 3 ? "[" : "("}
          {low}, {high}
          {kind === 0 || kind === 3 ? "]" : ")"} {count}
        </div>
      ))}
    </details>
  );
}
