/** Panels without queries: text, lists of dashboards and of alerts. */
import type { ComponentChild } from "preact";
import { h } from "preact";
import { marked } from "marked";
import { useMemo } from "preact/hooks";
import { native } from "../../../api/native";
import { call, type Labels } from "../../../api/prometheus";
import { hrefOf } from "../../../router";
import { range } from "../../../time/range";
import { Badge, ErrorBox, Loading } from "../../../ui/states";
import { useRequest } from "../../../use_request";
import { escapeHtml, interpolate } from "../logic/interpolation";
import { safeHref } from "../scope";
import type { PanelProps } from "./props";

const TAGS = new Set(
  "a b blockquote br code del div em h1 h2 h3 h4 h5 h6 hr i li ol p pre s small span strong sub sup table tbody td th thead tr u ul".split(" "),
);
const DROPPED = new Set(["SCRIPT", "STYLE", "IFRAME", "OBJECT", "EMBED", "TEMPLATE", "NOSCRIPT"]);

/** Nodes of a document that never becomes part of the page: known elements only, without their styles. */
function safeNodes(nodes: Iterable<Node>): ComponentChild[] {
  return [...nodes].flatMap((node): ComponentChild[] => {
    if (node.nodeType === Node.TEXT_NODE) return [node.textContent ?? ""];
    if (!(node instanceof Element) || DROPPED.has(node.tagName)) return [];
    const children = safeNodes(node.childNodes);
    const tag = node.tagName.toLowerCase();
    if (!TAGS.has(tag)) return children;
    if (tag !== "a") return [h(tag, {}, ...children)];
    const href = safeHref(node.getAttribute("href") ?? "");
    return [h("a", { href, target: node.getAttribute("target") === "_blank" ? "_blank" : undefined, rel: "noopener noreferrer" }, ...children)];
  });
}

export function TextPanel({ panel, lookup, height }: PanelProps) {
  const { mode = "markdown", content = "" } = panel.options?.text ?? {};
  const nodes = useMemo(() => {
    const text = interpolate(content, (name, path) => {
      const found = lookup(name, path);
      if (found === undefined || mode === "code") return found;
      return typeof found === "string" ? escapeHtml(found) : { ...found, values: found.values.map(escapeHtml), texts: found.texts.map(escapeHtml) };
    }, "text");
    if (mode === "code") return [<pre>{text}</pre>];
    const html = mode === "markdown" ? marked.parse(text, { async: false }) : text;
    return safeNodes(new DOMParser().parseFromString(html, "text/html").body.childNodes);
  }, [content, mode, lookup]);
  return (
    <div class="text-panel" style={{ maxHeight: `${height}px` }} tabIndex={0} role="region" aria-label={panel.title || "text"}>
      {nodes}
    </div>
  );
}

interface Summary {
  uid: string;
  title: string;
  tags: string[];
}

export function DashboardList({ panel, height }: PanelProps) {
  const { tags = [], search = "", max_items = 100 } = panel.options?.dashboards ?? {};
  const { data, error } = useRequest((signal) => native.get<{ dashboards: Summary[] }>("/dashboards", { parameters: { tag: tags, search }, signal }), [JSON.stringify(tags), search]);
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  return (
    <ul class="list-panel" style={{ maxHeight: `${height}px` }}>
      {data.dashboards.slice(0, max_items).map(({ uid, title }) => <li key={uid}><a href={hrefOf("dashboards", { uid })}>{title}</a></li>)}
    </ul>
  );
}

interface Alert {
  labels: Labels;
  annotations: Labels;
  state: string;
  activeAt: string;
}

export function AlertList({ panel, height, lookup }: PanelProps) {
  const { states = ["firing", "pending"], name = "", labels = "", max_items = 100 } = panel.options?.alerts ?? {};
  const { data, error } = useRequest((signal) => call<{ alerts: Alert[] }>("alerts", { signal }), [range.value]);
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  const wanted = interpolate(name, lookup, "text").toLowerCase();
  const matchers = [...interpolate(labels, lookup, "glob").matchAll(/([\w.]+)\s*(=~|!~|!=|=)\s*"?([^",}]*)"?/g)];
  let tests: ((alert: Alert) => boolean)[];
  try {
    tests = matchers.map(([, label = "", operator, value = ""]) => {
      const pattern = operator?.includes("~") ? new RegExp(`^(?:${value})$`) : null;
      return ({ labels: { [label]: found = "" } }) => (pattern ? pattern.test(found) : found === value) !== operator?.startsWith("!");
    });
  } catch (problem) {
    return <ErrorBox error={problem as Error} />;
  }
  const passes = (alert: Alert) => tests.every((test) => test(alert));
  const found = data.data.alerts.filter((alert) => states.includes(alert.state) && (alert.labels["alertname"] ?? "").toLowerCase().includes(wanted) && passes(alert));
  if (!found.length) return <div class="no-data">No alerts</div>;
  return (
    <ul class="list-panel" style={{ maxHeight: `${height}px` }}>
      {found.slice(0, max_items).map((alert, index) => (
        <li key={index}>
          <Badge tone={alert.state === "firing" ? "critical" : "warning"}>{alert.state}</Badge> {alert.labels["alertname"]}{" "}
          <span class="hint">{alert.annotations["summary"] ?? alert.annotations["description"] ?? ""}</span>
        </li>
      ))}
    </ul>
  );
}
