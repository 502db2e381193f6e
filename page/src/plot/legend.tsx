/** The names of a plot's lines, with numbers about each; a click shows one of them alone. */
import { useMemo } from "preact/hooks";
import { formatValue } from "../format/numbers";
import { type Reducer, summarize } from "./data";
import { seriesColour } from "./palette";
import { type Line, Swatch } from "./plot";

const MOST_ROWS = 300;

export interface LegendProps {
  lines: Line[];
  unit?: string;
  decimals?: number;
  /** Columns beside the name. */
  columns?: Reducer[];
  /** Receives the keys of the lines that are hidden now. */
  onHide: (hidden: ReadonlySet<string>) => void;
}

export function keyOf({ key, name }: Pick<Line, "key" | "name">): string {
  return key ?? name;
}

export function Legend({ lines, unit, decimals, columns = ["last", "min", "max"], onHide }: LegendProps) {
  const shown = lines.slice(0, MOST_ROWS);
  const values = shown.map((line) => line.values);
  // Whether a line is hidden does not change its numbers.
  const numbers = useMemo(() => values.map(summarize), values);
  const keys = new Set(lines.map(keyOf));
  const hidden = new Set(lines.flatMap((line) => (line.hidden ? [keyOf(line)] : [])));
  const toggle = (key: string, onlyOne: boolean) => {
    if (onlyOne) {
      const next = new Set(hidden);
      if (!next.delete(key)) next.add(key);
      onHide(next);
      return;
    }
    const isAlone = !hidden.has(key) && hidden.size === keys.size - 1;
    onHide(new Set(isAlone ? [] : [...keys].filter((other) => other !== key)));
  };
  return (
    <div class="legend" tabIndex={0} role="region" aria-label="Legend">
      <table>
        <thead>
          <tr>
            <th scope="col">Series</th>
            {columns.map((column) => (
              <th scope="col" class="number" key={column}>
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map((line, index) => (
            <tr key={index} class={line.hidden ? "is-hidden" : ""}>
              <td>
                <button
                  type="button"
                  class="legend-name"
                  aria-pressed={!line.hidden}
                  title="Click: this one alone. Ctrl-click: hide or show it."
                  onClick={(event) => toggle(keyOf(line), event.ctrlKey || event.metaKey)}
                >
                  <Swatch colour={line.colour ?? seriesColour(index)} />
                  {line.name}
                </button>
              </td>
              {columns.map((column) => (
                <td class="number" key={column}>
                  {formatValue(numbers[index]?.[column], unit, decimals)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {lines.length > MOST_ROWS && <p>and {lines.length - MOST_ROWS} more series</p>}
    </div>
  );
}
