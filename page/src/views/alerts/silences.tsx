/** Silences: which there are, new ones, and their ends. */
import { type Silence, listAll, seconds } from "../../api/alerting";
import { native } from "../../api/native";
import type { Labels } from "../../api/prometheus";
import { equalFilter, filterText } from "../../format/series";
import { type QueryChange, place, setQuery } from "../../router";
import { logInReason } from "../../session";
import { ActorInput, FormDialog, actorField } from "../../ui/reason_dialog";
import { Badge, Empty, ErrorBox, Loading } from "../../ui/states";
import { type Column, Table } from "../../ui/table";
import { toast, toastError } from "../../ui/toast";
import { useEvery } from "../../use_every";
import { useRequest } from "../../use_request";
import { may } from "../../who";
import { When } from "./states";

const POLL_MS = 10_000;
const DURATIONS = ["30m", "1h", "2h", "4h", "12h", "1d", "2d", "1w"];

/** The address of a new silence for these labels. */
export function silenceHref(labels: Labels): QueryChange {
  const matchers = Object.entries(labels).map(([name, value]) => filterText(equalFilter(name, value)));
  return { tab: "silences", silence: "new", matchers: matchers.join("\n") };
}

function stateOf(silence: Silence): "active" | "scheduled" | "ended" {
  if (silence.is_active) return "active";
  return seconds(silence.starts_at) > Date.now() / 1000 ? "scheduled" : "ended";
}

export function SilenceList() {
  const { query } = place.value;
  const includesEnded = query.has("ended");
  const { data, error, reload, poll } = useRequest(
    (signal) =>
      listAll<Silence>("/silences", "silences", { include_ended: String(includesEnded) }, signal),
    [includesEnded],
  );
  useEvery(POLL_MS, poll);
  const end = (silence: Silence) => {
    native
      .delete(`/silences/${silence.id}`)
      .then(() => {
        toast("The silence has ended.");
        reload();
      })
      .catch(toastError);
  };
  return (
    <div class="stack">
      <div class="row">
        {may("edit") && (
          <button type="button" class="primary" onClick={() => setQuery({ silence: "new" })}>
            New silence…
          </button>
        )}
        <label class="inline">
          <input
            type="checkbox"
            checked={includesEnded}
            onChange={(event) => setQuery({ ended: event.currentTarget.checked })}
          />
          Show ended ones
        </label>
      </div>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data && data.entries.length > 0 && (
        <Table label="Silences" columns={columnsOf(end)} rows={data.entries} keyOf={({ id }) => id} />
      )}
      {data && !data.entries.length && (
        <Empty title="There are no silences.">
          <p>While a silence is active, its alerts are listed, but nobody is notified and nothing is repaired.</p>
        </Empty>
      )}
      {query.get("silence") === "new" && !logInReason.value && may("edit") && (
        <NewSilence
          matchers={query.get("matchers") ?? ""}
          onClose={() => {
            setQuery({ silence: null, matchers: null }, { replace: true });
            reload();
          }}
        />
      )}
    </div>
  );
}

function columnsOf(end: (silence: Silence) => void): Column<Silence>[] {
  return [
    {
      name: "State",
      value: stateOf,
      show: (silence) => (
        <Badge tone={silence.is_active ? "good" : "neutral"}>{stateOf(silence)}</Badge>
      ),
    },
    {
      name: "Alerts with",
      value: ({ matchers }) => matchers.join(", "),
      show: ({ matchers }) => (
        <span class="labels">
          {matchers.map((matcher) => (
            <span class="label" key={matcher}>
              {matcher}
            </span>
          ))}
        </span>
      ),
    },
    { name: "Reason", value: ({ reason }) => reason },
    { name: "By", value: ({ actor }) => actor },
    { name: "Begins", value: ({ starts_at }) => starts_at, show: ({ starts_at }) => <When time={starts_at} /> },
    { name: "Ends", value: ({ ends_at }) => ends_at, show: ({ ends_at }) => <When time={ends_at} /> },
    {
      name: "Action",
      value: () => null,
      show: (silence) =>
        may("edit") &&
        stateOf(silence) !== "ended" && (
          <button type="button" aria-label={`End now: the silence of ${silence.matchers.join(", ")}`} onClick={() => end(silence)}>
            End now
          </button>
        ),
    },
  ];
}

function NewSilence({ matchers, onClose }: { matchers: string; onClose: () => void }) {
  const create = (data: FormData) => {
    const text = (name: string) => String(data.get(name) ?? "").trim();
    const [starts, ends] = [text("starts"), text("ends")];
    return native.post("/silences", {
      // Not by commas: the values of an alert's labels may have some.
      matchers: text("matchers").split("\n").map((line) => line.trim()).filter(Boolean),
      reason: text("reason"),
      ...actorField(data),
      ...(starts && { starts_at: new Date(starts).toISOString() }),
      ...(ends ? { ends_at: new Date(ends).toISOString() } : { duration: text("duration") }),
    });
  };
  return (
    <FormDialog title="New silence" action="Silence" done="Silenced." act={create} onClose={onClose}>
      <label>
        Labels that alerts must have, one in a line
        <textarea
          name="matchers"
          class="mono"
          rows={Math.min(8, Math.max(3, matchers.split("\n").length))}
          defaultValue={matchers}
          placeholder={"queue=mail\nhost=~web-.*"}
          spellcheck={false}
          required
        />
      </label>
      <div class="row">
        <label>
          For
          <select name="duration">
            {DURATIONS.map((each) => (
              <option key={each} selected={each === "2h"}>
                {each}
              </option>
            ))}
          </select>
        </label>
        <label>
          or until
          <input name="ends" type="datetime-local" />
        </label>
        <label>
          Begins (empty: now)
          <input name="starts" type="datetime-local" />
        </label>
      </div>
      <ActorInput />
      <label>
        Reason
        <input name="reason" maxLength={2000} required />
      </label>
    </FormDialog>
  );
}
