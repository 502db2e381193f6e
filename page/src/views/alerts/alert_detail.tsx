/** One alert: why it fired, what happened to it, and what can be done about it. */
import { useMemo, useState } from "preact/hooks";
import { type Alert, type Remediation, type Transition, seconds } from "../../api/alerting";
import { native } from "../../api/native";
import { formatTime } from "../../format/times";
import { hrefOf, navigate, place } from "../../router";
import { type TimeRange, range } from "../../time/range";
import { CopyButton } from "../../ui/copy";
import { ReasonDialog } from "../../ui/reason_dialog";
import { Badge, ErrorBox, LabelList, Loading } from "../../ui/states";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";
import { may } from "../../who";
import { RemediationBadge } from "../repairs/states";
import { ConditionPlots } from "./condition_plots";
import { Samples } from "./samples";
import { silenceHref } from "./silences";
import { SeverityBadge, StateBadge, When, formatNumberOrText } from "./states";

const POLL_MS = 5_000;
const LEAST_CONTEXT_SECONDS = 900;

interface Found {
  alert: Alert;
  history: Transition[];
  remediations: Remediation[];
}

export function AlertDetail({ id }: { id: string }) {
  const { data, error, reload, poll } = useRequest(
    async (signal): Promise<Found> => {
      const path = `/alerts/${encodeURIComponent(id)}`;
      const [alert, { transitions }] = await Promise.all([
        native.get<Alert>(path, { signal }),
        native.get<{ transitions: Transition[] }>(`${path}/history`, { signal }),
      ]);
      const parameters = { alert: alert.id, limit: 20 };
      const { remediations } = await native.get<{ remediations: Remediation[] }>("/remediations", {
        parameters,
        signal,
      });
      return { alert, history: transitions, remediations };
    },
    [id],
  );
  useEvery(POLL_MS, poll);
  return (
    <div class="stack">
      <p>
        <a href={hrefOf("alerts")}>← All alerts</a>
      </p>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data && <Shown {...data} onChange={reload} />}
    </div>
  );
}

function Shown({ alert, history, remediations, onChange }: Found & { onChange: () => void }) {
  const isOpen = alert.state === "firing" || alert.state === "pending";
  return (
    <>
      <section class="card stack" aria-label="The alert">
        <header class="row">
          <h2>{alert.rule}</h2>
          <StateBadge state={alert.state} />
          <SeverityBadge severity={alert.severity} />
          {alert.silenced_by.length > 0 && (
            <a href={hrefOf("alerts", { tab: "silences" })}>
              <Badge>silenced</Badge>
            </a>
          )}
          {alert.acknowledgement && <Badge tone="good">{alert.acknowledgement.actor} has it</Badge>}
          <span class="grow" />
          <Actions alert={alert} isOpen={isOpen} onChange={onChange} />
        </header>
        <LabelList labels={alert.labels} />
        <Annotations annotations={alert.annotations} />
        <dl class="facts">
          <dt>Value</dt>
          <dd>{formatNumberOrText(alert.value)}</dd>
          <dt>Active since</dt>
          <dd>{moment(alert.active_at)}</dd>
          <dt>Fired</dt>
          <dd>{moment(alert.fired_at)}</dd>
          <dt>Ended</dt>
          <dd>{moment(alert.resolved_at)}</dd>
          <dt>Rule</dt>
          <dd>
            {alert.rule_id === null ? (
              <>the threshold of the metric {alert.rule}</>
            ) : (
              <a href={hrefOf("rules", { rule: alert.rule_id })}>
                {alert.rule} in the group {alert.group}
              </a>
            )}
          </dd>
        </dl>
      </section>
      <Why alert={alert} />
      {remediations.length > 0 && (
        <section class="card">
          <h2>Repairs</h2>
          <ul class="plain">
            {remediations.map((each) => (
              <li key={each.id} class="row">
                <RemediationBadge state={each.state} />
                <a href={hrefOf("repairs", { repair: each.id })}>{each.workflow_type}</a>
                <When time={each.requested_at} />
                <span>{each.outcome}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      <History steps={history} />
    </>
  );
}

function Why({ alert }: { alert: Alert }) {
  const isZoomed = place.value.query.has("from");
  const around = useMemo(() => rangeAround(alert), [alert]);
  const shown = isZoomed ? range.value : around;
  const marks = useMemo(() => {
    if (!alert.fired_at) return [];
    const end = alert.resolved_at ? seconds(alert.resolved_at) : Date.now() / 1000;
    return [{ start: seconds(alert.fired_at), end, name: "firing" }];
  }, [alert.fired_at, alert.resolved_at]);
  return (
    <section class="card stack">
      <header class="row">
        <h2 class="grow">Why</h2>
        <CopyButton text={alert.query} name="Copy the expression" />
        {isZoomed && (
          <a href={hrefOf("alerts", { alert: alert.id })}>Around the alert</a>
        )}
      </header>
      <ConditionPlots text={alert.query} range={shown} labels={alert.labels} marks={marks} />
      <Samples alert={alert} />
    </section>
  );
}

/** From some time before the alert to some time after it, or until now. */
function rangeAround({ active_at, resolved_at }: Alert): TimeRange {
  const now = Date.now() / 1000;
  const start = active_at ? seconds(active_at) : now;
  const end = resolved_at ? seconds(resolved_at) : now;
  const context = Math.max((end - start) / 2, LEAST_CONTEXT_SECONDS);
  return { start: start - context, end: Math.min(end + context, now) };
}

function moment(time: string | null) {
  if (!time) return "–";
  return (
    <>
      {formatTime(Math.floor(seconds(time)))} (<When time={time} />)
    </>
  );
}

function Annotations({ annotations }: { annotations: Record<string, string> }) {
  const entries = Object.entries(annotations);
  if (!entries.length) return null;
  return (
    <dl class="facts">
      {entries.map(([name, text]) => [
        <dt key={`${name}:`}>{name}</dt>,
        <dd key={name}>
          {/^https?:\/\/\S+$/.test(text) ? (
            <a href={text} target="_blank" rel="noreferrer">
              {text}
            </a>
          ) : (
            text
          )}
        </dd>,
      ])}
    </dl>
  );
}

type Action = "acknowledge" | "resolve" | null;

function Actions({ alert, isOpen, onChange }: { alert: Alert; isOpen: boolean; onChange: () => void }) {
  const [action, setAction] = useState<Action>(null);
  const close = () => {
    setAction(null);
    onChange();
  };
  if (!may("edit")) return null;
  const send = (name: string) => (body: unknown) => native.post(`/alerts/${alert.id}/${name}`, body);
  return (
    <>
      {isOpen && !alert.acknowledgement && (
        <button type="button" class="primary" onClick={() => setAction("acknowledge")}>
          Acknowledge
        </button>
      )}
      <button type="button" onClick={() => navigate("alerts", silenceHref(alert.labels))}>
        Silence…
      </button>
      {isOpen && (
        <button type="button" onClick={() => setAction("resolve")}>
          Resolve…
        </button>
      )}
      {action === "acknowledge" && (
        <ReasonDialog
          title="Acknowledge the alert"
          action="Acknowledge"
          done="Acknowledged."
          act={send("acknowledge")}
          onClose={close}
        >
          <p>Others will see that you take care of it.</p>
        </ReasonDialog>
      )}
      {action === "resolve" && (
        <ReasonDialog
          title="Resolve the alert by hand"
          action="Resolve"
          done="Resolved."
          isRequired
          act={send("resolve")}
          onClose={close}
        >
          <p>
            For something that no longer exists. If the condition still holds at the next evaluation, a new
            alert fires; a silence prevents that it notifies.
          </p>
        </ReasonDialog>
      )}
    </>
  );
}

function History({ steps }: { steps: Transition[] }) {
  return (
    <section class="card">
      <h2>History</h2>
      <ol class="history">
        {steps.map((step, index) => (
          <li key={index}>
            <time dateTime={step.at}>{formatTime(Math.floor(seconds(step.at)))}</time>{" "}
            {step.from_state === step.to_state ? (
              <Badge>note</Badge>
            ) : (
              <>
                {step.from_state} → <StateBadge state={step.to_state} />
              </>
            )}{" "}
            at {formatNumberOrText(step.value)}
            {step.note && <>: {step.note}</>}
          </li>
        ))}
      </ol>
    </section>
  );
}
