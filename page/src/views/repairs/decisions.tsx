/** What a person can decide about an open remediation. */
import { useState } from "preact/hooks";
import type { Remediation } from "../../api/alerting";
import { native } from "../../api/native";
import { ReasonDialog } from "../../ui/reason_dialog";
import { may } from "../../who";
import { isOpen } from "./states";

const CHOICES = {
  approve: { name: "Approve", title: "Approve the repair", done: "Approved." },
  deny: { name: "Deny", title: "Deny the repair", done: "Denied: nothing is done." },
  cancel: { name: "Cancel repair", title: "Cancel the repair", done: "The repair is asked to clean up and end." },
};

type Choice = keyof typeof CHOICES;

const TEXTS: Record<Choice, string> = {
  approve: "The workflow acts as soon as it is approved.",
  deny: "The workflow ends without having done anything.",
  cancel: "What has begun is ended and cleaned up.",
};

export function Decisions({ repair, onChange }: { repair: Remediation; onChange: () => void }) {
  const [choice, setChoice] = useState<Choice | null>(null);
  const waits = repair.state === "waiting_for_approval" && !repair.decision;
  const shown: Choice[] = waits ? ["approve", "deny", "cancel"] : isOpen(repair) ? ["cancel"] : [];
  if (!may("operate")) return null;
  const about = `${repair.rule} (repair ${repair.id})`;
  return (
    <>
      {shown.map((each) => (
        <button
          key={each}
          type="button"
          class={each === "approve" ? "primary" : ""}
          aria-label={`${CHOICES[each].name}: ${about}`}
          onClick={() => setChoice(each)}
        >
          {CHOICES[each].name}…
        </button>
      ))}
      {choice && (
        <ReasonDialog
          title={CHOICES[choice].title}
          action={CHOICES[choice].name}
          done={CHOICES[choice].done}
          act={(body) => native.post(`/remediations/${repair.id}/${choice}`, body)}
          onClose={() => {
            setChoice(null);
            onChange();
          }}
        >
          <p>
            {about}: {TEXTS[choice]}
          </p>
        </ReasonDialog>
      )}
    </>
  );
}
