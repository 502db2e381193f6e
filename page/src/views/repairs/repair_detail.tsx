/** One remediation with its steps as they happen. */
import { useMemo } from "preact/hooks";
import { type Alert, type RemediationDetail, type Step, seconds } from "../../api/alerting";
import { native } from "../../api/native";
import { formatSeconds } from "../../format/durations";
import { formatTime } from "../../format/times";
import { seriesColour } from "../../plot/palette";
import { hrefOf } from "../../router";
import { ErrorBox, Loading } from "../../ui/states";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";
import { ConditionPlots } from "../alerts/condition_plots";
import { AlertLink, StateBadge, When } from "../alerts/states";
import { Decisions } from "./decisions";
import { RemediationBadge, StepBadge, isOpen } from "./states";

const POLL_MS = 2_000;
const CONTEXT_SECONDS = 900;

interface Found {
  repair: RemediationDetail;
  /** Undefined once its history is no longer kept. */
  alert: Alert | undefined;
}

export function RepairDetail({ id }: { id: string }) {
  const { data, error, reload, poll } = useRequest(
    async (signal): Promise<Found> => {
      const repair = await native.get<RemediationDetail>(`/remediations/${encodeURIComponent(id)}`, {
        signal,
      });
      const alert = await native
        .get<Alert>(`/alerts/${repair.alert_id}`, { signal })
        .catch((problem: { status?: number }) => {
          if (problem.status === 404) return undefined;
          throw problem;
        });
      return { repair, alert };
    },
    [id],
  );
  const isLive = !data || isOpen(data.repair) || data.alert?.state === "firing";
  useEvery(POLL_MS, () => isLive && poll());
  return (
    <div class="stack">
      <p>
        <a href={hrefOf("repairs")}>← All repairs</a>
      </p>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data && <Shown {...data} onChange={reload} />}
    </div>
  );
}

function Shown({ repair, alert, onChange }: Found & { onChange: () => void }) {
  const { decision, cancellation } = repair;
  return (
    <>
      <section class="card stack" aria-label="The repair">
        <header class="row">
          <h2>
            {repair.rule}: {repair.workflow_type}
          </h2>
          <RemediationBadge state={repair.state} />
          <span class="grow" />
          <Decisions repair={repair} onChange={onChange} />
        </header>
        {repair.outcome && <p>{repair.outcome}</p>}
        {repair.last_error && !repair.started_at && <ErrorBox error={new Error(repair.last_error)} title="It could not be started yet" />}
        <dl class="facts">
          <dt>Alert</dt>
          <dd>
            {alert ? (
              <>
                <AlertLink alert={alert} /> <StateBadge state={alert.state} />
              </>
            ) : (
              "its history is no longer kept"
            )}
          </dd>
          <dt>Asked for</dt>
          <dd>{at(repair.requested_at)}</dd>
          <dt>Started</dt>
          <dd>{at(repair.started_at)}</dd>
          <dt>Ended</dt>
          <dd>{at(repair.finished_at)}</dd>
          {repair.state === "waiting_for_approval" && repair.approval_expires_at && (
            <>
              <dt>Waits until</dt>
              <dd>{at(repair.approval_expires_at)}</dd>
            </>
          )}
          {decision && (
            <>
              <dt>Decision</dt>
              <dd>
                {decision.verdict} by {decision.actor || "nobody"}
                {decision.reason && `: ${decision.reason}`}
              </dd>
            </>
          )}
          {cancellation && (
            <>
              <dt>Cancelled by</dt>
              <dd>
                {cancellation.actor}
                {cancellation.reason && `: ${cancellation.reason}`}
              </dd>
            </>
          )}
          <dt>Temporal</dt>
          <dd>
            {repair.run_url ? (
              <a href={repair.run_url} target="_blank" rel="noreferrer">
                {repair.workflow_id}
              </a>
            ) : (
              <span class="mono">{repair.workflow_id}</span>
            )}{" "}
            on the queue {repair.task_queue}
          </dd>
        </dl>
      </section>
      <Steps repair={repair} />
      <section class="card stack">
        <h2>The condition</h2>
        <Condition repair={repair} alert={alert} />
      </section>
      <details class="card">
        <summary>Input</summary>
        <pre tabIndex={0}>{JSON.stringify(repair.input, null, 2)}</pre>
      </details>
    </>
  );
}

function Condition({ repair, alert }: Pick<Found, "alert"> & { repair: RemediationDetail }) {
  const start = seconds(repair.requested_at) - CONTEXT_SECONDS;
  const now = Math.ceil(Date.now() / 10_000) * 10;
  const end = repair.finished_at
    ? Math.min(seconds(repair.finished_at) + CONTEXT_SECONDS, now)
    : now;
  const marks = useMemo(() => {
    const began = seconds(repair.started_at ?? repair.requested_at);
    const until = repair.finished_at ? seconds(repair.finished_at) : end;
    return [{ start: began, end: until, name: "repair", colour: seriesColour(0) }];
  }, [repair.started_at, repair.finished_at, end]);
  const labels = alert && { labels: alert.labels };
  return <ConditionPlots text={repair.query} range={{ start, end }} marks={marks} {...labels} />;
}

function Steps({ repair }: { repair: RemediationDetail }) {
  return (
    <section class="card" aria-label="Steps" aria-live="polite">
      <h2>Steps</h2>
      {!repair.steps.length && (
        <p class="hint">{isOpen(repair) ? "No step has begun yet." : "Nothing was done."}</p>
      )}
      <ol class="steps">
        {repair.steps.map((step) => (
          <li key={`${step.step} ${step.attempt}`}>
            <div class="row">
              <strong>{step.step}</strong>
              <StepBadge state={step.state} />
              <span class="hint">
                attempt {step.attempt}
                {step.tries > 1 && `, ${step.tries} tries`}, began {formatTime(Math.floor(seconds(step.started_at)))}
                {step.finished_at && `, took ${formatSeconds(took(step))}`}
              </span>
            </div>
            <Detail detail={step.detail} />
          </li>
        ))}
      </ol>
    </section>
  );
}

function took({ started_at, finished_at }: Step): number {
  return finished_at ? seconds(finished_at) - seconds(started_at) : 0;
}

function Detail({ detail }: { detail: Record<string, unknown> }) {
  const entries = Object.entries(detail);
  if (!entries.length) return null;
  return (
    <dl class="facts">
      {entries.map(([name, value]) => [
        <dt key={`${name}:`}>{name}</dt>,
        <dd key={name} class="mono">
          {typeof value === "string" ? value : JSON.stringify(value)}
        </dd>,
      ])}
    </dl>
  );
}

function at(time: string | null) {
  if (!time) return "–";
  return (
    <>
      {formatTime(Math.floor(seconds(time)))} (<When time={time} />)
    </>
  );
}
