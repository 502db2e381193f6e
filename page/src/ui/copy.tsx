/** A button that puts a text on the clipboard. */
import { toast, toastError } from "./toast";

/** Browsers have a clipboard only for pages by HTTPS and of their own machine; for others a selection is copied. */
async function put(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("The browser does not let the page copy; select the text and copy it.");
}

export function CopyButton({ text, name = "Copy" }: { text: string | (() => string); name?: string }) {
  const copy = () => {
    put(typeof text === "string" ? text : text())
      .then(() => toast("Copied."))
      .catch(toastError);
  };
  return (
    <button type="button" class="quiet" onClick={copy}>
      {name}
    </button>
  );
}
