/** The editor of an expression: CodeMirror with Prometheus' grammar, in a chunk of its own. */
import {
  acceptCompletion,
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  completionKeymap,
  startCompletion,
} from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import {
  HighlightStyle,
  bracketMatching,
  forceParsing,
  indentOnInput,
  syntaxHighlighting,
} from "@codemirror/language";
import { type Diagnostic, lintKeymap, linter } from "@codemirror/lint";
import { Compartment, EditorState, Prec, StateEffect, StateField } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { PromQLExtension } from "@prometheus-io/codemirror-promql";
import { EqlRegex, EqlSingle, Neq, NeqRegex } from "@prometheus-io/lezer-promql";
import { useEffect, useRef } from "preact/hooks";
import { isDark } from "../../theme";
import { completionClient, setOperators } from "./completion";
import type { Finding } from "./findings";

setOperators([
  [EqlSingle, "="],
  [EqlRegex, "=~"],
  [Neq, "!="],
  [NeqRegex, "!~"],
]);

const light = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: "#7a1fa2" },
  { tag: tags.function(tags.variableName), color: "#1558b0" },
  { tag: tags.string, color: "#8a3b12" },
  { tag: tags.number, color: "#0b6e4f" },
  { tag: tags.labelName, color: "#8a1c4a" },
  { tag: tags.comment, color: "#5a6169" },
]);
const dark = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: "#d7a6f0" },
  { tag: tags.function(tags.variableName), color: "#7cb8ff" },
  { tag: tags.string, color: "#f2b28c" },
  { tag: tags.number, color: "#7fd6b0" },
  { tag: tags.labelName, color: "#f49ac1" },
  { tag: tags.comment, color: "#a4abb3" },
]);

const setFindings = StateEffect.define<readonly Finding[]>();

/** What the service found, until the text changes. */
const findingsField = StateField.define<readonly Finding[]>({
  create: () => [],
  update(value, transaction) {
    for (const effect of transaction.effects) if (effect.is(setFindings)) return effect.value;
    return transaction.docChanged ? [] : value;
  },
});

function diagnostics(view: EditorView): Diagnostic[] {
  const { doc } = view.state;
  return view.state.field(findingsField).map(({ line, column, text, severity }) => {
    const found = doc.line(Math.min(Math.max(line, 1), doc.lines));
    const from = Math.min(found.from + Math.max(column - 1, 0), Math.max(doc.length - 1, 0));
    return { from, to: Math.min(from + 1, doc.length), severity, message: text };
  });
}

export interface EditorProps {
  label: string;
  /** What to put into the editor whenever there is another one; typing changes nothing of it. */
  given: { text: string };
  findings: readonly Finding[];
  onChange: (text: string) => void;
  /** What Enter does, if anything but starting a line. */
  onRun?: (text: string) => void;
  hint?: string;
  /** With variables of dashboards it is no PromQL yet, so that the grammar finds faults in it. */
  hasVariables?: boolean;
}

export default function Editor(props: EditorProps) {
  const box = useRef<HTMLDivElement>(null);
  const editor = useRef<EditorView | null>(null);
  const handlers = useRef(props);
  handlers.current = props;
  const colours = useRef(new Compartment()).current;
  const isDarkNow = isDark.value;

  useEffect(() => {
    if (!box.current) return;
    const promql = new PromQLExtension().setComplete({ remote: completionClient });
    const lint = promql.getLinter().promQL();
    promql.activateLinter(!props.hasVariables);
    promql.setLinter({
      promQL: () => (view) => {
        // It takes a tree that is not complete yet for faults, and does not look again.
        forceParsing(view, view.state.doc.length, 1000);
        return lint(view);
      },
    });
    const run = (view: EditorView) => {
      if (!handlers.current.onRun) return false;
      handlers.current.onRun(view.state.doc.toString());
      return true;
    };
    const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? "";
    const view = new EditorView({
      parent: box.current,
      state: EditorState.create({
        doc: props.given.text,
        extensions: [
          EditorView.cspNonce.of(nonce),
          history(),
          indentOnInput(),
          bracketMatching(),
          closeBrackets(),
          autocompletion(),
          EditorView.lineWrapping,
          placeholder(props.hint ?? ""),
          EditorView.contentAttributes.of({ "aria-label": props.label, spellcheck: "false" }),
          findingsField,
          linter(diagnostics, {
            delay: 0,
            needsRefresh: (update) =>
              update.startState.field(findingsField) !== update.state.field(findingsField),
          }),
          promql.asExtension(),
          colours.of(syntaxHighlighting(isDarkNow ? dark : light)),
          Prec.highest(
            keymap.of([
              { key: "Enter", run: (target) => acceptCompletion(target) || run(target) },
              { key: "Ctrl-Enter", run },
              { key: "Shift-Enter", run: (target) => newLine(target) },
              { key: "Ctrl-Space", run: startCompletion },
            ]),
          ),
          keymap.of([
            ...closeBracketsKeymap,
            ...defaultKeymap,
            ...historyKeymap,
            ...completionKeymap,
            ...lintKeymap,
          ]),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) handlers.current.onChange(update.state.doc.toString());
          }),
        ],
      }),
    });
    editor.current = view;
    return () => {
      promql.destroy();
      view.destroy();
    };
  }, []);

  useEffect(() => {
    const view = editor.current;
    if (view && props.given.text !== view.state.doc.toString()) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: props.given.text } });
    }
  }, [props.given]);
  useEffect(() => {
    editor.current?.dispatch({ effects: setFindings.of(props.findings) });
  }, [props.findings]);
  useEffect(() => {
    editor.current?.dispatch({
      effects: colours.reconfigure(syntaxHighlighting(isDarkNow ? dark : light)),
    });
  }, [isDarkNow]);

  return <div ref={box} class="editor" />;
}

function newLine(view: EditorView): boolean {
  view.dispatch(view.state.replaceSelection("\n"));
  return true;
}
