/** An expression over the range: lines, stacked areas, or a heatmap of histograms. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { formatDurationMs } from "../../format/durations";
import { formatCount, formatValue, unitOfName } from "../../format/numbers";
import { formatLegend, formatSeries } from "../../format/series";
import { formatTime } from "../../format/times";
import { heatmapOf } from "../../plot/buckets";
import { type Exemplar, useExemplars } from "../../plot/exemplars";
import { HeatmapPlot } from "../../plot/heatmap";
import { Legend } from "../../plot/legend";
import { Plot } from "../../plot/plot";
import { MOST_SERIES, type RangeData, USUAL_SERIES, queryColumns, splitWarnings } from "../../plot/range_query";
import { autoStep, onGrid, zoomTo } from "../../time/range";
import { findingOfError, findingsOfNotices } from "../../ui/promql/findings";
import { Empty, ErrorBox, LabelList, Loading, Notices } from "../../ui/states";
import { Table } from "../../ui/table";
import { useRequest } from "../../use_request";
import { MODES, fixedStep, type TabProps } from "./state";

export function GraphTab({ panel, range, isNarrow, onChange, onFindings }: TabProps) {
  const width = window.innerWidth / (isNarrow && window.innerWidth >= 1400 ? 2 : 1);
  const limit = panel.limit || USUAL_SERIES;
  // Among so many lines nobody sees each point, and they are read and drawn in a quarter of the time.
  const step = fixedStep(panel) ?? autoStep(range, limit > USUAL_SERIES ? width / 4 : width);
  const grid = onGrid(range, step);
  const { data, error, isLoading } = useRequest(
    async (signal) => {
      const answer = await queryColumns(panel.expression, grid, signal, limit);
      return { ...answer, expression: panel.expression };
    },
    [panel.expression, grid.start, grid.end, grid.step, limit],
  );
  useEffect(
    () => onFindings(error ? findingOfError(error) : data ? findingsOfNotices(data.warnings, data.infos) : []),
    [data, error],
  );
  const { isTruncated, others } = splitWarnings(data?.warnings ?? []);
  const unit = panel.unit || guessUnit(panel.expression);
  return (
    <div aria-busy={isLoading}>
      <Options panel={panel} step={step} guessed={unit} onChange={onChange} />
      {error && <ErrorBox error={error} />}
      {data && <Notices warnings={others} infos={data.infos} />}
      {isTruncated && (
        <p class="hint row">
          These are the first {formatCount(limit)} series; there are more.
          {limit < MOST_SERIES && (
            <button type="button" onClick={() => onChange({ limit: MOST_SERIES })}>
              Show up to {formatCount(MOST_SERIES)}
            </button>
          )}
        </p>
      )}
      {data && <Drawing key={data.expression} panel={panel} unit={unit} data={data.data} />}
      {!data && isLoading && <Loading what="Asking" />}
    </div>
  );
}

function Drawing({
  panel,
  unit,
  data,
}: {
  panel: TabProps["panel"];
  unit: string;
  data: RangeData;
}) {
  if (!data.series.length && !data.histograms.length) return <Empty title="No series has a value in this time range." />;
  if (panel.mode === "heatmap") return <HeatmapDrawing {...{ panel, unit, data }} />;
  if (!data.series.length) {
    return (
      <Empty title="These are native histograms.">
        <p>
          The heatmap shows them; <code>histogram_quantile()</code>, <code>histogram_avg()</code> and their
          like make lines of them.
        </p>
      </Empty>
    );
  }
  return <LinesDrawing {...{ panel, unit, data }} />;
}

function HeatmapDrawing({ panel, unit, data }: Parameters<typeof Drawing>[0]) {
  const heatmap = useMemo(() => heatmapOf(data, data.range), [data]);
  if (!heatmap) {
    return (
      <Empty title="There are no histograms here.">
        <p>
          A heatmap needs native histograms, or buckets with the label <code>le</code>, such as{" "}
          <code>sum by (le) (rate(name_bucket[5m]))</code>.
        </p>
      </Empty>
    );
  }
  return <HeatmapPlot label={panel.expression} data={heatmap} range={data.range} unit={unit} onZoom={zoomTo} />;
}

function LinesDrawing({ panel, unit, data }: Parameters<typeof Drawing>[0]) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const lines = useMemo(
    () =>
      data.series.map(({ labels, values }) => {
        const key = formatSeries(labels);
        return { name: panel.legend ? formatLegend(panel.legend, labels) : key, key, values, hidden: hidden.has(key) };
      }),
    [data, panel.legend, hidden],
  );
  const expression = panel.expression;
  const exemplars = useExemplars(useMemo(() => (panel.exemplars ? [expression] : []), [panel.exemplars, expression]), data.range);
  return (
    <>
      <Plot
        label={panel.expression}
        times={data.times}
        lines={lines}
        range={data.range}
        unit={unit}
        stacked={panel.mode === "stacked"}
        logarithmic={panel.logarithmic}
        cursorKey="explore"
        exemplars={exemplars}
        onZoom={zoomTo}
      />
      <Legend lines={lines} unit={unit} onHide={setHidden} />
      {panel.exemplars && <ExemplarTable exemplars={exemplars} unit={unit} />}
    </>
  );
}

function ExemplarTable({ exemplars, unit }: { exemplars: readonly Exemplar[]; unit: string }) {
  if (!exemplars.length) return <p class="hint">No exemplars were sent with these series.</p>;
  return (
    <details>
      <summary>Exemplars: {formatCount(exemplars.length)}</summary>
      <Table
        label="Exemplars"
        rows={exemplars}
        keyOf={(_, index) => index}
        pageLength={20}
        columns={[
          { name: "Time", value: ({ time }) => time, show: ({ time }) => formatTime(time) },
          { name: "Value", value: ({ value }) => value, show: ({ value }) => formatValue(value, unit) },
          { name: "Labels", value: ({ labels }) => formatSeries(labels), show: ({ labels }) => <LabelList labels={labels} /> },
          { name: "Series", value: ({ series }) => formatSeries(series) },
        ]}
      />
    </details>
  );
}

function Options({
  panel,
  step,
  guessed,
  onChange,
}: {
  panel: TabProps["panel"];
  step: number;
  guessed: string;
  onChange: TabProps["onChange"];
}) {
  return (
    <div class="panel-options">
      <div class="toggle" role="group" aria-label="Drawn as">
        {MODES.map((mode) => (
          <button type="button" key={mode} aria-pressed={panel.mode === mode} onClick={() => onChange({ mode })}>
            {mode}
          </button>
        ))}
      </div>
      <label>
        Step
        <input
          value={panel.step}
          placeholder={`auto: ${formatDurationMs(step * 1000)}`}
          onChange={(event) => onChange({ step: event.currentTarget.value.trim() })}
        />
      </label>
      <label>
        Unit
        <input
          value={panel.unit}
          placeholder={guessed || "none"}
          list="units"
          onChange={(event) => onChange({ unit: event.currentTarget.value.trim() })}
        />
      </label>
      <label>
        Legend
        <input
          class="legend-format"
          value={panel.legend}
          placeholder="{{instance}}"
          onChange={(event) => onChange({ legend: event.currentTarget.value })}
        />
      </label>
      <label class="inline">
        <input
          type="checkbox"
          checked={panel.logarithmic}
          onChange={(event) => onChange({ logarithmic: event.currentTarget.checked })}
        />
        logarithmic
      </label>
      <label class="inline">
        <input
          type="checkbox"
          checked={panel.exemplars}
          onChange={(event) => onChange({ exemplars: event.currentTarget.checked })}
        />
        exemplars
      </label>
      <datalist id="units">
        {["short", "percentunit", "percent", "bytes", "decbytes", "Bps", "bps", "s", "ms", "reqps", "ops"].map(
          (unit) => (
            <option key={unit} value={unit} />
          ),
        )}
      </datalist>
    </div>
  );
}

/** The unit of an expression with a single metric whose name tells one, if nothing changes it. */
function guessUnit(expression: string): string {
  const names = [...new Set(expression.match(/[a-zA-Z_:][\w:]*_(?:bytes|seconds|ratio|celsius)\w*/g) ?? [])];
  const [name] = names;
  if (names.length !== 1 || !name || /[*/]|\b(count|rank|stddev|group)\b/.test(expression)) return "";
  const unit = unitOfName(name);
  if (/\b(rate|irate|deriv)\s*\(/.test(expression)) {
    return /_bucket\b/.test(name) ? (/\ble\b/.test(expression) ? unit : "") : unit === "bytes" ? "binBps" : "";
  }
  return unit;
}
