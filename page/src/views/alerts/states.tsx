/** How the states of alerts look. */
import type { Alert, AlertState } from "../../api/alerting";
import { seconds } from "../../api/alerting";
import type { Labels } from "../../api/prometheus";
import { formatValue } from "../../format/numbers";
import { formatSeries } from "../../format/series";
import { formatAgo, formatTime } from "../../format/times";
import { hrefOf } from "../../router";
import { Badge } from "../../ui/states";
import type { Tone } from "../../ui/toast";

const TONES: Record<AlertState, Tone> = {
  firing: "critical",
  pending: "warning",
  resolved: "good",
  inactive: "neutral",
};

export function StateBadge({ state }: { state: AlertState }) {
  return <Badge tone={TONES[state]}>{state}</Badge>;
}

export function SeverityBadge({ severity }: { severity: string }) {
  if (!severity) return null;
  const tone = severity === "critical" || severity === "page" ? "critical" : "neutral";
  return <Badge tone={severity === "warning" ? "warning" : tone}>{severity}</Badge>;
}

/** The labels that tell alerts of a rule apart. */
export function ownLabels(labels: Labels): Labels {
  const { alertname: _name, severity: _severity, ...own } = labels;
  return own;
}

/** `QueueTooLong{queue="mail"}` */
export function alertName(alert: Pick<Alert, "rule" | "labels">): string {
  const own = ownLabels(alert.labels);
  return Object.keys(own).length ? `${alert.rule} ${formatSeries(own)}` : alert.rule;
}

export function formatNumberOrText(value: number | string): string {
  return typeof value === "number" ? formatValue(value) : value;
}

/** How long ago, with the time itself as title. */
export function When({ time }: { time: string | null }) {
  if (!time) return <span>–</span>;
  return (
    <time dateTime={time} title={formatTime(seconds(time))}>
      {formatAgo(seconds(time))}
    </time>
  );
}

export function AlertLink({ alert }: { alert: Pick<Alert, "id" | "rule" | "labels"> }) {
  return <a href={hrefOf("alerts", { alert: alert.id })}>{alertName(alert)}</a>;
}
