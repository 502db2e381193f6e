/** Transformations of frames, with the ids and the options of Grafana. */
import { displayName, patternOf } from "./fields";
import { reduceValues, reducerTitle } from "./reducers";
import { type Field, type Frame, lengthOf, type Transformation, type Value } from "./types";

type Options = Record<string, any>;
type Step = (frames: Frame[], options: Options) => Frame[];

/** The frames after all steps, in order. */
export function transformed(frames: Frame[], steps: readonly Transformation[] = []): Frame[] {
  return steps.reduce((current, { id, options = {}, queries, disabled }) => {
    const step = STEPS[id];
    if (disabled || !step) return current;
    if (!queries) return step(current, options);
    const isChosen = ({ ref }: Frame) => queries.includes(ref);
    return [...step(current.filter(isChosen), options), ...current.filter((frame) => !isChosen(frame))];
  }, frames);
}

function named(field: Field, frame: Frame): string {
  return displayName(field, frame);
}

/** The same field under another name. */
function renamed(field: Field, name: string): Field {
  const { legendName: _, labels: __, ...rest } = field;
  return { ...rest, name, settings: { ...field.settings, display_name: undefined } as Field["settings"] };
}

function column(name: string, values: Value[], type?: Field["type"]): Field {
  const guessed = values.some((value) => typeof value === "string") ? "string" : "number";
  return { name, type: type ?? guessed, values, settings: {} };
}

function pick(frame: Frame, rows: number[]): Frame {
  return { ...frame, fields: frame.fields.map((field) => ({ ...field, values: rows.map((row) => field.values[row] ?? null) })) };
}

const organize: Step = (frames, options) =>
  frames.map((frame) => {
    const { excludeByName = {}, includeByName = {}, indexByName = {}, renameByName = {} } = options;
    const hasIncludes = Object.values(includeByName).some(Boolean);
    const kept = frame.fields.filter((field) => {
      const name = named(field, frame);
      return !excludeByName[name] && (!hasIncludes || includeByName[name]);
    });
    const place = (field: Field) => indexByName[named(field, frame)] ?? Number.MAX_SAFE_INTEGER;
    const ordered = Object.keys(indexByName).length ? kept.toSorted((a, b) => place(a) - place(b)) : kept;
    return {
      ...frame,
      fields: ordered.map((field) => {
        const name = renameByName[named(field, frame)];
        return name ? renamed(field, name) : field;
      }),
    };
  });

const merge: Step = (frames) => {
  const filled = frames.filter((frame) => frame.fields.length);
  if (filled.length < 2) return frames;
  const namesOf = (frame: Frame) => frame.fields.map((field) => named(field, frame));
  const [first = [], ...others] = filled.map(namesOf);
  const common = first.filter((name) => others.every((names) => names.includes(name)));
  if (!common.length) return frames;
  const names = [...new Set([first, ...others].flat())];
  const rows: Map<string, Value>[] = [];
  const byKey = new Map<string, Map<string, Value>[]>();
  for (const frame of filled) {
    const own = namesOf(frame);
    for (let index = 0; index < lengthOf(frame); index += 1) {
      const row = new Map(own.map((name, position) => [name, frame.fields[position]?.values[index] ?? null]));
      const key = JSON.stringify(common.map((name) => row.get(name)));
      const candidates = byKey.get(key) ?? [];
      const target = candidates.find((other) => [...row].every(([name, value]) => !other.has(name) || other.get(name) === value));
      if (target) for (const [name, value] of row) target.set(name, value);
      else {
        rows.push(row);
        byKey.set(key, [...candidates, row]);
      }
    }
  }
  const typeOf = (name: string) => filled.flatMap((frame) => frame.fields.filter((field) => named(field, frame) === name))[0];
  const fields = names.map((name) => ({
    ...renamed(typeOf(name) ?? column(name, []), name),
    values: rows.map((row) => row.get(name) ?? null),
  }));
  return [{ ref: "merge", format: "table", fields }];
};

/** Frames next to each other, by the equal values of one field. */
export function joined(frames: Frame[], byField: string | undefined, mode: string): Frame[] {
  if (frames.length < 2) return frames;
  const keyOf = (frame: Frame) =>
    frame.fields.find((field) => (byField ? named(field, frame) === byField || field.name === byField : field.type === "time"));
  const withKey = frames.filter((frame) => keyOf(frame));
  if (!withKey.length) return [];
  if (mode === "inner" && withKey.length < frames.length) return [];
  const keyed = withKey.map((frame) => ({ frame, key: keyOf(frame) as Field }));
  const keys = joinKeys(keyed.map(({ key }) => key.values), mode === "inner");
  if (keyed[0]?.key.type === "time") keys.sort((a, b) => Number(a) - Number(b));
  const fields: Field[] = [];
  for (const { frame, key } of keyed) {
    const rowOf = new Map(key.values.map((value, row) => [value, row]));
    for (const field of frame.fields) {
      if (field === key) continue;
      const values = keys.map((value) => {
        const row = rowOf.get(value);
        return row === undefined ? null : (field.values[row] ?? null);
      });
      fields.push({ ...field, values, ...(frame.format === "time_series" && !field.legendName ? { legendName: named(field, frame) } : {}) });
    }
  }
  const key = keyed[0]?.key as Field;
  return [{ ref: "join", format: "table", fields: [{ ...key, values: keys }, ...numbered(fields)] }];
}

function joinKeys(columns: Value[][], isInner: boolean): Value[] {
  const found = [...new Set(columns.flat())];
  return isInner ? found.filter((value) => columns.every((values) => values.includes(value))) : found;
}

/** Equal names of columns get numbers: `Time 1`, `Time 2`. */
function numbered(fields: Field[]): Field[] {
  const counts = new Map<string, number>();
  for (const field of fields) counts.set(displayName(field), (counts.get(displayName(field)) ?? 0) + 1);
  const next = new Map<string, number>();
  return fields.map((field) => {
    const name = displayName(field);
    if ((counts.get(name) ?? 0) < 2 || field.legendName) return field;
    const number = (next.get(name) ?? 0) + 1;
    next.set(name, number);
    return renamed(field, `${name} ${number}`);
  });
}

const groupBy: Step = (frames, { fields: operations = {} }) =>
  frames.map((frame) => {
    const operationOf = (field: Field) => operations[named(field, frame)];
    const keys = frame.fields.filter((field) => operationOf(field)?.operation === "groupby");
    if (!keys.length) return frame;
    const groups = new Map<string, number[]>();
    for (let row = 0; row < lengthOf(frame); row += 1) {
      const key = JSON.stringify(keys.map((field) => field.values[row]));
      groups.set(key, [...(groups.get(key) ?? []), row]);
    }
    const rows = [...groups.values()];
    const kept = keys.map((field) => ({ ...field, values: rows.map(([first = 0]) => field.values[first] ?? null) }));
    const results = frame.fields
      .filter((field) => operationOf(field)?.operation === "aggregate")
      .flatMap((field) =>
        ((operationOf(field).aggregations ?? []) as string[]).map((calc) => ({
          ...renamed(field, `${named(field, frame)} (${calc})`),
          values: rows.map((group) => reduceValues(group.map((row) => field.values[row] ?? null), calc)),
        })),
      );
    return { ...frame, fields: [...kept, ...results] };
  });

function filterNames(options: Options, frame: Frame): (field: Field) => boolean {
  const names: string[] = options["names"] ?? [];
  const pattern = options["pattern"] ? patternOf(options["pattern"]) : null;
  return (field) => names.includes(named(field, frame)) || (pattern?.test(named(field, frame)) ?? false);
}

const filterFieldsByName: Step = (frames, { include, exclude }) =>
  frames
    .map((frame) => ({
      ...frame,
      fields: frame.fields.filter((field) => {
        const hasInclude = include && (include.names?.length || include.pattern);
        if (hasInclude && !filterNames(include, frame)(field)) return false;
        return !exclude || !(exclude.names?.length || exclude.pattern) || !filterNames(exclude, frame)(field);
      }),
    }))
    .filter((frame) => frame.fields.length);

const labelsToFields: Step = (frames, { mode, keepLabels, valueLabel }) => {
  const isKept = (name: string) => !keepLabels?.length || keepLabels.includes(name);
  if (mode === "rows") {
    return frames.flatMap((frame) =>
      frame.fields.filter(({ labels }) => labels).map((field): Frame => {
        const pairs = Object.entries(field.labels ?? {}).filter(([name]) => isKept(name));
        return { ...frame, fields: [column("label", pairs.map(([name]) => name), "string"), column("value", pairs.map(([, value]) => value), "string")] };
      }),
    );
  }
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.flatMap((field) => {
      if (!field.labels) return [field];
      const labels = Object.entries(field.labels).filter(([name]) => isKept(name) && name !== valueLabel);
      const name = valueLabel && field.labels[valueLabel] ? field.labels[valueLabel] : field.name;
      return [...labels.map(([label, value]) => column(label, field.values.map(() => value), "string")), renamed(field, name)];
    }),
  }));
};

function operate(left: number, operator: string, right: number): number {
  switch (operator) {
    case "+": return left + right;
    case "-": return left - right;
    case "*": return left * right;
    case "/": return left / right;
    case "**": return left ** right;
    case "%": return left % right;
    default: return Number.NaN;
  }
}

const calculateField: Step = (frames, options) => {
  const { mode = "reduceRow", alias, replaceFields, timeSeries = true, binary = {}, reduce = {} } = options;
  const isNumber = typeof binary.right === "number" || (typeof binary.right === "string" && binary.right !== "" && !Number.isNaN(Number(binary.right))) || binary.right?.fixed !== undefined;
  const joinFirst = timeSeries && frames.length > 1 && !(mode === "binary" && isNumber);
  return (joinFirst ? joined(frames, undefined, "outer") : frames).map((frame) => {
    const made = mode === "binary" ? binaryField(frame, binary) : reducedRows(frame, reduce);
    if (!made) return frame;
    const result = { ...made, name: alias || made.name };
    if (!replaceFields) return { ...frame, fields: [...frame.fields, result] };
    return { ...frame, fields: [...frame.fields.filter(({ type }) => type === "time"), result] };
  });
};

function sideOf(frame: Frame, side: unknown): { name: string; at: (row: number) => number } {
  const given = typeof side === "object" && side !== null ? (side as Options) : {};
  const text = String(given["fixed"] ?? given["matcher"]?.options ?? side ?? "");
  const field = frame.fields.find((one) => named(one, frame) === text || one.name === text);
  if (field) return { name: text, at: (row) => Number(field.values[row] ?? Number.NaN) };
  return { name: text, at: () => (text === "" ? Number.NaN : Number(text)) };
}

function binaryField(frame: Frame, { left, operator = "+", right }: Options): Field | null {
  const [a, b] = [sideOf(frame, left), sideOf(frame, right)];
  const values = Array.from({ length: lengthOf(frame) }, (_, row) => {
    const value = operate(a.at(row), operator, b.at(row));
    return Number.isNaN(value) ? null : value;
  });
  return column(`${a.name} ${operator} ${b.name}`, values, "number");
}

function reducedRows(frame: Frame, { reducer = "sum", include }: Options): Field | null {
  const fields = frame.fields.filter((field) => field.type === "number" && (!include?.length || include.includes(named(field, frame))));
  if (!fields.length) return null;
  const values = Array.from({ length: lengthOf(frame) }, (_, row) => reduceValues(fields.map((field) => field.values[row] ?? null), reducer));
  return column(reducerTitle(reducer), values, "number");
}

/** Numbers before texts, or from the other end on; what is missing comes last in either order. */
export function compareValues(a: Value, b: Value, isDescending = false): number {
  if (a === b) return 0;
  if (a === null || Number.isNaN(a)) return 1;
  if (b === null || Number.isNaN(b)) return -1;
  const sign = isDescending ? -1 : 1;
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

const sortBy: Step = (frames, { sort = [] }) =>
  frames.map((frame) => {
    const [first] = sort as { field?: string; desc?: boolean }[];
    const field = frame.fields.find((one) => named(one, frame) === first?.field);
    if (!field) return frame;
    return pick(frame, [...field.values.keys()].toSorted((a, b) => compareValues(field.values[a] ?? null, field.values[b] ?? null, first?.desc)));
  });

const reduce: Step = (frames, { reducers = [], mode = "seriesToRows", includeTimeField, labelsToFields: withLabels }) => {
  const calcs = reducers as string[];
  if (mode === "reduceFields") {
    return frames.map((frame) => ({
      ...frame,
      fields: frame.fields
        .filter((field) => field.type === "number" || (includeTimeField && field.type === "time"))
        .flatMap((field) => calcs.map((calc) => ({
          ...(calcs.length > 1 ? renamed(field, `${named(field, frame)} ${reducerTitle(calc)}`) : field),
          values: [reduceValues(field.values, calc)],
        }))),
    }));
  }
  const rows = frames.flatMap((frame) =>
    frame.fields.filter((field) => field.type === "number" || (includeTimeField && field.type === "time")).map((field) => ({ field, frame })));
  if (!rows.length) return [];
  const labels = withLabels ? [...new Set(rows.flatMap(({ field }) => Object.keys(field.labels ?? {})))].toSorted() : [];
  return [{
    ref: "reduce",
    format: "table",
    fields: [
      column("Field", rows.map(({ field, frame }) => (withLabels ? field.name : named(field, frame))), "string"),
      ...labels.map((label) => column(label, rows.map(({ field }) => field.labels?.[label] ?? ""), "string")),
      ...calcs.map((calc) => column(reducerTitle(calc), rows.map(({ field }) => reduceValues(field.values, calc)), "number")),
    ],
  }];
};

const renameByRegex: Step = (frames, { regex = "", renamePattern = "" }) => {
  const pattern = patternOf(regex);
  if (!pattern) return frames;
  const flags = /^\/.*\/([a-z]*)$/s.exec(regex)?.[1]?.includes("g") ? "g" : "";
  const whole = new RegExp(pattern.source, pattern.flags + flags);
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => {
      if (field.type === "time") return field;
      const before = named(field, frame);
      const after = before.replace(whole, renamePattern);
      return after === before ? field : { ...field, legendName: after, settings: { ...field.settings, display_name: after } };
    }),
  }));
};

const seriesToRows: Step = (frames) => {
  const rows = frames.flatMap((frame) => {
    const time = frame.fields.find(({ type }) => type === "time");
    return frame.fields.filter(({ type }) => type === "number").flatMap((field) =>
      field.values.flatMap((value, row) => (value === null ? [] : [{ time: time?.values[row] ?? null, name: named(field, frame), value }])));
  });
  rows.sort((a, b) => Number(b.time) - Number(a.time));
  return [{
    ref: "rows",
    format: "table",
    fields: [
      column("Time", rows.map(({ time }) => time), "time"),
      column("Metric", rows.map(({ name }) => name), "string"),
      column("Value", rows.map(({ value }) => value), "number"),
    ],
  }];
};

function passes(value: Value, { id, options = {} }: Options): boolean {
  const operand = options.value;
  const number = Number(operand);
  switch (id) {
    case "isNull": return value === null;
    case "isNotNull": return value !== null;
    case "greater": return Number(value) > number;
    case "greaterOrEqual": return Number(value) >= number;
    case "lower": return Number(value) < number;
    case "lowerOrEqual": return Number(value) <= number;
    case "equal": return String(value) === String(operand);
    case "notEqual": return String(value) !== String(operand);
    case "regex": return patternOf(`/${operand}/`)?.test(String(value ?? "")) ?? false;
    case "range": return Number(value) >= Number(options.from) && Number(value) <= Number(options.to);
    default: return true;
  }
}

const filterByValue: Step = (frames, { filters = [], type = "include", match = "any" }) =>
  frames.map((frame) => {
    const tests = (filters as Options[]).flatMap(({ fieldName, config }) => {
      const field = frame.fields.find((one) => named(one, frame) === fieldName);
      return field && config ? [(row: number) => passes(field.values[row] ?? null, config)] : [];
    });
    if (!tests.length) return frame;
    const rows = Array.from({ length: lengthOf(frame) }, (_, row) => row).filter((row) => {
      const isMatch = match === "all" ? tests.every((test) => test(row)) : tests.some((test) => test(row));
      return isMatch === (type === "include");
    });
    return pick(frame, rows);
  });

const STEPS: Record<string, Step> = {
  organize, merge, groupBy, filterFieldsByName, labelsToFields, calculateField, sortBy, reduce, renameByRegex,
  seriesToRows, filterByValue,
  joinByField: (frames, { byField, mode = "outer" }) => joined(frames, byField, mode),
  limit: (frames, { limitField = 10 }) =>
    frames.map((frame) => pick(frame, Array.from({ length: Math.min(lengthOf(frame), Number(limitField)) }, (_, row) => row))),
  // Frames of queries have this form already.
  prepareTimeSeries: (frames) => frames,
};
