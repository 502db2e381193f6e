/** A button that puts a text on the clipboard. */
import { toast, toastError } from "./toast";

export function CopyButton({ text, name = "Copy" }: { text: string | (() => string); name?: string }) {
  const copy = () => {
    navigator.clipboard
      .writeText(typeof text === "string" ? text : text())
      .then(() => toast("Copied."))
      .catch(toastError);
  };
  return (
    <button type="button" class="quiet" onClick={copy}>
      {name}
    </button>
  );
}
