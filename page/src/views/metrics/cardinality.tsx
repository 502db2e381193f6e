/** What the series come from: metrics, labels and their values with the most of them. */
import { type Counted, type SeriesStatistics } from "../../catalogue/catalogue";
import { sendForJson } from "../../api/transport";
import { formatCount, formatValue } from "../../format/numbers";
import { hrefOf, place, setQuery } from "../../router";
import { ErrorBox, Loading } from "../../ui/states";
import { Table } from "../../ui/table";
import { useRequest } from "../../use_request";

const MOST = 50;

export function Cardinality({ statistics }: { statistics: SeriesStatistics }) {
  const { numSeries, numLabelPairs } = statistics.headStats;
  const label = place.value.query.get("label");
  // Names of metrics are in a table of their own.
  const pairs = statistics.seriesCountByLabelValuePair.filter(({ name }) => !name.startsWith("__name__="));
  const byBytes = new Map(statistics.memoryInBytesByLabelName.map(({ name, value }) => [name, value]));
  return (
    <div class="stack">
      <p>
        {formatCount(numSeries)} series have {formatCount(numLabelPairs)} different pairs of a label and a value.
      </p>
      {label && <LabelValues label={label} selector="" onClose={() => setQuery({ label: null })} />}
      <div class="card-columns">
        <section class="card">
          <h2>Metrics with the most series</h2>
          <Counts
            label="Series of each metric"
            names="Metric"
            counts={statistics.seriesCountByMetricName}
            all={numSeries}
            linkOf={(name) => hrefOf("metrics-explorer", { metric: name })}
          />
        </section>
        <section class="card">
          <h2>Labels with the most values</h2>
          <Table
            label="Values of each label"
            rows={statistics.labelValueCountByLabelName.slice(0, MOST)}
            keyOf={({ name }) => name}
            columns={[
              {
                name: "Label",
                value: ({ name }) => name,
                show: ({ name }) => (
                  <a class="mono" href={hrefOf("metrics-explorer", { tab: "cardinality", label: name })}>
                    {name}
                  </a>
                ),
              },
              { name: "Values", value: ({ value }) => value, show: ({ value }) => formatCount(value), isNumber: true },
              {
                name: "Size",
                value: ({ name }) => byBytes.get(name),
                show: ({ name }) => formatValue(byBytes.get(name), "bytes"),
                isNumber: true,
              },
            ]}
          />
        </section>
        <section class="card">
          <h2>Label values with the most series</h2>
          <Counts
            label="Series of each label value"
            names="Label and value"
            counts={pairs}
            all={numSeries}
          />
        </section>
      </div>
    </div>
  );
}

function Counts({
  label,
  names,
  counts,
  all,
  linkOf,
}: {
  label: string;
  names: string;
  counts: readonly Counted[];
  all: number;
  linkOf?: (name: string) => string;
}) {
  return (
    <Table
      label={label}
      rows={counts.slice(0, MOST)}
      keyOf={({ name }) => name}
      columns={[
        {
          name: names,
          value: ({ name }) => name,
          show: ({ name }) => (
            <span class="mono">{linkOf ? <a href={linkOf(name)}>{name}</a> : name}</span>
          ),
        },
        { name: "Series", value: ({ value }) => value, show: ({ value }) => formatCount(value), isNumber: true },
        { name: "Share", value: ({ value }) => value, show: ({ value }) => formatValue(value / all, "percentunit", 1), isNumber: true },
      ]}
    />
  );
}

interface LabelValuesAnswer {
  series_count_total: number;
  labels: {
    label_name: string;
    label_values_count: number;
    series_count: number;
    cardinality: { label_value: string; series_count: number }[];
  }[];
}

/** The values of a label and how many of the selected series have each. */
export function LabelValues({
  label,
  selector,
  onClose,
  onValue,
}: {
  label: string;
  selector: string;
  onClose: () => void;
  onValue?: (value: string) => void;
}) {
  const { data, error } = useRequest(
    (signal) =>
      sendForJson<LabelValuesAnswer>("api/v1/cardinality/label_values", {
        parameters: { "label_names[]": label, selector: selector || undefined, limit: 500 },
        signal,
      }),
    [label, selector],
  );
  const found = data?.labels[0];
  return (
    <section class="card" aria-label={`Values of ${label}`}>
      <div class="row">
        <h3 class="grow">
          Values of <code>{label}</code>
        </h3>
        <button type="button" class="quiet" onClick={onClose}>
          Close
        </button>
      </div>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {found && (
        <>
          <p class="hint">
            {formatCount(found.label_values_count)} values in {formatCount(found.series_count)} series
            {found.label_values_count > found.cardinality.length && "; those with the most series:"}
          </p>
          <Table
            label={`Values of ${label}`}
            rows={found.cardinality}
            keyOf={({ label_value }) => label_value}
            columns={[
              {
                name: "Value",
                value: ({ label_value }) => label_value,
                show: ({ label_value }) =>
                  onValue ? (
                    <button type="button" class="quiet mono" title="Show only these series" onClick={() => onValue(label_value)}>
                      {label_value}
                    </button>
                  ) : (
                    <span class="mono">{label_value}</span>
                  ),
              },
              { name: "Series", value: ({ series_count }) => series_count, show: ({ series_count }) => formatCount(series_count), isNumber: true },
            ]}
          />
        </>
      )}
    </section>
  );
}
