/** Asks who does something and why, and does it. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { usesTokens } from "../session";
import { ofTab } from "../stores";
import { Dialog } from "./dialog";
import { ErrorBox } from "./states";
import { toast } from "./toast";

const ACTOR = "promcompat.actor";

/** The name under which this tab acts; with tokens the service takes that of the token. */
export function actorField(data: FormData): { actor?: string } {
  const actor = String(data.get("actor") ?? "").trim();
  if (!actor) return {};
  ofTab.set(ACTOR, actor);
  return { actor };
}

export function ActorInput() {
  if (usesTokens) return null;
  return (
    <label>
      Your name
      <input
        name="actor"
        defaultValue={ofTab.get(ACTOR) ?? ""}
        autocomplete="name"
        maxLength={200}
        required
      />
    </label>
  );
}

/** A form in a dialog whose faults are shown above its button; it closes when `act` succeeds. */
export function FormDialog({
  title,
  action,
  done,
  act,
  onClose,
  children,
}: {
  title: string;
  /** What the button says. */
  action: string;
  /** What is said afterwards. */
  done: string;
  act: (data: FormData) => Promise<unknown>;
  onClose: () => void;
  children?: ComponentChildren;
}) {
  const [error, setError] = useState<Error | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    act(new FormData(event.currentTarget as HTMLFormElement))
      .then(() => {
        toast(done);
        onClose();
      })
      .catch((problem: unknown) => {
        setError(problem instanceof Error ? problem : new Error(String(problem)));
        setBusy(false);
      });
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form class="form" onSubmit={submit}>
        {children}
        {error && <ErrorBox error={error} />}
        <div class="row end">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" disabled={isBusy}>
            {action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** A FormDialog that asks for a name and a reason. */
export function ReasonDialog({
  isRequired = false,
  act,
  children,
  ...rest
}: {
  title: string;
  action: string;
  done: string;
  /** Whether there must be a reason. */
  isRequired?: boolean;
  act: (body: { actor?: string; reason: string }) => Promise<unknown>;
  onClose: () => void;
  children?: ComponentChildren;
}) {
  return (
    <FormDialog
      {...rest}
      act={(data) => act({ ...actorField(data), reason: String(data.get("reason") ?? "").trim() })}
    >
      {children}
      <ActorInput />
      <label>
        Reason{!isRequired && " (optional)"}
        <input name="reason" maxLength={2000} required={isRequired} autofocus />
      </label>
    </FormDialog>
  );
}
