/** Alerts, silences, rules and remediations of the native API. */
import { native } from "./native";
import type { Labels } from "./prometheus";

export type AlertState = "pending" | "firing" | "resolved" | "inactive";

export interface Alert {
  id: number;
  state: AlertState;
  /** The name of the rule, or the metric of a threshold. */
  rule: string;
  /** Null for the alert of a threshold. */
  rule_id: number | null;
  group: string;
  severity: string;
  labels: Labels;
  annotations: Record<string, string>;
  /** NaN and the infinities are texts. */
  value: number | string;
  query: string;
  active_at: string | null;
  fired_at: string | null;
  resolved_at: string | null;
  silenced_by: number[];
  acknowledgement: { actor: string; at: string } | null;
}

export interface Transition {
  from_state: AlertState;
  to_state: AlertState;
  at: string;
  value: number | string;
  actor: string;
  note: string;
}

export interface Silence {
  id: number;
  matchers: string[];
  reason: string;
  actor: string;
  starts_at: string;
  ends_at: string;
  is_active: boolean;
}

export interface RemediationSpec {
  workflow_type: string;
  task_queue: string;
  input: Record<string, unknown>;
  cooldown: string;
  max_attempts: number;
  needs_approval: boolean;
  approval_timeout: string;
  levels: string[];
}

export interface RuleFields {
  kind: "alert" | "record";
  namespace: string;
  group: string;
  name: string;
  expr: string;
  interval: string;
  query_offset: string;
  for: string;
  keep_firing_for: string;
  severity: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  max_alerts: number;
  enabled: boolean;
  remediation: RemediationSpec | null;
}

export interface Rule extends RuleFields {
  id: number;
  version: number;
  health: "ok" | "err" | "unknown";
  last_error: string;
  last_evaluation: string | null;
  evaluation_seconds: number;
}

export interface TestedAlert {
  labels: Labels;
  state: AlertState;
  value: number | string;
  active_at: string;
  fired_at: string | null;
  resolved_at: string | null;
}

export interface RuleTest {
  start: string;
  end: string;
  evaluations: number;
  fired: number;
  most_at_once: number;
  alerts: TestedAlert[];
}

export type RemediationState =
  | "requested"
  | "started"
  | "waiting_for_approval"
  | "running"
  | "succeeded"
  | "escalated"
  | "rolled_back"
  | "denied"
  | "expired"
  | "cancelled"
  | "failed";

export interface Remediation {
  id: number;
  workflow_id: string;
  run_id: string;
  /** Where Temporal's page shows the run, if the service knows. */
  run_url: string | null;
  workflow_type: string;
  task_queue: string;
  alert_id: number;
  rule: string;
  query: string;
  input: Record<string, unknown>;
  state: RemediationState;
  outcome: string;
  decision: { verdict: string; actor: string; reason: string } | null;
  approval_expires_at: string | null;
  cancellation: { actor: string; reason: string } | null;
  start_failures: number;
  last_error: string;
  requested_at: string;
  started_at: string | null;
  finished_at: string | null;
}

export interface Step {
  step: string;
  attempt: number;
  state: "running" | "succeeded" | "failed" | "cancelled";
  tries: number;
  detail: Record<string, unknown>;
  started_at: string;
  finished_at: string | null;
}

export interface RemediationDetail extends Remediation {
  steps: Step[];
}

/** Unix seconds of a time of the API. */
export function seconds(time: string): number {
  return Date.parse(time) / 1000;
}

const PAGE = 500;
/** Beyond this a list is cut, and says so. */
export const MOST_LISTED = 2000;

export interface Listed<T> {
  entries: T[];
  /** Whether there are more. */
  isCut: boolean;
}

interface PageReply {
  next_cursor: string | null;
}

/** The entries of all pages of a list, up to a limit; `until` ends it before. */
export async function listAll<T>(
  path: string,
  name: string,
  parameters: Record<string, string | number | readonly string[] | undefined>,
  signal: AbortSignal,
  until: (entry: T) => boolean = () => false,
): Promise<Listed<T>> {
  const entries: T[] = [];
  let cursor: string | undefined;
  do {
    const reply = await native.get<PageReply & Record<string, T[]>>(path, {
      parameters: { ...parameters, limit: PAGE, cursor },
      signal,
    });
    const page = (reply as Record<string, unknown>)[name] as T[];
    const end = page.findIndex(until);
    entries.push(...(end < 0 ? page : page.slice(0, end)));
    if (end >= 0) return { entries, isCut: false };
    cursor = reply.next_cursor ?? undefined;
  } while (cursor && entries.length < MOST_LISTED);
  return { entries, isCut: cursor !== undefined };
}
