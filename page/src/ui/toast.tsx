/** Short messages about what has just happened, in a corner of the page. */
import { signal } from "@preact/signals";

export type Tone = "good" | "warning" | "critical" | "neutral";

interface Toast {
  id: number;
  text: string;
  tone: Tone;
}

const toasts = signal<Toast[]>([]);
let lastId = 0;
const SHOWN_MS = 6000;

/** Show a message; faults stay until they are closed. */
export function toast(text: string, tone: Tone = "good"): void {
  const id = ++lastId;
  toasts.value = [...toasts.value, { id, text, tone }];
  if (tone !== "critical") window.setTimeout(() => close(id), SHOWN_MS);
}

/** Show what went wrong with an action, in the service's own words. */
export function toastError(error: unknown): void {
  toast(error instanceof Error ? error.message : String(error), "critical");
}

function close(id: number): void {
  toasts.value = toasts.value.filter((other) => other.id !== id);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map(({ id, text, tone }) => (
        <div key={id} class={`toast is-${tone}`}>
          <span>{text}</span>
          <button type="button" class="quiet" aria-label="Close the message" onClick={() => close(id)}>
            ✕
          </button>
        </div>
      ))}
    </div>
  );
}
