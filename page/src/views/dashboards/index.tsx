/** Dashboards: the list, and one of them to look at or to change. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { native } from "../../api/native";
import { send } from "../../api/transport";
import { formatAgo } from "../../format/times";
import { type Place, guardLeaving, hrefOf, navigate, place, setQuery } from "../../router";
import { Boundary } from "../../ui/boundary";
import { Dialog } from "../../ui/dialog";
import { Empty, ErrorBox, Loading } from "../../ui/states";
import { Table } from "../../ui/table";
import { toast, toastError } from "../../ui/toast";
import { useRequest } from "../../use_request";
import { may } from "../../who";
import "./dashboards.css";
import { DocumentEditor, PanelEditor, RowEditor } from "./editor";
import { ImportDialog } from "./import_dialog";
import { addPanel, addRow, copyPanel, movePanel, removePanel, removeRow, replacePanel, replaceRow } from "./logic/edits";
import type { Dashboard, Panel } from "./logic/types";
import { DashboardView } from "./view";

interface Summary {
  uid: string;
  title: string;
  tags: string[];
  source: string;
  saved_at: string;
  saved_by: string;
}
interface Stored extends Summary {
  version: number;
  dashboard: Dashboard;
}
interface Version {
  version: number;
  saved_at: string;
  saved_by: string;
  reason: string;
}

export default function Dashboards() {
  const uid = place.value.query.get("uid") ?? "";
  return uid ? <Shown key={uid} uid={uid} /> : <List />;
}

function List() {
  const { query } = place.value;
  const [isImporting, setImporting] = useState(false);
  const { data, error, reload } = useRequest((signal) => native.get<{ dashboards: Summary[] }>("/dashboards", { signal }), []);
  const create = async () => {
    try {
      const made = await native.post<Stored>("/dashboards", { dashboard: { title: "New dashboard" } });
      navigate("dashboards", { uid: made.uid, edit: true });
    } catch (problem) {
      toastError(problem);
    }
  };
  const [search, tag] = [query.get("search") ?? "", query.get("tag") ?? ""];
  const rows = (data?.dashboards ?? []).filter(({ title, tags }) => title.toLowerCase().includes(search.toLowerCase()) && (!tag || tags.includes(tag)));
  return (
    <div class="stack">
      <div class="row">
        <h1 class="grow">Dashboards</h1>
        <input type="search" aria-label="Search" placeholder="Search" value={search} onInput={(event) => setQuery({ search: event.currentTarget.value }, { replace: true })} />
        {tag && <button type="button" onClick={() => setQuery({ tag: null })}>{tag} ✕</button>}
        {may("edit") && <button type="button" onClick={() => setImporting(true)}>Import</button>}
        {may("edit") && <button type="button" class="primary" onClick={() => void create()}>New</button>}
      </div>
      {error && <ErrorBox error={error} />}
      {!data && !error && <Loading />}
      {data && !data.dashboards.length && (
        <Empty title="There are no dashboards yet.">
          <p>Import those of Grafana, make a new one, or let <code>PROMCOMPAT_DASHBOARD_FOLDER</code> name a folder of them.</p>
        </Empty>
      )}
      {rows.length > 0 && (
        <Table label="Dashboards" rows={rows} keyOf={({ uid }) => uid} sortedBy="Title" columns={[
          { name: "Title", value: ({ title }) => title.toLowerCase(), show: ({ uid, title }) => <a href={hrefOf("dashboards", { uid })}>{title}</a> },
          { name: "Tags", value: ({ tags }) => tags.join(" "), show: ({ tags }) => tags.map((one) => <button type="button" class="quiet badge" key={one} onClick={() => setQuery({ tag: one })}>{one}</button>) },
          { name: "Saved", value: ({ saved_at }) => saved_at, show: ({ saved_at, saved_by }) => `${formatAgo(Date.parse(saved_at) / 1000)} by ${saved_by}` },
          { name: "From", value: ({ source }) => source },
        ]} />
      )}
      {isImporting && <ImportDialog onClose={() => { setImporting(false); reload(); }} />}
    </div>
  );
}

function Shown({ uid }: { uid: string }) {
  const { data: answer, error, reload } = useRequest((signal) => native.get<Stored>(`/dashboards/${encodeURIComponent(uid)}`, { signal }), [uid]);
  // The same document again is no other one, for which everything in it would be asked again.
  const data = useMemo(() => answer, [JSON.stringify(answer)]);
  if (error) return <ErrorBox error={error} title="The dashboard cannot be shown" />;
  if (!data) return <Loading />;
  const isEdited = place.value.query.has("edit") && !data.source && may("edit");
  return isEdited ? <Edited key={data.version} stored={data} onSaved={reload} /> : <Viewed stored={data} onChange={reload} />;
}

function Viewed({ stored, onChange }: { stored: Stored; onChange: () => void }) {
  const [hasVersions, setVersions] = useState(false);
  const { uid, dashboard, source } = stored;
  if (place.value.query.has("kiosk")) return <DashboardView uid={uid} dashboard={dashboard} />;
  const exportFile = async () => {
    try {
      const response = await send(`api/v1/metrics/dashboards/${encodeURIComponent(uid)}/export`);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      link.download = `${uid}.json`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (problem) {
      toastError(problem);
    }
  };
  return (
    <>
      <div class="row dashboard-head">
        <h1 class="grow" title={dashboard.description}>{dashboard.title}</h1>
        {source && <span class="hint" title={source}>from a file</span>}
        <button type="button" class="quiet" onClick={() => setQuery({ kiosk: true })}>Kiosk</button>
        <button type="button" class="quiet" onClick={() => setVersions(true)}>Versions</button>
        <button type="button" class="quiet" onClick={() => void exportFile()}>Export</button>
        {!source && may("edit") && <button type="button" onClick={() => setQuery({ edit: true })}>Edit</button>}
      </div>
      <DashboardView uid={uid} dashboard={dashboard} />
      {hasVersions && <Versions stored={stored} onClose={() => setVersions(false)} onRestored={onChange} />}
    </>
  );
}

type Change = { panel: Panel } | { row: number } | "document" | null;

function Edited({ stored, onSaved }: { stored: Stored; onSaved: () => void }) {
  const [draft, setDraft] = useState(stored.dashboard);
  const [open, setOpen] = useState<Change>(null);
  const isChanged = draft !== stored.dashboard;
  const path = `/dashboards/${encodeURIComponent(stored.uid)}`;
  const release = useRef(() => {});
  useEffect(() => {
    if (!isChanged) return;
    const stays = ({ path: name, query }: Place) => name === "dashboards" && query.get("uid") === stored.uid && query.has("edit");
    release.current = guardLeaving((next) => stays(next) || window.confirm("Discard the changes?"));
    return release.current;
  }, [isChanged]);
  const apply = (next: Dashboard) => {
    setDraft(next);
    setOpen(null);
  };
  const save = async () => {
    try {
      await native.put<Stored>(path, { dashboard: draft }, { headers: { "If-Match": `"${stored.version}"` } });
      toast("The dashboard is saved.");
      release.current();
      setQuery({ edit: null });
      onSaved();
    } catch (problem) {
      toastError(problem);
    }
  };
  const remove = async () => {
    if (!window.confirm(`Delete the dashboard “${stored.dashboard.title}” with all its versions?`)) return;
    try {
      await native.delete(path);
      release.current();
      navigate("dashboards");
    } catch (problem) {
      toastError(problem);
    }
  };
  const add = () => {
    const { dashboard, panel } = addPanel(draft);
    setDraft(dashboard);
    setOpen({ panel });
  };
  const row = open && typeof open === "object" && "row" in open ? open.row : -1;
  return (
    <>
      <div class="row dashboard-head">
        <label class="grow">Title<input value={draft.title} onInput={(event) => setDraft({ ...draft, title: event.currentTarget.value })} /></label>
        <label>Tags<input value={(draft.tags ?? []).join(", ")} onChange={(event) => setDraft({ ...draft, tags: event.currentTarget.value.split(",").map((tag) => tag.trim()).filter(Boolean) })} /></label>
        <button type="button" onClick={add}>Add a panel</button>
        <button type="button" onClick={() => setDraft(addRow(draft))}>Add a row</button>
        <button type="button" onClick={() => setOpen("document")}>JSON</button>
        <button type="button" onClick={() => void remove()}>Delete</button>
        <button type="button" onClick={() => setQuery({ edit: null })}>Discard</button>
        <button type="button" class="primary" disabled={!isChanged} onClick={() => void save()}>Save</button>
      </div>
      <Boundary retryOn={[draft]} fallback={(error) => <ErrorBox error={error} title="The dashboard cannot be shown as it is now; its JSON says what it is" />}>
        <DashboardView uid={stored.uid} dashboard={draft} editing={{
          edit: (panel) => setOpen({ panel }),
          copy: (panel) => setDraft(copyPanel(draft, panel)),
          remove: (panel) => setDraft(removePanel(draft, panel.id)),
          move: (panel, columns, lines, resizes) => setDraft(movePanel(draft, panel.id, columns, lines, resizes)),
          editRow: (index) => setOpen({ row: index }),
        }} />
      </Boundary>
      {open && typeof open === "object" && "panel" in open && <PanelEditor panel={open.panel} onSave={(panel) => apply(replacePanel(draft, panel))} onClose={() => setOpen(null)} />}
      {row >= 0 && <RowEditor row={draft.rows?.[row] ?? {}} onSave={(changed) => apply(replaceRow(draft, row, changed))} onRemove={() => apply(removeRow(draft, row))} onClose={() => setOpen(null)} />}
      {open === "document" && <DocumentEditor dashboard={draft} onSave={apply} onClose={() => setOpen(null)} />}
    </>
  );
}

function Versions({ stored, onClose, onRestored }: { stored: Stored; onClose: () => void; onRestored: () => void }) {
  const path = `/dashboards/${encodeURIComponent(stored.uid)}/versions`;
  const { data, error } = useRequest((signal) => native.get<{ versions: Version[] }>(path, { signal }), [path]);
  const restore = async (version: number) => {
    try {
      await native.post(`${path}/${version}/restore`, {}, { headers: { "If-Match": `"${stored.version}"` } });
      toast("The version is restored.");
      onClose();
      onRestored();
    } catch (problem) {
      toastError(problem);
    }
  };
  return (
    <Dialog title={`Versions of ${stored.dashboard.title}`} onClose={onClose}>
      {error && <ErrorBox error={error} />}
      <Table label="Versions" rows={data?.versions ?? []} keyOf={({ version }) => version} columns={[
        { name: "Saved", value: ({ saved_at }) => saved_at, show: ({ saved_at }) => formatAgo(Date.parse(saved_at) / 1000) },
        { name: "By", value: ({ saved_by }) => saved_by },
        { name: "Reason", value: ({ reason }) => reason },
        { name: "", value: () => "", show: ({ version }) => version === stored.version ? "shown" : !stored.source && may("edit") && <button type="button" onClick={() => void restore(version)}>Restore</button> },
      ]} />
    </Dialog>
  );
}
