/** Panels of the type table. */
import { useMemo, useState } from "preact/hooks";
import { isDark } from "../../../theme";
import { namedColor, readableOn, textColor } from "../logic/colors";
import { displayName, type Limits, limitsOf, shown } from "../logic/fields";
import { reduceValues, reducerTitle } from "../logic/reducers";
import { compareValues } from "../logic/transformations";
import { type Field, type Frame, lengthOf, type Value } from "../logic/types";
import { formatDate, formatUnit, unitText } from "../logic/units";
import { isShort } from "../../../ui/table";
import { linkHref } from "../scope";
import type { PanelProps } from "./props";

const PAGE = 100;

export function DataTable(props: PanelProps) {
  const { panel, data, height } = props;
  const options = panel.options ?? {};
  const frames = data.frames.filter(({ fields }) => fields.length);
  const [chosen, setChosen] = useState(options.frame ?? 0);
  const frame = frames[Math.min(chosen, frames.length - 1)];
  if (!frame || !lengthOf(frame)) return <div class="no-data">{panel.fields?.no_value ?? "No data"}</div>;
  return (
    <div class="data-table" style={{ height: `${height}px` }}>
      <Rows key={chosen} frame={frame} frames={frames} props={props} />
      {frames.length > 1 && (
        <select aria-label="Which answer" value={chosen} onChange={(event) => setChosen(Number(event.currentTarget.value))}>
          {frames.map((one, index) => <option key={index} value={index}>{nameOf(one, index)}</option>)}
        </select>
      )}
    </div>
  );
}

function nameOf(frame: Frame, index: number): string {
  const field = frame.fields.find(({ type }) => type === "number");
  return frame.format === "time_series" && field ? displayName(field, frame) : `Query ${frame.ref || index + 1}`;
}

function Rows({ frame, frames, props }: { frame: Frame; frames: Frame[]; props: PanelProps }) {
  const options = props.panel.options ?? {};
  const [order, setOrder] = useState(options.sort_by?.[0] ?? null);
  const [wanted, setPage] = useState(0);
  const columns = useMemo(
    () => frame.fields.filter(({ settings }) => !settings.column_hidden && !settings.hidden?.graph)
      .map((field) => ({ field, name: displayName(field, frame), limits: limitsOf(field, frames) })),
    [frame, frames],
  );
  const rows = useMemo(() => {
    const found = [...Array(lengthOf(frame)).keys()];
    const by = columns.find(({ name }) => name === order?.name)?.field;
    if (!by || !order) return found;
    return found.toSorted((a, b) => compareValues(by.values[a] ?? null, by.values[b] ?? null, order.desc));
  }, [frame, columns, order]);
  const footer = options.footer;
  const footerOf = (field: Field) => field.settings.footer ?? (footer && (!footer.fields || footer.fields.includes(displayName(field, frame))) && field.type === "number" ? footer.calcs : []);
  const hasFooter = columns.some(({ field }) => footerOf(field).length);
  const last = Math.max(Math.ceil(rows.length / PAGE) - 1, 0);
  // Another answer may have fewer.
  const page = Math.min(wanted, last);
  return (
    <>
      <div class="table-box" tabIndex={0} role="region" aria-label={props.panel.title || "table"}>
        <table class="table">
          {options.show_header !== false && (
            <thead>
              <tr>
                {columns.map(({ field, name }) => (
                  <th key={name} scope="col" class={alignOf(field)} style={field.settings.width ? { width: `${field.settings.width}px` } : undefined}
                    aria-sort={order?.name === name ? (order.desc ? "descending" : "ascending") : "none"}>
                    <button type="button" onClick={() => setOrder({ name, desc: order?.name === name ? !order.desc : false })}>
                      {name}{order?.name === name && (order.desc ? " ↓" : " ↑")}
                    </button>
                  </th>
                ))}
              </tr>
            </thead>
          )}
          <tbody>
            {rows.slice(page * PAGE, (page + 1) * PAGE).map((row) => (
              <tr key={row}>
                {columns.map(({ field, name, limits }) => <DataCell key={name} field={field} row={row} limits={limits} frame={frame} props={props} />)}
              </tr>
            ))}
          </tbody>
          {hasFooter && (
            <tfoot>
              <tr>
                {columns.map(({ field, name }) => (
                  <td key={name} class={alignOf(field)}>{footerOf(field).map((calc) => `${reducerTitle(calc)}: ${footerText(field, calc)}`).join(" ")}</td>
                ))}
              </tr>
            </tfoot>
          )}
        </table>
      </div>
      {last > 0 && (
        <div class="pages">
          <button type="button" disabled={page === 0} onClick={() => setPage(page - 1)}>Previous</button>
          <span>{page + 1} of {last + 1}</span>
          <button type="button" disabled={page === last} onClick={() => setPage(page + 1)}>Next</button>
        </div>
      )}
    </>
  );
}

function footerText(field: Field, calc: string): string {
  const value = reduceValues(field.values, calc);
  return typeof value === "number" ? unitText(value, field.settings.unit, field.settings.decimals) : String(value ?? "");
}

function alignOf({ type, settings }: Field): string {
  const align = settings.align && settings.align !== "auto" ? settings.align : type === "number" ? "right" : "left";
  return align === "right" ? "number" : align === "center" ? "is-centered" : "";
}

interface CellProps {
  field: Field;
  row: number;
  limits: Limits;
  frame: Frame;
  props: PanelProps;
}

function DataCell({ field, row, limits, frame, props }: CellProps) {
  const value = field.values[row] ?? null;
  const { settings } = field;
  const cell = settings.cell ?? { type: "auto" };
  const found = shown(value, settings, limits, isDark.value);
  const text = field.type === "time" ? timeText(value, settings.unit) : found.prefix + found.text + found.suffix;
  const isColored = cell.type === "text" || cell.type === "background";
  const style = cell.type === "text" ? { color: textColor(found.color) } : isColored ? { background: found.color, color: readableOn(found.color) } : undefined;
  const [link] = settings.links ?? [];
  const href = link && linkHref(link.url, props.lookup, rowData(field, row, frame, text));
  const content = cell.type === "json" ? <code>{text}</code> : text;
  const share = found.number === null ? 0 : Math.min(Math.max((found.number - limits.min) / (limits.max - limits.min || 1), 0), 1);
  return (
    <td class={`${alignOf(field)} ${isShort(text) ? "is-short" : ""}`} style={style}>
      {href ? <a href={href} target={link?.new_tab ? "_blank" : undefined} rel="noopener noreferrer" title={link?.title}>{content}</a> : content}
      {cell.type === "gauge" && <span class="bar-track is-filled"><span class="bar-fill" style={{ width: `${share * 100}%`, background: namedColor(found.color, isDark.value) }} /></span>}
    </td>
  );
}

function timeText(value: Value, unit: string | undefined): string {
  if (typeof value !== "number") return "";
  return unit ? formatUnit(value, unit).text : formatDate(value, "YYYY-MM-DD HH:mm:ss");
}

/** The variables of a link in a row: its own value, and those of the other columns. */
function rowData(field: Field, row: number, frame: Frame, text: string): Record<string, string> {
  const data: Record<string, string> = {
    "__value.raw": String(field.values[row] ?? ""), "__value.text": text, "__value.numeric": String(field.values[row] ?? ""),
    "__field.name": displayName(field, frame), __cell: text,
  };
  frame.fields.forEach((other, index) => {
    const value = String(other.values[row] ?? "");
    data[`__data.fields.${other.name}`] = value;
    data[`__data.fields.${displayName(other, frame)}`] = value;
    data[`__data.fields.${index}`] = value;
    data[`__cell_${index}`] = value;
  });
  for (const [name, value] of Object.entries(field.labels ?? {})) data[`__field.labels.${name}`] = value;
  return data;
}
