/** What an empty query offers: the metrics that there are. */
import { useState } from "preact/hooks";
import { labelValues } from "../../api/prometheus";
import { formatCount } from "../../format/numbers";
import { promqlName } from "../../format/series";
import { ErrorBox, Loading } from "../../ui/states";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";

const MOST_NAMES = 60;
const LOOK_AGAIN_MS = 3000;

/** `hasOverview`: what is measured is shown below, so that names are listed only once somebody looks for one. */
export function Start({ onPick, hasOverview }: { onPick: (expression: string) => void; hasOverview: boolean }) {
  const { data: names, error, poll } = useRequest((signal) => labelValues("__name__", [], signal), []);
  const [filter, setFilter] = useState("");
  const isEmpty = names?.length === 0;
  useEvery(LOOK_AGAIN_MS, () => isEmpty && poll());
  if (error) return <ErrorBox error={error} />;
  if (!names) return <Loading what="Looking for metrics" />;
  if (isEmpty) return <p class="hint">Nothing is stored yet.</p>;
  const found = hasOverview && !filter ? [] : names.filter((name) => name.toLowerCase().includes(filter.toLowerCase()));
  return (
    <div class="start">
      <p>
        {formatCount(names.length)} {names.length === 1 ? "metric is" : "metrics are"} stored. Write an
        expression, or start with one of them:
      </p>
      <input
        aria-label="Find a metric"
        placeholder="Find a metric"
        value={filter}
        onInput={(event) => setFilter(event.currentTarget.value)}
      />
      <ul class="metric-names">
        {found.slice(0, MOST_NAMES).map((name) => (
          <li key={name}>
            <button type="button" class="quiet mono" onClick={() => onPick(expressionOf(name, names))}>
              {name}
            </button>
          </li>
        ))}
      </ul>
      {found.length > MOST_NAMES && <p class="hint">and {formatCount(found.length - MOST_NAMES)} more</p>}
    </div>
  );
}

/** What is worth drawing of a metric, by the conventions of names. */
function expressionOf(name: string, names: readonly string[]): string {
  const metric = promqlName(name) === name ? name : `{${promqlName(name)}}`;
  if (name.endsWith("_bucket")) return `sum by (le) (rate(${metric}[5m]))`;
  const isCounter =
    name.endsWith("_total") || (/_(count|sum)$/.test(name) && names.includes(name.replace(/_(count|sum)$/, "_bucket")));
  return isCounter ? `rate(${metric}[5m])` : metric;
}
