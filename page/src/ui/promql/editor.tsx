/** The editor of PromQL: a text until CodeMirror is loaded, which nothing else waits for. */
import type { ComponentType } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { toastError } from "../toast";
import type { EditorProps } from "./codemirror";
import "./editor.css";
import type { Finding } from "./findings";

const NOTHING_FOUND: readonly Finding[] = [];

export function PromqlEditor({
  findings = NOTHING_FOUND,
  ...props
}: Omit<EditorProps, "findings"> & { findings?: readonly Finding[] }) {
  const [Editor, setEditor] = useState<ComponentType<EditorProps> | null>(null);
  useEffect(() => {
    import("./codemirror").then((loaded) => setEditor(() => loaded.default)).catch(toastError);
  }, []);
  const found = useMemo(() => findings, [JSON.stringify(findings)]);
  return Editor ? <Editor {...props} findings={found} /> : <div class="editor-shell">{props.given.text}</div>;
}

/**
 * A field of a form. Later values of `initial` change nothing: a text that comes back while somebody types
 * on would be put in place of what they have typed since.
 */
export function PromqlField({
  initial,
  ...props
}: Omit<Parameters<typeof PromqlEditor>[0], "given"> & { initial: string }) {
  const [given] = useState({ text: initial });
  return <PromqlEditor {...props} given={given} />;
}
