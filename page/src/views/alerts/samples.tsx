/** The stored samples that an alert's expression reads, up to when it fired. */
import { useState } from "preact/hooks";
import { type Alert, seconds } from "../../api/alerting";
import { type MatrixSeries, query } from "../../api/prometheus";
import { formatSeries } from "../../format/series";
import { formatTime } from "../../format/times";
import { ErrorBox, Loading } from "../../ui/states";
import { useRequest } from "../../use_request";
import { selectorsOf } from "./conditions";

const WINDOW = "10m";
const MOST_SERIES = 5;
const MOST_SAMPLES = 30;

export function Samples({ alert }: { alert: Alert }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Samples of the last {WINDOW} before it {alert.fired_at ? "fired" : "became active"}</summary>
      {isOpen && selectorsOf(alert.query).map((selector) => (
        <Selector key={selector} selector={selector} alert={alert} />
      ))}
    </details>
  );
}

function Selector({ selector, alert }: { selector: string; alert: Alert }) {
  const time = seconds(alert.fired_at ?? alert.active_at ?? "");
  const { data, error } = useRequest(
    (signal) => query(`${selector}[${WINDOW}]`, time, signal),
    [selector, time],
  );
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  const series = data.data.resultType === "matrix" ? (data.data.result as MatrixSeries[]) : [];
  // Those that share no label value with the alert are not the ones it is about.
  const own = series.filter(({ metric }) =>
    Object.entries(metric).every(([name, value]) => (alert.labels[name] ?? value) === value),
  );
  return (
    <>
      <h3 class="mono">{selector}</h3>
      {!own.length && <p class="hint">There are no samples.</p>}
      {own.slice(0, MOST_SERIES).map(({ metric, values = [] }) => (
        <div key={formatSeries(metric)} class="samples" tabIndex={0} role="region" aria-label={formatSeries(metric)}>
          <p class="mono">{formatSeries(metric)}</p>
          <table class="table">
            <tbody>
              {values.slice(-MOST_SAMPLES).toReversed().map(([at, value]) => (
                <tr key={at}>
                  <td>{formatTime(at)}</td>
                  <td class="number">{value}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ))}
      {own.length > MOST_SERIES && <p class="hint">and {own.length - MOST_SERIES} more series</p>}
    </>
  );
}
