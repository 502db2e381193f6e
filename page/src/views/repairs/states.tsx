/** How the states of remediations and their steps look. */
import type { RemediationState, Step } from "../../api/alerting";
import { Badge } from "../../ui/states";
import type { Tone } from "../../ui/toast";

const STATES: Record<RemediationState, { name: string; tone: Tone }> = {
  requested: { name: "waits for Temporal", tone: "warning" },
  started: { name: "waits for a worker", tone: "warning" },
  waiting_for_approval: { name: "waits for approval", tone: "warning" },
  running: { name: "running", tone: "warning" },
  succeeded: { name: "repaired", tone: "good" },
  escalated: { name: "escalated", tone: "critical" },
  rolled_back: { name: "rolled back", tone: "critical" },
  denied: { name: "denied", tone: "neutral" },
  expired: { name: "not approved in time", tone: "neutral" },
  cancelled: { name: "cancelled", tone: "neutral" },
  failed: { name: "failed", tone: "critical" },
};

export const OPEN_STATES: readonly RemediationState[] = [
  "requested",
  "started",
  "waiting_for_approval",
  "running",
];

export function isOpen({ state }: { state: RemediationState }): boolean {
  return OPEN_STATES.includes(state);
}

export function stateName(state: RemediationState): string {
  return STATES[state].name;
}

export function RemediationBadge({ state }: { state: RemediationState }) {
  return <Badge tone={STATES[state].tone}>{STATES[state].name}</Badge>;
}

const STEP_TONES: Record<Step["state"], Tone> = {
  running: "warning",
  succeeded: "good",
  failed: "critical",
  cancelled: "neutral",
};

export function StepBadge({ state }: { state: Step["state"] }) {
  return <Badge tone={STEP_TONES[state]}>{state}</Badge>;
}
