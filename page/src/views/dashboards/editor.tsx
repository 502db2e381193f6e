/** Dialogs that change a panel, a row or the whole document. */
import { useState } from "preact/hooks";
import { Dialog } from "../../ui/dialog";
import { PromqlField } from "../../ui/promql/editor";
import type { Dashboard, FieldSettings, Panel, PanelOptions, Query, Row } from "./logic/types";

const TYPES: [string, string][] = [
  ["timeseries", "Graph"], ["stat", "Value"], ["gauge", "Gauge"], ["bargauge", "Bars"], ["table", "Table"], ["heatmap", "Heatmap"],
  ["piechart", "Pie"], ["histogram", "Histogram"], ["state-timeline", "State timeline"], ["status-history", "Status history"],
  ["text", "Text"], ["dashlist", "List of dashboards"], ["alertlist", "List of alerts"],
];
const LEGENDS = ["list", "table", "hidden"] as const;
const CALCS = ["lastNotNull", "min", "mean", "max", "sum"];

/** A document with the fields of `change`; those without a value go. */
function changed<T extends object>(document: T, change: Partial<T>): T {
  const result: Record<string, unknown> = { ...document, ...change };
  for (const [name, value] of Object.entries(result)) if (value === undefined || value === "") delete result[name];
  return result as T;
}

/** An object of JSON that has these fields; the service checks the rest when it is saved. */
function readObject<T>(text: string, fields: readonly (keyof T & string)[]): T {
  const found: unknown = JSON.parse(text);
  if (typeof found !== "object" || found === null || Array.isArray(found)) throw new TypeError("This is no JSON object: it begins with { and ends with }.");
  for (const field of fields) if (!(field in found)) throw new TypeError(`The field “${field}” is missing.`);
  return found as T;
}

function numberOf(text: string): number | undefined {
  return text.trim() === "" || Number.isNaN(Number(text)) ? undefined : Number(text);
}

export function PanelEditor({ panel, onSave, onClose }: { panel: Panel; onSave: (panel: Panel) => void; onClose: () => void }) {
  const [draft, setDraft] = useState(panel);
  const [json, setJson] = useState<string | null>(null);
  const [fault, setFault] = useState("");
  const set = (change: Partial<Panel>) => setDraft(changed(draft, change));
  const save = (event: SubmitEvent) => {
    event.preventDefault();
    if (json === null) return onSave(draft);
    try {
      onSave({ ...readObject<Panel>(json, ["type", "grid"]), id: panel.id });
    } catch (problem) {
      setFault(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <Dialog title={`Panel ${panel.title ?? panel.id}`} onClose={onClose}>
      <form class="stack" onSubmit={save}>
        {json === null ? <PanelFields draft={draft} set={set} /> : (
          <label>
            The panel as JSON (docs/dashboards.md)
            <textarea class="mono" rows={22} value={json} spellcheck={false} onInput={(event) => setJson(event.currentTarget.value)} />
          </label>
        )}
        {fault && <p role="alert">{fault}</p>}
        <div class="row end">
          <button type="button" onClick={() => setJson(json === null ? JSON.stringify(draft, null, 2) : null)}>{json === null ? "Edit as JSON" : "Back to the form"}</button>
          <button type="submit">Apply</button>
        </div>
      </form>
    </Dialog>
  );
}

function PanelFields({ draft, set }: { draft: Panel; set: (change: Partial<Panel>) => void }) {
  const queries = draft.queries ?? [];
  const setQuery = (index: number, change: Partial<Query>) => set({ queries: queries.map((query, place) => (place === index ? changed(query, change) : query)) });
  const fields = draft.fields ?? {};
  const setFields = (change: Partial<FieldSettings>) => set({ fields: changed(fields, change) });
  const options = draft.options ?? {};
  const setOptions = (change: Partial<PanelOptions>) => set({ options: changed(options, change) });
  const grid = (key: "x" | "y" | "width" | "height", least: number, most: number) => (
    <label>
      {key}
      <input type="number" min={least} max={most} value={draft.grid[key]} onInput={(event) => set({ grid: { ...draft.grid, [key]: Math.min(Math.max(Math.round(numberOf(event.currentTarget.value) ?? least), least), most) } })} />
    </label>
  );
  return (
    <>
      <div class="row">
        <label class="grow">Title<input value={draft.title ?? ""} onInput={(event) => set({ title: event.currentTarget.value })} /></label>
        <label>Type<select value={draft.type} onChange={(event) => set({ type: event.currentTarget.value })}>{TYPES.map(([type, name]) => <option value={type} key={type}>{name}</option>)}</select></label>
      </div>
      <label>Description<input value={draft.description ?? ""} onInput={(event) => set({ description: event.currentTarget.value })} /></label>
      {draft.type === "text" ? (
        <label>Text (Markdown)<textarea rows={8} value={options.text?.content ?? ""} onInput={(event) => setOptions({ text: { mode: options.text?.mode ?? "markdown", content: event.currentTarget.value } })} /></label>
      ) : (
        <fieldset class="stack">
          <legend>Queries</legend>
          {queries.map((query, index) => (
            <div class="row" key={query.ref}>
              <div class="field"><span aria-hidden="true">{query.ref}</span><PromqlField label={query.ref} hint="An expression; Ctrl-Space completes" hasVariables initial={query.expr} onChange={(expr) => set({ queries: queries.map((one, place) => (place === index ? { ...one, expr } : one)) })} /></div>
              <label>Legend<input placeholder="{{label}}" value={query.legend ?? ""} onInput={(event) => setQuery(index, { legend: event.currentTarget.value })} /></label>
              <label>Form<select value={query.format ?? "time_series"} onChange={(event) => setQuery(index, { format: event.currentTarget.value as "table" })}><option value="time_series">series</option><option value="table">table</option><option value="heatmap">heatmap</option></select></label>
              <label class="inline"><input type="checkbox" checked={query.instant ?? false} onChange={(event) => setQuery(index, { instant: event.currentTarget.checked, range: !event.currentTarget.checked })} />now only</label>
              <button type="button" class="quiet" aria-label={`Remove query ${query.ref}`} onClick={() => set({ queries: queries.filter((_, place) => place !== index) })}>✕</button>
            </div>
          ))}
          <button type="button" onClick={() => set({ queries: [...queries, { ref: freeRef(queries), expr: "" }] })}>Add a query</button>
        </fieldset>
      )}
      <div class="row">
        <label>Unit<input list="units" value={fields.unit ?? ""} onInput={(event) => setFields({ unit: event.currentTarget.value })} /></label>
        <datalist id="units">{["short", "none", "percent", "percentunit", "bytes", "decbytes", "bps", "Bps", "s", "ms", "reqps", "ops", "hertz", "celsius", "bool_yes_no", "dateTimeAsIso"].map((unit) => <option key={unit} value={unit} />)}</datalist>
        {(["decimals", "min", "max"] as const).map((key) => <label key={key}>{key}<input type="number" step="any" value={fields[key] ?? ""} onInput={(event) => setFields({ [key]: numberOf(event.currentTarget.value) })} /></label>)}
        <label>Fill<input type="number" min="0" max="100" value={fields.fill_opacity ?? ""} onInput={(event) => setFields({ fill_opacity: numberOf(event.currentTarget.value) })} /></label>
        <label class="inline"><input type="checkbox" checked={fields.stacking?.mode === "normal"} onChange={(event) => setFields({ stacking: event.currentTarget.checked ? { mode: "normal" } : undefined } as Partial<FieldSettings>)} />stacked</label>
        <label>Legend<select value={options.legend?.mode ?? "list"} onChange={(event) => setOptions({ legend: { ...options.legend, mode: event.currentTarget.value as "list" } })}>{LEGENDS.map((mode) => <option key={mode}>{mode}</option>)}</select></label>
        <label>Calculation<select value={options.reduce?.calcs?.[0] ?? "lastNotNull"} onChange={(event) => setOptions({ reduce: { ...options.reduce, calcs: [event.currentTarget.value] } })}>{CALCS.map((calc) => <option key={calc}>{calc}</option>)}</select></label>
      </div>
      <div class="row">{grid("x", 0, 24 - draft.grid.width)}{grid("y", 0, 10_000)}{grid("width", 1, 24 - draft.grid.x)}{grid("height", 2, 1000)}</div>
      <p class="hint">Overrides, thresholds, mappings, repeats and transformations are part of the JSON.</p>
    </>
  );
}

function freeRef(queries: Query[]): string {
  const used = new Set(queries.map(({ ref }) => ref));
  return [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"].find((ref) => !used.has(ref)) ?? `Q${queries.length}`;
}

export function RowEditor({ row, onSave, onRemove, onClose }: { row: Row; onSave: (row: Row) => void; onRemove: () => void; onClose: () => void }) {
  const save = (event: SubmitEvent) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const repeat = String(data.get("repeat")).trim();
    const { repeat: _, ...rest } = row;
    onSave({ ...rest, title: String(data.get("title")), collapsed: data.has("collapsed"), ...(repeat && { repeat }) });
  };
  return (
    <Dialog title="Row" onClose={onClose}>
      <form class="stack" onSubmit={save}>
        <label>Title<input name="title" defaultValue={row.title ?? ""} /></label>
        <label>Repeated for each value of the variable<input name="repeat" defaultValue={row.repeat ?? ""} /></label>
        <label class="inline"><input type="checkbox" name="collapsed" defaultChecked={row.collapsed ?? false} />closed at first</label>
        <div class="row end"><button type="button" onClick={onRemove}>Remove, keep its panels</button><button type="submit">Apply</button></div>
      </form>
    </Dialog>
  );
}

export function DocumentEditor({ dashboard, onSave, onClose }: { dashboard: Dashboard; onSave: (dashboard: Dashboard) => void; onClose: () => void }) {
  const [text, setText] = useState(() => JSON.stringify(dashboard, null, 2));
  const [fault, setFault] = useState("");
  const save = (event: SubmitEvent) => {
    event.preventDefault();
    try {
      onSave(readObject<Dashboard>(text, ["title"]));
    } catch (problem) {
      setFault(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <Dialog title="The dashboard as JSON" onClose={onClose}>
      <form class="stack" onSubmit={save}>
        <label>Title, variables, annotations, links, rows and panels (docs/dashboards.md)<textarea class="mono" rows={26} value={text} spellcheck={false} onInput={(event) => setText(event.currentTarget.value)} /></label>
        {fault && <p role="alert">{fault}</p>}
        <div class="row end"><button type="submit">Apply</button></div>
      </form>
    </Dialog>
  );
}
