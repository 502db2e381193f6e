/** SQL for what a selection reads, by the functions and views of docs/sql.md. */
import type { ExplainLeaf } from "../../api/prometheus";

type Matcher = ExplainLeaf["matchers"][number];

/** A statement with the samples of a leaf: the same series and the same times. */
export function sqlOf({ matchers, start, end }: ExplainLeaf): string {
  const name = matchers.find((matcher) => matcher.name === "__name__" && matcher.type === "=");
  const others = matchers.filter((matcher) => matcher !== name);
  const contained = others.filter(({ type, value }) => type === "=" && value !== "");
  const conditions = others.filter((matcher) => !contained.includes(matcher)).map(condition);
  // The selection is after `start` up to `end`; SQL's is from the first time on and before the second.
  const [low, high] = [start, end].map((seconds) => literalTime(seconds + 0.001));
  const labels = JSON.stringify(Object.fromEntries(contained.map((matcher) => [matcher.name, matcher.value])));
  if (name) {
    const from = `samples(${literal(name.value)}, ${low}, ${high}, ${literal(labels)})`;
    const where = conditions.length ? `\nWHERE ${conditions.join("\n    AND ")}` : "";
    return `SELECT timestamp, labels, value\nFROM ${from}${where}\nORDER BY labels, timestamp;`;
  }
  const all = [
    `timestamp >= ${low}`,
    `timestamp < ${high}`,
    ...(contained.length ? [`labels @> ${literal(labels)}`] : []),
    ...conditions,
  ];
  return `SELECT timestamp, name, labels, value\nFROM metrics\nWHERE ${all.join("\n    AND ")}\nORDER BY name, labels, timestamp;`;
}

function condition({ name, type, value }: Matcher): string {
  // A label that a series does not have is empty, as in PromQL.
  const label = name === "__name__" ? "name" : `coalesce(labels ->> ${literal(name)}, '')`;
  switch (type) {
    case "=":
      return `${label} = ${literal(value)}`;
    case "!=":
      return `${label} <> ${literal(value)}`;
    case "=~":
      return `${label} ~ ${literal(`^(?:${value})$`)}`;
    case "!~":
      return `${label} !~ ${literal(`^(?:${value})$`)}`;
  }
}

function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\\") ? `E${quoted.replaceAll("\\", "\\\\")}` : quoted;
}

function literalTime(seconds: number): string {
  return `'${new Date(Math.round(seconds * 1000)).toISOString()}'`;
}
