/** The definition of a metric, edited in place. */
import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { native } from "../../api/native";
import { ApiError } from "../../api/transport";
import type { Definition, Metric, Threshold } from "../../catalogue/catalogue";
import { formatSeries } from "../../format/series";
import { formatTime } from "../../format/times";
import { Dialog } from "../../ui/dialog";
import { ErrorBox } from "../../ui/states";
import { toast, toastError } from "../../ui/toast";
import { may } from "../../who";
import { AGGREGATIONS } from "./chart_state";

interface FormProps {
  metric: Metric;
  definition: Definition | null;
  /** While limits are edited. */
  onThreshold: (threshold: Partial<Threshold> | null) => void;
  /** After the definition was stored or deleted, or should be read again. */
  onChange: () => void;
}

type Fields = Record<string, string>;

function fieldsOf(metric: Metric, definition: Definition | null): Fields {
  const threshold = definition?.alert_threshold;
  return {
    display_name: definition?.display_name ?? "",
    description: definition?.description ?? metric.help,
    unit: definition?.unit ?? metric.unit,
    type: definition?.type ?? metric.type,
    aggregation: definition?.aggregation ?? "",
    retention_days: String(definition?.retention_days ?? ""),
    duplicate_policy: definition?.duplicate_policy ?? "first",
    "alert_threshold.warning": String(threshold?.warning ?? ""),
    "alert_threshold.critical": String(threshold?.critical ?? ""),
    "alert_threshold.direction": threshold?.direction ?? "above",
    "alert_threshold.for": threshold?.for ?? "0s",
  };
}

/** A number, nothing, or the text itself, for which the service has a better message than we have. */
function numberOf(text: string | undefined): number | string | null {
  const trimmed = (text ?? "").trim();
  if (!trimmed) return null;
  const value = Number(trimmed);
  return Number.isFinite(value) ? value : trimmed;
}

/** What the service stores: all fields, with those that the form does not show as they were. */
function bodyOf(fields: Fields, definition: Definition | null): object {
  const before = definition?.alert_threshold;
  const [warning, critical] = [numberOf(fields["alert_threshold.warning"]), numberOf(fields["alert_threshold.critical"])];
  const hasThreshold = warning !== null || critical !== null || Boolean(before?.overrides.length);
  return {
    display_name: fields.display_name,
    description: fields.description,
    unit: fields.unit,
    type: fields.type,
    aggregation: fields.aggregation || null,
    retention_days: numberOf(fields.retention_days),
    duplicate_policy: fields.duplicate_policy,
    alert_threshold: hasThreshold
      ? {
          warning,
          critical,
          direction: fields["alert_threshold.direction"],
          for: fields["alert_threshold.for"] || "0s",
          overrides: before?.overrides ?? [],
          remediation: before?.remediation ?? null,
        }
      : null,
  };
}

export function DefinitionForm({ metric, definition, onThreshold, onChange }: FormProps) {
  const [fields, setFields] = useState(() => fieldsOf(metric, definition));
  const [error, setError] = useState<Error | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [isAsking, setAsking] = useState(false);
  const path = `/definitions/${encodeURIComponent(metric.name)}`;
  const guard: Record<string, string> = definition
    ? { "If-Match": `"${definition.version}"` }
    : { "If-None-Match": "*" };

  const set = (name: string, value: string) => {
    const next = { ...fields, [name]: value };
    setFields(next);
    if (!name.startsWith("alert_threshold.")) return;
    const level = (field: string) => {
      const found = numberOf(next[`alert_threshold.${field}`]);
      return typeof found === "number" ? found : null;
    };
    onThreshold({ warning: level("warning"), critical: level("critical") });
  };
  const run = async (ask: () => Promise<unknown>, done: string) => {
    setBusy(true);
    setError(null);
    try {
      await ask();
      toast(done);
      onChange();
    } catch (problem) {
      setError(problem as Error);
    }
    setBusy(false);
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void run(() => native.put(path, bodyOf(fields, definition), { headers: guard }), "The definition is stored.");
  };
  const remove = () => {
    setAsking(false);
    native
      .delete(path, { headers: guard })
      .then(() => {
        toast("The definition is deleted; the samples are kept.");
        onChange();
      })
      .catch(toastError);
  };

  const places = error instanceof ApiError ? error.places : [];
  const faultOf = (name: string) => {
    const found = places.filter((place) => place.field === name);
    return found.map((place) => `${place.reason}${place.expected ? `; expected: ${place.expected}` : ""}`).join("; ");
  };
  const isPlaced = places.length > 0 && places.every((place) => place.field && (place.field in fields || place.field === "alert_threshold"));
  const wasChanged = error instanceof ApiError && error.status === 412;
  const mayEdit = may("edit");
  const common = { fields, faultOf, set };
  const threshold = definition?.alert_threshold;
  return (
    <form class="stack definition" onSubmit={submit} noValidate>
      {!mayEdit && <p class="hint">A change needs the role edit.</p>}
      {error && !isPlaced && <ErrorBox error={error} title="The definition was not stored." />}
      {error && isPlaced && (
        <p class="field-fault" role="alert">
          The definition was not stored; see below.
        </p>
      )}
      {wasChanged && (
        <button type="button" onClick={onChange}>
          Read the current definition, and lose what is entered here
        </button>
      )}
      <fieldset disabled={!mayEdit || isBusy} class="definition-fields">
        <Field name="display_name" label="Display name" {...common} />
        <Field name="unit" label="Unit" {...common} hint="such as seconds, bytes, jobs" />
        <Field name="type" label="Type" {...common} options={["gauge", "counter", "histogram", "summary"]} />
        <Field name="aggregation" label="Aggregation of charts" {...common} options={["", ...AGGREGATIONS]} empty="as the type says" />
        <Field name="retention_days" label="Kept for (days)" {...common} hint="empty: as the service keeps samples" />
        <Field name="duplicate_policy" label="Second value for the same time" {...common} options={["first", "last"]} />
        <Field name="description" label="Description" {...common} isLong />
      </fieldset>
      <fieldset disabled={!mayEdit || isBusy} class="definition-fields">
        <legend>Threshold</legend>
        <Field name="alert_threshold.warning" label="Warning" {...common} hint="drawn in the chart above" />
        <Field name="alert_threshold.critical" label="Critical" {...common} />
        <Field name="alert_threshold.direction" label="A breach is" {...common} options={["above", "below"]} />
        <Field name="alert_threshold.for" label="For" {...common} hint="such as 5m; 0s: at once" />
        {faultOf("alert_threshold") && <p class="field-fault definition-wide">The threshold {faultOf("alert_threshold")}</p>}
        {threshold && threshold.overrides.length > 0 && (
          <p class="definition-wide hint">
            Other limits, which this form keeps as they are:{" "}
            {threshold.overrides
              .map(({ labels, warning, critical }) => `${formatSeries(labels)} warning ${warning ?? "–"}, critical ${critical ?? "–"}`)
              .join("; ")}
          </p>
        )}
        {threshold?.remediation && (
          <p class="definition-wide hint">
            A breach starts the remediation <code>{threshold.remediation.workflow_type}</code>.
          </p>
        )}
      </fieldset>
      {mayEdit && (
        <div class="row">
          <button type="submit" disabled={isBusy}>
            {definition ? "Save" : "Create the definition"}
          </button>
          {definition && (
            <button type="button" disabled={isBusy} onClick={() => setAsking(true)}>
              Delete the definition
            </button>
          )}
          {definition && (
            <span class="hint">
              version {definition.version}, changed {formatTime(Date.parse(definition.updated_at) / 1000)}
            </span>
          )}
        </div>
      )}
      {isAsking && (
        <Dialog title={`Delete the definition of ${metric.name}?`} onClose={() => setAsking(false)}>
          <p>Its threshold and retention end. The samples are kept.</p>
          <div class="row end">
            <button type="button" onClick={() => setAsking(false)}>
              Keep it
            </button>
            <button type="button" class="primary" onClick={remove}>
              Delete
            </button>
          </div>
        </Dialog>
      )}
    </form>
  );
}

interface FieldProps {
  name: string;
  label: string;
  fields: Fields;
  faultOf: (name: string) => string;
  set: (name: string, value: string) => void;
  options?: readonly string[];
  /** What the option without a value is called. */
  empty?: string;
  hint?: ComponentChildren;
  isLong?: boolean;
}

function Field({ name, label, fields, faultOf, set, options, empty, hint, isLong }: FieldProps) {
  const id = useId();
  const fault = faultOf(name);
  const shared = {
    name,
    value: fields[name] ?? "",
    "aria-invalid": fault ? true : undefined,
    "aria-describedby": fault || hint ? id : undefined,
  };
  return (
    <div class={isLong ? "definition-wide" : ""}>
      <label>
        {label}
        {options ? (
          <select {...shared} onChange={(event) => set(name, event.currentTarget.value)}>
            {options.map((option) => (
              <option key={option} value={option}>
                {option || empty}
              </option>
            ))}
          </select>
        ) : isLong ? (
          <textarea {...shared} rows={3} onInput={(event) => set(name, event.currentTarget.value)} />
        ) : (
          <input {...shared} autocomplete="off" onInput={(event) => set(name, event.currentTarget.value)} />
        )}
      </label>
      {(fault || hint) && (
        <p id={id} class={fault ? "field-fault" : "hint"}>
          {fault || hint}
        </p>
      )}
    </div>
  );
}
