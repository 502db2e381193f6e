/** Import of a file: first what is lost is shown, then it may be stored. */
import { useState } from "preact/hooks";
import { native } from "../../api/native";
import { navigate } from "../../router";
import { Dialog } from "../../ui/dialog";
import { ErrorBox } from "../../ui/states";
import type { Dashboard } from "./logic/types";

interface Finding {
  path: string;
  panel: string;
  what: string;
  reason: string;
}
interface Imported {
  uid: string;
  dashboard: Dashboard;
  unsupported: Finding[];
  changed: Finding[];
}

export function ImportDialog({ onClose }: { onClose: () => void }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState<Imported | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [isBusy, setBusy] = useState(false);
  const send = async (save: boolean) => {
    setBusy(true);
    setError(null);
    try {
      const document: unknown = JSON.parse(text);
      const answer = await native.post<Imported>("/dashboards/import", { document }, { parameters: { save } });
      setFound(answer);
      if (save) {
        onClose();
        navigate("dashboards", { uid: answer.uid });
      }
    } catch (problem) {
      setError(problem instanceof Error ? problem : new Error(String(problem)));
    } finally {
      setBusy(false);
    }
  };
  const read = async (event: Event) => {
    const file = (event.currentTarget as HTMLInputElement).files?.[0];
    if (!file) return;
    setFound(null);
    setText(await file.text());
  };
  const panels = (found?.dashboard.rows ?? []).reduce((count, row) => count + (row.panels?.length ?? 0), 0);
  return (
    <Dialog title="Import a dashboard" onClose={onClose}>
      <div class="stack">
        <label>A file of Grafana, or one that was exported here<input type="file" accept=".json,application/json" onChange={read} /></label>
        <label>or its JSON<textarea class="mono" rows={found ? 3 : 8} value={text} spellcheck={false} onInput={(event) => { setText(event.currentTarget.value); setFound(null); }} /></label>
        {error && <ErrorBox error={error} />}
        {found && (
          <div role="status">
            <p><strong>{found.dashboard.title}</strong>: {panels} panels. {found.unsupported.length ? `${found.unsupported.length} things are not supported:` : "Everything is supported."}</p>
            <Findings found={found.unsupported} />
            {found.changed.length > 0 && <><p>Shown in another way:</p><Findings found={found.changed} /></>}
          </div>
        )}
        <div class="row end">
          <button type="button" disabled={!text.trim() || isBusy} onClick={() => void send(false)}>Check</button>
          <button type="button" class="primary" disabled={!found || isBusy} onClick={() => void send(true)}>Import</button>
        </div>
      </div>
    </Dialog>
  );
}

function Findings({ found }: { found: Finding[] }) {
  return (
    <ul class="findings" tabIndex={0} aria-label="Findings">
      {found.map(({ path, panel, what, reason }, index) => (
        <li key={index}>{panel && <strong>{panel}: </strong>}{what} {reason} <code>{path}</code></li>
      ))}
    </ul>
  );
}
