/** Whether repairs helped, by rule. */
import { type Alert, type Remediation, seconds } from "../../api/alerting";
import { isOpen } from "./states";

export interface Effect {
  rule: string;
  count: number;
  /** The condition cleared. */
  repaired: number;
  /** Of those repaired, how many alerts fired again within an hour. */
  cameBack: number;
  failed: number;
  /** Denied, expired or cancelled. */
  notDone: number;
  open: number;
  /** Of those repaired, from the request to the end. */
  medianSeconds: number | null;
}

const SOON_SECONDS = 3600;

export function effectsOf(repairs: readonly Remediation[], alerts: readonly Alert[]): Effect[] {
  const byRule = new Map<string, Remediation[]>();
  for (const repair of repairs) {
    byRule.set(repair.rule, [...(byRule.get(repair.rule) ?? []), repair]);
  }
  const returns = returnsOf(alerts);
  return [...byRule].map(([rule, of]) => {
    const repaired = of.filter(({ state }) => state === "succeeded");
    const times = repaired.map((each) => seconds(each.finished_at ?? "") - seconds(each.requested_at));
    return {
      rule,
      count: of.length,
      repaired: repaired.length,
      cameBack: repaired.filter(returns).length,
      failed: of.filter(({ state }) => ["escalated", "rolled_back", "failed"].includes(state)).length,
      notDone: of.filter(({ state }) => ["denied", "expired", "cancelled"].includes(state)).length,
      open: of.filter(isOpen).length,
      medianSeconds: times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? null,
    };
  });
}

/** Whether the alert of a repair fired again soon after it. */
export function returnsOf(alerts: readonly Alert[]): (repair: Remediation) => boolean {
  const keys = new Map(alerts.map((alert) => [alert.id, keyOf(alert)]));
  const fired = new Map<string, number[]>();
  for (const alert of alerts) {
    if (!alert.fired_at) continue;
    const key = keyOf(alert);
    fired.set(key, [...(fired.get(key) ?? []), seconds(alert.fired_at)]);
  }
  return ({ alert_id, finished_at }) => {
    const end = seconds(finished_at ?? "");
    const times = fired.get(keys.get(alert_id) ?? "") ?? [];
    return times.some((time) => time > end && time < end + SOON_SECONDS);
  };
}

/** The severity is left out: that of a threshold changes. */
function keyOf({ rule, labels }: Alert): string {
  const { severity: _severity, ...rest } = labels;
  return JSON.stringify([rule, Object.entries(rest).toSorted()]);
}
