/**
 * Alerts as bars over time, one row for each label set. A click on a bar opens its alert; by
 * keyboard the table does, as bars may be too small and too close to be targets.
 */
import { useMemo } from "preact/hooks";
import { type Alert, seconds } from "../../api/alerting";
import { formatShortTime, formatTime } from "../../format/times";
import { navigate } from "../../router";
import type { TimeRange } from "../../time/range";
import { alertName } from "./states";

const MOST_ROWS = 40;
const TICKS = 4;

interface Row {
  name: string;
  alerts: Alert[];
}

export function Timeline({ alerts, range }: { alerts: readonly Alert[]; range: TimeRange }) {
  const rows = useMemo(() => rowsOf(alerts), [alerts]);
  if (!rows.length) return null;
  const ticks = Array.from(
    { length: TICKS + 1 },
    (_, index) => range.start + ((range.end - range.start) * index) / TICKS,
  );
  return (
    <section class="card timeline" aria-label="Timeline">
      <ul>
        {rows.slice(0, MOST_ROWS).map(({ name, alerts: of }) => (
          <li key={name}>
            <span class="timeline-name mono">{name}</span>
            <span class="timeline-bars" role="img" aria-label={summaryOf(of)}>
              {of.map((alert) => (
                <Bar key={alert.id} alert={alert} range={range} />
              ))}
            </span>
          </li>
        ))}
      </ul>
      <div class="timeline-ticks hint" aria-hidden="true">
        {ticks.map((tick) => (
          <span key={tick}>{formatShortTime(tick)}</span>
        ))}
      </div>
      <p class="hint">
        <span class="swatch is-pending" /> pending <span class="swatch is-firing" /> firing
      </p>
      {rows.length > MOST_ROWS && <p class="hint">and {rows.length - MOST_ROWS} more label sets</p>}
    </section>
  );
}

function summaryOf(alerts: readonly Alert[]): string {
  const times = alerts.map(({ state, active_at }) => `${state} since ${formatTime(Math.floor(seconds(active_at ?? "")))}`);
  return times.join(", ");
}

/** Label sets with their alerts, those with the newest alert first. */
function rowsOf(alerts: readonly Alert[]): Row[] {
  const rows = new Map<string, Alert[]>();
  for (const alert of alerts) {
    const name = alertName(alert);
    const known = rows.get(name);
    if (known) known.push(alert);
    else rows.set(name, [alert]);
  }
  return [...rows].map(([name, of]) => ({ name, alerts: of }));
}

function Bar({ alert, range }: { alert: Alert; range: TimeRange }) {
  const start = seconds(alert.active_at ?? "");
  const fired = alert.fired_at ? seconds(alert.fired_at) : null;
  const end = alert.resolved_at ? seconds(alert.resolved_at) : range.end;
  const share = (time: number) =>
    Math.min(1, Math.max(0, (time - range.start) / (range.end - range.start)));
  const [left, right] = [share(start), share(end)];
  const width = Math.max(right - left, 0);
  const pending = width > 0 ? Math.min(1, Math.max(0, (share(fired ?? end) - left) / width)) : 0;
  const until = alert.resolved_at ? formatTime(end) : "now";
  const title = `${alertName(alert)}: ${alert.state}, ${formatTime(start)} – ${until}`;
  return (
    <span
      class="timeline-bar"
      title={title}
      style={{ left: `${left * 100}%`, width: `${width * 100}%` }}
      onClick={() => navigate("alerts", { alert: alert.id })}
    >
      <span class="is-pending" style={{ width: `${pending * 100}%` }} />
      {fired !== null && <span class="is-firing" />}
    </span>
  );
}
