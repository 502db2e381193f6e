/** One query of Explore: its editor, and what it answers in the tab that is selected. */
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { formatQuery } from "../../api/prometheus";
import type { TimeRange } from "../../time/range";
import { PromqlEditor } from "../../ui/promql/editor";
import type { Finding } from "../../ui/promql/findings";
import { Tabs } from "../../ui/tabs";
import { toastError } from "../../ui/toast";
import { ExplainTab } from "./explain_tab";
import { GraphTab } from "./graph_tab";
import { forgetAll, history } from "./history";
import { SamplesTab } from "./samples_tab";
import { Start } from "./start";
import type { Panel, Tab, TabProps } from "./state";
import { TableTab } from "./table_tab";

const TAB_NAMES = [
  { id: "graph", name: "Graph" },
  { id: "table", name: "Table" },
  { id: "samples", name: "Samples" },
  { id: "explain", name: "Explain" },
];

export interface PanelProps {
  panel: Panel;
  number: number;
  range: TimeRange;
  /** Whether it shares the width of the page. */
  isNarrow: boolean;
  onChange: (change: Partial<Panel>) => void;
  onRemove?: () => void;
}

const CONTENTS: Record<Tab, ComponentType<TabProps>> = {
  graph: GraphTab,
  table: TableTab,
  samples: SamplesTab,
  explain: ExplainTab,
};

export function PanelView(props: PanelProps) {
  const { panel, number, onChange, onRemove } = props;
  const [given, setGiven] = useState({ text: panel.expression.trim() });
  const draft = useRef(given.text);
  const [findings, setFindings] = useState<Finding[]>([]);
  useEffect(() => setGiven({ text: panel.expression.trim() }), [panel.expression]);
  const run = (text: string) => onChange({ expression: text.trim() });
  const format = () => {
    formatQuery(draft.current)
      .then((text) => setGiven({ text }))
      .catch(toastError);
  };
  const Content = CONTENTS[panel.tab];
  return (
    <section class="card" aria-label={`Query ${number}`}>
      <div class="query-row">
        <PromqlEditor
          label={`Expression ${number}`}
          hint="An expression: Enter runs it, Shift-Enter starts a line, Ctrl-Space completes"
          given={given}
          findings={findings}
          onChange={(text) => {
            draft.current = text;
          }}
          onRun={run}
        />
        <button type="button" class="primary" onClick={() => run(draft.current)}>
          Run
        </button>
        <HistoryMenu onPick={run} />
        <button type="button" class="quiet" onClick={format}>
          Format
        </button>
        {onRemove && (
          <button type="button" class="quiet" aria-label={`Remove query ${number}`} onClick={onRemove}>
            ✕
          </button>
        )}
      </div>
      <Tabs
        label={`Views of query ${number}`}
        tabs={TAB_NAMES}
        selected={panel.tab}
        onSelect={(id) => onChange({ tab: id as Tab })}
      >
        {panel.expression.trim() ? (
          <Content
            key={panel.tab}
            panel={panel}
            range={props.range}
            isNarrow={props.isNarrow}
            onChange={onChange}
            onFindings={setFindings}
          />
        ) : (
          <Start onPick={run} hasOverview={!props.isNarrow} />
        )}
      </Tabs>
    </section>
  );
}

function HistoryMenu({ onPick }: { onPick: (expression: string) => void }) {
  const [filter, setFilter] = useState("");
  const shown = history.value.filter((text) => text.includes(filter));
  return (
    <details class="menu">
      <summary>History</summary>
      <div class="menu-box">
        <input
          aria-label="Find in the history"
          placeholder="Find"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <div class="history-list">
          {shown.map((text) => (
            <button
              type="button"
              class="quiet"
              key={text}
              onClick={(event) => {
                event.currentTarget.closest("details")?.removeAttribute("open");
                onPick(text);
              }}
            >
              {text}
            </button>
          ))}
          {!shown.length && <p class="hint">Nothing yet.</p>}
        </div>
        {history.value.length > 0 && (
          <button type="button" class="quiet" onClick={forgetAll}>
            Forget all
          </button>
        )}
      </div>
    </details>
  );
}
