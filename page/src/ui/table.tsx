/** A table that is sorted by a click on a heading, and shown in pages where it is long. */
import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";

export interface Column<T> {
  /** The heading. */
  name: string;
  /** What the column is sorted by. */
  value: (row: T) => string | number | null | undefined;
  /** What is shown; the value if not given. */
  show?: (row: T) => ComponentChildren;
  isNumber?: boolean;
}

export interface TableProps<T> {
  /** What the table lists, for those who do not see it. */
  label: string;
  columns: Column<T>[];
  rows: readonly T[];
  keyOf?: (row: T, index: number) => string | number;
  /** The heading that sorts at first, with a `-` before it from high to low. */
  sortedBy?: string;
  pageLength?: number;
  onRow?: (row: T) => void;
}

export function Table<T>({ label, columns, rows, keyOf, sortedBy = "", pageLength = 100, onRow }: TableProps<T>) {
  const [order, setOrder] = useState(sortedBy);
  const [page, setPage] = useState(0);
  const sorted = useMemo(() => sort(rows, columns, order), [rows, columns, order]);
  const lastPage = Math.max(0, Math.ceil(sorted.length / pageLength) - 1);
  const current = Math.min(page, lastPage);
  const shown = sorted.slice(current * pageLength, (current + 1) * pageLength);
  return (
    <div class="table-box" tabIndex={0} role="region" aria-label={label}>
      <table class="table">
        <thead>
          <tr>
            {columns.map((column) => (
              <Heading key={column.name} column={column} order={order} onOrder={setOrder} />
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map((row, index) => (
            <tr
              key={keyOf ? keyOf(row, index) : index}
              class={onRow ? "is-link" : ""}
              onClick={onRow && (() => onRow(row))}
            >
              {columns.map((column) => (
                <td key={column.name} class={column.isNumber ? "number" : !column.show && isShort(column.value(row)) ? "is-short" : ""}>
                  {column.show ? column.show(row) : column.value(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {lastPage > 0 && (
        <div class="pages">
          <button type="button" disabled={current === 0} onClick={() => setPage(current - 1)}>
            Previous
          </button>
          <span>
            {current * pageLength + 1}–{current * pageLength + shown.length} of {sorted.length}
          </span>
          <button type="button" disabled={current === lastPage} onClick={() => setPage(current + 1)}>
            Next
          </button>
        </div>
      )}
    </div>
  );
}

/** Values that are not broken over lines: a column of pieces of words cannot be read. */
const SHORT = 24;

export function isShort(value: unknown): boolean {
  return String(value ?? "").length <= SHORT;
}

function Heading<T>({
  column,
  order,
  onOrder,
}: {
  column: Column<T>;
  order: string;
  onOrder: (order: string) => void;
}) {
  const isUp = order === column.name;
  const isDown = order === `-${column.name}`;
  return (
    <th
      scope="col"
      class={column.isNumber ? "number" : ""}
      aria-sort={isUp ? "ascending" : isDown ? "descending" : "none"}
    >
      <button type="button" onClick={() => onOrder(isUp ? `-${column.name}` : column.name)}>
        {column.name}
        <span aria-hidden="true">{isUp ? " ↑" : isDown ? " ↓" : ""}</span>
      </button>
    </th>
  );
}

export function sort<T>(rows: readonly T[], columns: Column<T>[], order: string): readonly T[] {
  const column = columns.find(({ name }) => order === name || order === `-${name}`);
  if (!column) return rows;
  const sign = order.startsWith("-") && column.name !== order ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: keyOfRow(column.value(row)) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return a.key === b.key ? 0 : a.key === null ? 1 : -1;
    // No difference: that of two infinities is NaN.
    if (typeof a.key === "number" && typeof b.key === "number") return sign * (Number(a.key > b.key) - Number(a.key < b.key));
    return sign * String(a.key).localeCompare(String(b.key), "en", { numeric: true });
  });
  return keyed.map(({ row }) => row);
}

/** What a row is sorted by; null, which comes last in either order, for NaN, too. */
function keyOfRow(value: string | number | null | undefined): string | number | null {
  return value === undefined || Number.isNaN(value) ? null : value;
}
