/** The comparisons of an alert expression: what is compared with what. */
import { parser } from "@prometheus-io/lezer-promql";
import type { SyntaxNode } from "@lezer/common";

export interface Condition {
  /** The expression whose values are plotted. */
  text: string;
  /** The comparison, such as `>`; "" for an expression that is not compared. */
  operator: string;
  /** What it is compared with, as PromQL; null without an operator. */
  limit: string | null;
  /** Whether `limit` has no series, so that it is one line. */
  isConstant: boolean;
}

const COMPARISONS: Record<string, string> = {
  Gtr: ">",
  Gte: ">=",
  Lss: "<",
  Lte: "<=",
  Eql: "==",
  EqlC: "==",
  Neq: "!=",
};
const MIRRORED: Record<string, string> = { ">": "<", ">=": "<=", "<": ">", "<=": ">=" };
const SETS = new Set(["And", "Or", "Unless"]);
const SOURCES = new Set(["VectorSelector", "FunctionCall", "AggregateExpr", "SubqueryExpr"]);
const MOST = 4;

/** The comparisons that `and`, `or` and `unless` join; the whole text if it compares nothing. */
export function conditionsOf(text: string): Condition[] {
  const root = parser.parse(text).topNode.firstChild;
  const found = root ? conditionsIn(root, text) : [];
  return found.length ? found.slice(0, MOST) : [plain(text)];
}

function plain(text: string): Condition {
  return { text, operator: "", limit: null, isConstant: false };
}

function conditionsIn(node: SyntaxNode, text: string): Condition[] {
  const inner = node.name === "ParenExpr" ? node.firstChild : null;
  if (inner) return conditionsIn(inner, text);
  const slice = ({ from, to }: SyntaxNode) => text.slice(from, to);
  if (node.name !== "BinaryExpr") return [plain(slice(node))];
  const [left, right] = [node.firstChild, node.lastChild];
  const name = left?.nextSibling?.name ?? "";
  if (!left || !right) return [plain(slice(node))];
  if (SETS.has(name)) return [...conditionsIn(left, text), ...conditionsIn(right, text)];
  const operator = COMPARISONS[name];
  if (!operator) return [plain(slice(node))];
  if (!hasSeries(left)) {
    const mirrored = MIRRORED[operator] ?? operator;
    return [{ text: slice(right), operator: mirrored, limit: slice(left), isConstant: true }];
  }
  return [{ text: slice(left), operator, limit: slice(right), isConstant: !hasSeries(right) }];
}

function hasSeries(node: SyntaxNode): boolean {
  if (SOURCES.has(node.name)) return true;
  for (let child = node.firstChild; child; child = child.nextSibling) {
    if (hasSeries(child)) return true;
  }
  return false;
}

/** The instant vector selectors of an expression, each once, without their offsets. */
export function selectorsOf(text: string): string[] {
  const found = new Set<string>();
  parser.parse(text).iterate({
    enter: ({ name, from, to }) => {
      if (name === "VectorSelector") found.add(text.slice(from, to));
    },
  });
  return [...found];
}
