/** Panels of single values: stat, gauge, bar gauge and pie chart. */
import { useMemo } from "preact/hooks";
import { isDark } from "../../../theme";
import { namedColor, readableOn, textColor } from "../logic/colors";
import { reduceValues } from "../logic/reducers";
import { type SingleValue, singleValues } from "../logic/single_values";
import type { FieldSettings, Value } from "../logic/types";
import { unitText } from "../logic/units";
import { linkHref } from "../scope";
import type { PanelProps } from "./props";

function useValues({ panel, data }: PanelProps, paletteIsDefault = false): SingleValue[] {
  const dark = isDark.value;
  return useMemo(() => singleValues(data.frames, panel.options?.reduce, dark, paletteIsDefault), [data.frames, panel, dark]);
}

/** Regions that scroll can be scrolled by the keyboard. */
const SCROLLED = { tabIndex: 0, role: "region" } as const;

function isBlank({ shown }: SingleValue): boolean {
  return shown.prefix + shown.text + shown.suffix === "";
}

function NoData({ panel }: PanelProps) {
  return <div class="no-data">{panel.fields?.no_value ?? "No data"}</div>;
}

/** The value as text, as a link if the field has one. */
function ValueText({ single, props, size }: { single: SingleValue; props: PanelProps; size?: number }) {
  const { prefix, text, suffix } = single.shown;
  const content = <span style={size ? { fontSize: `${size}px` } : undefined}>{prefix}{text}<span class="unit">{suffix}</span></span>;
  const [link] = single.field.settings.links ?? [];
  const href = link && linkHref(link.url, props.lookup, linkData(single));
  return href ? <a href={href} class="value-link" title={link.title} target={link.new_tab ? "_blank" : undefined} rel="noopener noreferrer">{content}</a> : content;
}

export function linkData(single: SingleValue): Record<string, string> {
  const labels = Object.entries(single.field.labels ?? {});
  return {
    "__field.name": single.name, "__series.name": single.name, "__field.displayName": single.name,
    "__value.raw": String(single.value ?? ""), "__value.text": single.shown.text, "__value.numeric": String(single.shown.number ?? ""),
    ...Object.fromEntries(labels.map(([name, value]) => [`__field.labels.${name}`, value])),
  };
}

interface Blocks {
  /** Of one block, in pixels. */
  width: number;
  height: number;
  style: { gridTemplateColumns: string; gridAutoRows: string; height: string };
}

/** What can be read, in pixels: more blocks than fit are scrolled to. */
const LEAST_WIDTH = 80;
const LEAST_HEIGHT = 48;

/** Blocks side by side or below each other, whichever leaves them more square. */
function arrangement({ width, height, panel }: PanelProps, count: number, leastHeight = LEAST_HEIGHT): Blocks {
  const orientation = panel.options?.orientation ?? "auto";
  const square = Math.max(1, Math.round(Math.sqrt((count * width) / Math.max(height, 1) / 1.6)));
  const wanted = orientation === "horizontal" ? 1 : orientation === "vertical" ? count : Math.min(count, square);
  const columns = Math.min(wanted, Math.max(Math.floor(width / LEAST_WIDTH), 1));
  const rows = Math.ceil(count / columns);
  const each = Math.max(height / rows - 4, leastHeight);
  return {
    width: width / columns - 4, height: each,
    style: { gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`, gridAutoRows: `${Math.floor(each)}px`, height: `${height}px` },
  };
}

/** More blocks than anybody looks at make the page slow. */
const MOST_BLOCKS = 300;

function More({ count }: { count: number }) {
  return count > MOST_BLOCKS ? <p class="hint">and {count - MOST_BLOCKS} more</p> : null;
}

export function Stat(props: PanelProps) {
  const values = useValues(props);
  const { color_mode = "value", graph_mode = "area", text_mode = "auto", justify, percent_change } = props.panel.options ?? {};
  if (values.every(isBlank)) return <NoData {...props} />;
  const { width, height, style: blocks } = arrangement(props, Math.min(values.length, MOST_BLOCKS));
  const hasName = text_mode === "value_and_name" || text_mode === "name" ||
    (text_mode === "auto" && (values.length > 1 || Boolean(props.panel.fields?.display_name) || !props.panel.title));
  return (
    <div class="blocks" style={blocks} {...SCROLLED} aria-label={props.panel.title || "values"}>
      {values.slice(0, MOST_BLOCKS).map((single, index) => {
        const { color, prefix, text, suffix } = single.shown;
        const isBackground = color_mode.startsWith("background");
        const shown = text_mode === "name" ? single.name : prefix + text + suffix;
        const size = Math.max(Math.min((width * 0.9) / Math.max(shown.length, 3) / 0.66, height * (hasName ? 0.42 : 0.6), 64), 11);
        const style = isBackground
          ? { background: color, color: readableOn(color) }
          : { color: color_mode === "value" ? textColor(color) : "var(--text)" };
        return (
          <div class={`block ${justify === "center" || values.length === 1 ? "is-center" : ""}`} key={index} style={style}>
            {hasName && text_mode !== "name" && <div class="block-name" style={{ color: isBackground ? "inherit" : "var(--text)" }}>{single.name}</div>}
            {text_mode === "name" ? <strong style={{ fontSize: `${size}px` }}>{single.name}</strong> : text_mode !== "none" && <strong><ValueText single={single} props={props} size={size} /></strong>}
            {percent_change && <PercentChange values={single.values} />}
            {graph_mode === "area" && single.values.length > 1 && <Sparkline single={single} color={isBackground ? readableOn(color) : color} />}
          </div>
        );
      })}
      <More count={values.length} />
    </div>
  );
}

/** How much the last value is above or below the first one. */
function PercentChange({ values }: { values: Value[] }) {
  const share = reduceValues(values, "diffperc");
  if (typeof share !== "number" || !Number.isFinite(share)) return null;
  return <span class="block-name">{share > 0 ? "▲ " : share < 0 ? "▼ " : ""}{unitText(Math.abs(share), "percentunit", 1)}</span>;
}

/** The samples as an area, as wide as its block. */
export function Sparkline({ single, color }: { single: Pick<SingleValue, "values">; color: string }) {
  const numbers = single.values.map((value) => (typeof value === "number" && Number.isFinite(value) ? value : null));
  const known = numbers.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  if (known.length < 2) return null;
  const points = numbers.flatMap((value, index) => value === null ? [] : [`${((index / (numbers.length - 1)) * 100).toFixed(2)},${(28 - ((value - low) / (high - low || 1)) * 26).toFixed(2)}`]);
  return (
    <svg class="sparkline" viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true">
      <polygon points={`0,30 ${points.join(" ")} 100,30`} fill={color} opacity="0.2" />
      <polyline points={points.join(" ")} fill="none" stroke={color} stroke-width="1" vector-effect="non-scaling-stroke" />
    </svg>
  );
}

function share(single: SingleValue): number {
  const { min, max } = single.limits;
  const number = single.shown.number;
  return number === null ? 0 : Math.min(Math.max((number - min) / (max - min || 1), 0), 1);
}

/** An arc of 240 degrees, from `from` to `to` of 1. */
function arc(radius: number, from: number, to: number): string {
  const point = (at: number) => {
    const angle = ((150 + 240 * at) * Math.PI) / 180;
    return `${(50 + radius * Math.cos(angle)).toFixed(3)} ${(50 + radius * Math.sin(angle)).toFixed(3)}`;
  };
  return `M ${point(from)} A ${radius} ${radius} 0 ${(to - from) * 240 > 180 ? 1 : 0} 1 ${point(to)}`;
}

/** The steps of thresholds as parts of the scale. */
function bands(settings: FieldSettings, min: number, max: number): { from: number; to: number; color: string }[] {
  const steps = settings.thresholds?.steps ?? [{ color: "green" }, { value: 80, color: "red" }];
  const at = (value: number | null | undefined, end: number) => {
    if (value === null || value === undefined) return end;
    const place = settings.thresholds?.mode === "percentage" ? value / 100 : (value - min) / (max - min || 1);
    return Math.min(Math.max(place, 0), 1);
  };
  return steps.map((step, index) => ({ from: index ? at(step.value, 0) : 0, to: at(steps[index + 1]?.value, 1), color: namedColor(step.color, isDark.peek()) }))
    .filter(({ from, to }) => to > from);
}

const NAME_PIXELS = 22;
const LEAST_GAUGE = 70;

export function Gauge(props: PanelProps) {
  const values = useValues(props);
  if (values.every(isBlank)) return <NoData {...props} />;
  const { threshold_markers = true } = props.panel.options ?? {};
  const { width, height, style: blocks } = arrangement(props, Math.min(values.length, MOST_BLOCKS), LEAST_GAUGE);
  const name = values.length > 1 ? NAME_PIXELS : 0;
  const size = Math.max(Math.min(width, (height - name) * 1.25) - 4, 40);
  return (
    <div class="blocks is-gauges" style={blocks} {...SCROLLED} aria-label={props.panel.title || "gauges"}>
      {values.slice(0, MOST_BLOCKS).map((single, index) => {
        const { settings } = single.field;
        const { prefix, text, suffix, color } = single.shown;
        const shown = prefix + text + suffix;
        return (
          <div class="block is-center" key={index}>
            <svg viewBox="0 3 100 79" style={{ width: `${size}px`, height: `${size * 0.79}px` }} role="img" aria-label={`${single.name}: ${shown}`}>
              <path d={arc(36, 0, 1)} fill="none" stroke="var(--grid)" stroke-width="11" />
              {share(single) > 0 && <path d={arc(36, 0, share(single))} fill="none" stroke={color} stroke-width="11" />}
              {threshold_markers && bands(settings, single.limits.min, single.limits.max).map(({ from, to, color: band }, step) => (
                <path key={step} d={arc(44, from, to)} fill="none" stroke={band} stroke-width="2.5" />
              ))}
              <text x="50" y="56" text-anchor="middle" style={{ fill: textColor(color) }} font-size={Math.min(16, 90 / Math.max(shown.length, 4))} font-weight="600">{shown}</text>
            </svg>
            {values.length > 1 && <div class="block-name">{single.name}</div>}
          </div>
        );
      })}
      <More count={values.length} />
    </div>
  );
}

export function BarGauge(props: PanelProps) {
  const values = useValues(props);
  if (!values.length) return <NoData {...props} />;
  const { bar_mode = "gradient", show_unfilled = true, orientation = "auto", value_mode } = props.panel.options ?? {};
  const isDown = orientation === "vertical" || (orientation === "auto" && props.height > props.width);
  return (
    <div class={`bars ${isDown ? "is-vertical" : ""}`} tabIndex={0} role="region" aria-label={props.panel.title || "bars"}>
      {values.slice(0, MOST_BLOCKS).map((single, index) => {
        const percent = `${share(single) * 100}%`;
        const { color } = single.shown;
        const background = bar_mode === "gradient" ? `linear-gradient(${isDown ? "0deg" : "90deg"}, color-mix(in srgb, ${color} 35%, transparent), ${color})`
          : bar_mode === "lcd" ? `repeating-linear-gradient(${isDown ? "0deg" : "90deg"}, ${color} 0 6px, transparent 6px 8px)` : color;
        return (
          <div class="bar" key={index}>
            <span class="bar-name">{values.length > 1 || props.panel.fields?.display_name ? single.name : ""}</span>
            <span class={`bar-track ${show_unfilled ? "is-filled" : ""}`}>
              <span class="bar-fill" style={isDown ? { height: percent, background } : { width: percent, background }} />
            </span>
            {value_mode !== "hidden" && <span class="bar-value" style={{ color: value_mode === "text" ? "var(--text)" : textColor(color) }}><ValueText single={single} props={props} /></span>}
          </div>
        );
      })}
      <More count={values.length} />
    </div>
  );
}

export function Pie(props: PanelProps) {
  const found = useValues(props, true);
  const { pie = "pie", pie_labels = [], pie_sort = "desc", legend } = props.panel.options ?? {};
  const slices = found.filter(({ shown }) => shown.number !== null && shown.number > 0 && Number.isFinite(shown.number));
  const sorted = pie_sort === "none" ? slices : slices.toSorted((a, b) => (pie_sort === "asc" ? 1 : -1) * ((a.shown.number ?? 0) - (b.shown.number ?? 0)));
  const total = sorted.reduce((sum, { shown }) => sum + (shown.number ?? 0), 0);
  if (!sorted.length) return <NoData {...props} />;
  const percent = (single: SingleValue) => `${(((single.shown.number ?? 0) / total) * 100).toFixed(0)}%`;
  const textOf = ({ shown }: SingleValue) => shown.prefix + shown.text + shown.suffix;
  let at = 0;
  const isRight = legend?.placement === "right";
  const columns = legend?.values ?? [];
  return (
    <div class={`pie ${isRight ? "is-right" : ""}`} style={{ height: `${props.height}px` }}>
      <svg viewBox="-52 -52 104 104" role="img" aria-label={props.panel.title || "pie"}>
        {sorted.map((single, index) => {
          const from = at;
          at += (single.shown.number ?? 0) / total;
          const middle = ((from + at) / 2) * 2 * Math.PI;
          const label = pie_labels.map((kind) => (kind === "percent" ? percent(single) : kind === "value" ? textOf(single) : single.name)).join(" ");
          return (
            <g key={index}>
              <path d={slice(from, at, pie === "donut" ? 28 : 0)} fill={single.shown.color} stroke="var(--background)" stroke-width={sorted.length > 1 && sorted.length < 60 ? 0.5 : 0}><title>{`${single.name}: ${textOf(single)} (${percent(single)})`}</title></path>
              {label && at - from > 0.04 && <text x={Math.sin(middle) * (pie === "donut" ? 39 : 32)} y={-Math.cos(middle) * (pie === "donut" ? 39 : 32)} font-size="6" text-anchor="middle" dominant-baseline="central" fill={readableOn(single.shown.color)}>{label}</text>}
            </g>
          );
        })}
      </svg>
      {legend?.mode !== "hidden" && (
        <div class="graph-legend" tabIndex={0} role="region" aria-label="Legend">
          <table>
            {legend?.mode === "table" && columns.length > 0 && <thead><tr><th scope="col">Name</th>{columns.map((column) => <th scope="col" class="number" key={column}>{column === "value" ? "Value" : "Percent"}</th>)}</tr></thead>}
            <tbody>
              {sorted.slice(0, MOST_BLOCKS).map((single, index) => (
                <tr key={index}>
                  <td><span class="swatch" style={{ background: single.shown.color }} aria-hidden="true" />{single.name}</td>
                  {columns.map((column) => <td class="number" key={column}>{column === "value" ? textOf(single) : percent(single)}</td>)}
                </tr>
              ))}
            </tbody>
          </table>
          <More count={sorted.length} />
        </div>
      )}
    </div>
  );
}

function slice(from: number, to: number, inner: number): string {
  const point = (at: number, radius: number) => `${(Math.sin(at * 2 * Math.PI) * radius).toFixed(3)} ${(-Math.cos(at * 2 * Math.PI) * radius).toFixed(3)}`;
  const end = to - from >= 1 ? from + 0.99999 : to;
  const large = end - from > 0.5 ? 1 : 0;
  const outer = `M ${point(from, 50)} A 50 50 0 ${large} 1 ${point(end, 50)}`;
  return inner ? `${outer} L ${point(end, inner)} A ${inner} ${inner} 0 ${large} 0 ${point(from, inner)} Z` : `${outer} L 0 0 Z`;
}
