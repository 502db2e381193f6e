/** The bar of a dashboard: variables, annotations and links. */
import { useId, useRef, useState } from "preact/hooks";
import { native } from "../../api/native";
import { hrefOf } from "../../router";
import { useRequest } from "../../use_request";
import { ALL, interpolate, type Lookup } from "./logic/interpolation";
import type { Annotation, DashboardLink } from "./logic/types";
import { safeHref } from "./scope";
import { select, type VariableState } from "./use_variables";

const MOST_OPTIONS = 500;

export function VariableBar({ states }: { states: VariableState[] }) {
  const shown = states.filter(({ variable: { hide = "no", kind } }) => hide !== "variable" && kind !== "constant" && kind !== "datasource");
  if (!shown.length) return null;
  return (
    <div class="variables" role="group" aria-label="Variables">
      {shown.map((state) => <VariableControl key={state.variable.name} state={state} />)}
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
        <span id={id} class="hint">{(variable.filters ?? []).map(({ key, operator, value }) => `${key}${operator}${value}`).join(", ") || "none"}</span>
      ) : (
        <Choice id={id} state={state} label={label} />
      )}
      {error && <span class="is-critical" role="alert" title={error}>⚠ {error.slice(0, 60)}</span>}
    </div>
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
    <details ref={details} class="menu choice" onToggle={onToggle} onKeyDown={(event) => event.key === "Escape" && close()}>
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

export function AnnotationSwitches({ annotations, off, onOff }: { annotations: Annotation[]; off: ReadonlySet<string>; onOff: (off: ReadonlySet<string>) => void }) {
  const shown = annotations.filter(({ hidden }) => !hidden);
  if (!shown.length) return null;
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
    </div>
  );
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
