/** Places in an expression that the service says something about. */
import { ApiError } from "../../api/transport";

export interface Finding {
  /** From 1 on. */
  line: number;
  column: number;
  text: string;
  severity: "error" | "warning" | "info";
}

/** Where an error of a query is: Prometheus writes `1:5: parse error: …`, or a place in brackets. */
export function findingOfError(error: Error | undefined): Finding[] {
  if (!(error instanceof ApiError)) return [];
  const found = /(?:^|: )(\d+):(\d+): (.*)$/s.exec(error.message);
  return found ? [finding(found[1], found[2], found[3] ?? "", "error")] : [];
}

/** Where warnings and infos of an answer are: they end with `(1:5)`. */
export function findingsOfNotices(warnings: readonly string[], infos: readonly string[]): Finding[] {
  const read = (texts: readonly string[], severity: "warning" | "info") =>
    texts.flatMap((text) => {
      const found = /\((\d+):(\d+)\)$/.exec(text);
      return found ? [finding(found[1], found[2], text, severity)] : [];
    });
  return [...read(warnings, "warning"), ...read(infos, "info")];
}

function finding(
  line: string | undefined,
  column: string | undefined,
  text: string,
  severity: Finding["severity"],
): Finding {
  return { line: Number(line), column: Number(column), text, severity };
}
