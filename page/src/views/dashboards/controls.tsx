/** The bar of a dashboard: variables, annotations and links. */
import { useId, useRef, useState } from "preact/hooks";
import { native } from "../../api/native";
import { labelNames, labelValues } from "../../api/prometheus";
import { hrefOf, place } from "../../router";
import { useRequest } from "../../use_request";
import type { Annotated } from "./annotations";
import { ALL, interpolate, type Lookup } from "./logic/interpolation";
import type { Annotation, DashboardLink, Filter, Variable } from "./logic/types";
import { FILTER_OPERATORS, filterText, filtersOf } from "./logic/variables";
import { safeHref } from "./scope";
import { select, type VariableState } from "./use_variables";

const MOST_OPTIONS = 500;

export function VariableBar({ states }: { states: VariableState[] }) {
  const shown = states.filter(({ variable: { hide = "no", kind } }) => hide !== "variable" && kind !== "constant" && kind !== "datasource");
  const unseen = states.filter((state) => state.error && !shown.includes(state));
  if (!shown.length && !unseen.length) return null;
  return (
    <div class="variables" role="group" aria-label="Variables">
      {shown.map((state) => <VariableControl key={state.variable.name} state={state} />)}
      {unseen.map(({ variable: { name }, error }) => <Fault key={name} text={`${name}: ${error}`} />)}
    </div>
  );
}

function VariableControl({ state }: { state: VariableState }) {
  const { variable, selected, error } = state;
  const id = useId();
  const label = variable.label || variable.name;
  return (
    <div class="variable">
      {variable.hide !== "label" && <label for={id} title={variable.description}>{label}</label>}
      {variable.kind === "textbox" ? (
        <input id={id} aria-label={label} defaultValue={selected[0]} key={selected[0]} onChange={(event) => select(variable.name, [event.currentTarget.value])} />
      ) : variable.kind === "adhoc" ? (
        <AdhocFilters id={id} variable={variable} label={label} />
      ) : (
        <Choice id={id} state={state} label={label} />
      )}
      {error && <Fault text={error} />}
    </div>
  );
}

/** Matchers that are added to every selector, and a form for another one. */
function AdhocFilters({ id, variable, label }: { id: string; variable: Variable; label: string }) {
  const filters = filtersOf(variable, place.value.query);
  const set = (next: Filter[]) => select(variable.name, next.map(filterText));
  const [key, setKey] = useState("");
  const names = useRequest((signal) => labelNames([], signal), []);
  const values = useRequest(key ? (signal) => labelValues(key, [], signal) : null, [key]);
  const add = (event: SubmitEvent) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    setKey("");
    set([...filters, { key: text("key"), operator: text("operator") as Filter["operator"], value: text("value") }]);
  };
  return (
    <>
      {filters.map((filter, index) => {
        const text = `${filter.key}${filter.operator}${filter.value}`;
        return <span class="label" key={text}>{text}<button type="button" class="quiet icon" aria-label={`Remove ${text}`} onClick={() => set(filters.filter((_, place) => place !== index))}>✕</button></span>;
      })}
      <details class="menu choice" key={filters.length}>
        <summary id={id} aria-label={`Add a filter to ${label}`}>+</summary>
        <form class="menu-box" onSubmit={add}>
          <label>Label<input name="key" list={`${id}-keys`} required onChange={(event) => setKey(event.currentTarget.value)} /></label>
          <label>Operator<select name="operator">{FILTER_OPERATORS.map((one) => <option key={one}>{one}</option>)}</select></label>
          <label>Value<input name="value" list={`${id}-values`} /></label>
          <datalist id={`${id}-keys`}>{(names.data ?? []).map((one) => <option key={one} value={one} />)}</datalist>
          <datalist id={`${id}-values`}>{(values.data ?? []).slice(0, MOST_OPTIONS).map((one) => <option key={one} value={one} />)}</datalist>
          <button type="submit" class="primary">Add</button>
        </form>
      </details>
    </>
  );
}

/** A list with a search; several values are kept until it closes. */
function Choice({ id, state, label }: { id: string; state: VariableState; label: string }) {
  const { variable, options, selected, value } = state;
  const details = useRef<HTMLDetailsElement>(null);
  const [search, setSearch] = useState("");
  const [draft, setDraft] = useState<string[] | null>(null);
  const current = draft ?? selected;
  const close = () => {
    if (details.current) details.current.open = false;
  };
  const pick = (wanted: string) => {
    if (!variable.multi) {
      select(variable.name, [wanted]);
      return close();
    }
    const rest = current.filter((one) => one !== ALL);
    setDraft(wanted === ALL ? [ALL] : rest.includes(wanted) ? rest.filter((one) => one !== wanted) : [...rest, wanted]);
  };
  const onToggle = () => {
    if (details.current?.open) return;
    if (draft && draft.join("\0") !== selected.join("\0")) select(variable.name, draft.length ? draft : variable.include_all ? [ALL] : selected);
    setDraft(null);
    setSearch("");
  };
  const all = variable.include_all ? [{ text: "All", value: ALL }] : [];
  const found = [...all, ...options].filter(({ text }) => text.toLowerCase().includes(search.toLowerCase()));
  const shown = value.isAll ? "All" : value.texts.join(" + ") || "none";
  return (
    <details ref={details} class="menu choice" onToggle={onToggle}>
      <summary id={id} aria-label={`${label}: ${shown}`}>{shown.length > 60 ? `${shown.slice(0, 60)}…` : shown}</summary>
      <div class="menu-box">
        {options.length > 8 && <input aria-label={`Search ${label}`} placeholder="Search" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />}
        <div class="choice-options" role="listbox" aria-label={label} aria-multiselectable={variable.multi}>
          {found.slice(0, MOST_OPTIONS).map((option) => (
            <button type="button" class="quiet" role="option" key={option.value} aria-selected={current.includes(option.value)} onClick={() => pick(option.value)}>
              {variable.multi && <span aria-hidden="true">{current.includes(option.value) ? "☑ " : "☐ "}</span>}
              {option.text || "(empty)"}
            </button>
          ))}
        </div>
        {found.length > MOST_OPTIONS && <p class="hint">and {found.length - MOST_OPTIONS} more</p>}
        {!found.length && <p class="hint">Nothing was found.</p>}
        {variable.multi && <button type="button" class="primary" onClick={close}>Apply</button>}
      </div>
    </details>
  );
}

interface AnnotationSwitchesProps {
  annotations: Annotation[];
  found: readonly Annotated[];
  off: ReadonlySet<string>;
  onOff: (off: ReadonlySet<string>) => void;
}

/** A switch for each annotation, and why one has no marks. */
export function AnnotationSwitches({ annotations, found, off, onOff }: AnnotationSwitchesProps) {
  const shown = annotations.filter(({ hidden }) => !hidden);
  const faults = found.filter(({ error }) => error);
  if (!shown.length && !faults.length) return null;
  const toggle = (name: string) => {
    const next = new Set(off);
    if (!next.delete(name)) next.add(name);
    onOff(next);
  };
  return (
    <div class="row" role="group" aria-label="Annotations">
      {shown.map(({ name }) => (
        <label class="inline" key={name}>
          <input type="checkbox" checked={!off.has(name)} onChange={() => toggle(name)} />
          {name}
        </label>
      ))}
      {faults.map(({ annotation: { name }, error }) => <Fault key={name} text={`${name}: ${error?.message}`} />)}
    </div>
  );
}

/** A fault in the bar, which has little room: the whole text is its title. */
function Fault({ text }: { text: string }) {
  return <span class="is-critical" role="alert" title={text}>⚠ {text.length > 80 ? `${text.slice(0, 80)}…` : text}</span>;
}

interface Summary {
  uid: string;
  title: string;
}

export function Links({ links, lookup }: { links: DashboardLink[]; lookup: Lookup }) {
  return <>{links.map((link, index) => (link.kind === "dashboards" ? <TaggedDashboards key={index} link={link} lookup={lookup} /> : <UrlLink key={index} link={link} lookup={lookup} />))}</>;
}

/** What goes along: the time range and the variables. */
function withContext(href: string, link: DashboardLink, lookup: Lookup): string {
  const parts = [link.keep_time && "${__url_time_range}", link.include_variables && "${__all_variables}"].filter(Boolean).join("&");
  const query = interpolate(parts, lookup, "glob");
  return query ? `${href}${href.includes("?") ? "&" : "?"}${query}` : href;
}

function UrlLink({ link, lookup }: { link: DashboardLink; lookup: Lookup }) {
  const href = safeHref(withContext(interpolate(link.url ?? "", lookup, "glob"), link, lookup));
  if (!href) return null;
  return <a href={href} title={link.tooltip} target={link.new_tab ? "_blank" : undefined} rel="noopener noreferrer">{interpolate(link.title || link.url || "", lookup, "text")}</a>;
}

function TaggedDashboards({ link, lookup }: { link: DashboardLink; lookup: Lookup }) {
  const tags = link.tags ?? [];
  const { data } = useRequest((signal) => native.get<{ dashboards: Summary[] }>("/dashboards", { parameters: { tag: tags }, signal }), [tags.join("\0")]);
  const found = data?.dashboards ?? [];
  const anchors = found.map(({ uid, title }) => <a key={uid} href={withContext(hrefOf("dashboards", { uid }), link, lookup)} target={link.new_tab ? "_blank" : undefined}>{title}</a>);
  if (!found.length) return null;
  if (!link.as_dropdown) return <>{anchors}</>;
  return (
    <details class="menu">
      <summary>{link.title || "Dashboards"}</summary>
      <div class="menu-box stack">{anchors}</div>
    </details>
  );
}
