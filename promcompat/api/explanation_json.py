"""The explanation of a query as JSON: times in seconds, unknown values as null."""

from typing import Final

from promcompat.core.explanations import SelectionExplanation
from promcompat.core.model import SeriesSelection
from promcompat.querying.query_service import QueryExplanation
from promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
    children,
    walk,
)
from promql.parsing.printer import OneLine
from promql.planning.plan import Plan

Json = dict[str, object]

_TYPE_NAMES: Final[dict[type[Expr], str]] = {
    NumberLiteral: "numberLiteral",
    StringLiteral: "stringLiteral",
    ParenExpr: "parenExpr",
    UnaryExpr: "unaryExpr",
    VectorSelector: "vectorSelector",
    MatrixSelector: "matrixSelector",
    SubqueryExpr: "subquery",
    AggregateExpr: "aggregation",
    BinaryExpr: "binaryExpr",
    Call: "call",
}
"""The names that `parse_query` uses."""

MAX_TREE_DEPTH: Final = 100
"""Nobody reads deeper trees, and many JSON parsers refuse them."""
MAX_TEXT_CHARS: Final = 2_000
"""The text of a node is cut here; the text of the whole query is in the document once."""


def explanation_json(explanation: QueryExplanation) -> Json:
    """`stages` is null unless the query was run."""
    plan = explanation.plan
    stages = explanation.stages_seconds
    return {
        "query": explanation.text,
        "formatted": explanation.formatted,
        "tree": _node_json(plan.expr, plan, OneLine(plan.expr)),
        "result_type": plan.result_type.value,
        "steps": plan.eval_range.n_steps,
        "leaves": [
            _leaf_json(selection, leaf)
            for selection, leaf in zip(plan.selections, explanation.leaves, strict=True)
        ],
        "stages": None if stages is None else dict(stages),
    }


def _node_json(expr: Expr, plan: Plan, line: OneLine, depth: int = 1) -> Json:
    text = line.text_of(expr, MAX_TEXT_CHARS + 1)
    if len(text) > MAX_TEXT_CHARS:
        text = f"{text[:MAX_TEXT_CHARS]}…"
    node: Json = {"type": _TYPE_NAMES[type(expr)], "text": text}
    if isinstance(expr, VectorSelector) and expr in plan.leaf_of:
        node["leaf"] = plan.leaf_of[expr]
    elif expr in plan.step_invariant:
        node["step_invariant"] = True
    parts = children(expr)
    if parts and depth == MAX_TREE_DEPTH:
        return {**node, "children": [], "omitted": sum(1 for _ in walk(expr)) - 1}
    return {**node, "children": [_node_json(part, plan, line, depth + 1) for part in parts]}


def _leaf_json(selection: SeriesSelection, leaf: SelectionExplanation) -> Json:
    measured = leaf.measured
    return {
        "matchers": [
            {"name": matcher.name, "type": matcher.op.value, "value": matcher.value}
            for matcher in selection.matchers
        ],
        "start": selection.start_ms / 1000,
        "end": selection.end_ms / 1000,
        "series": leaf.n_series,
        "rules": [
            {"rule": outcome.rule, "applies": outcome.applies, "reason": outcome.reason}
            for outcome in leaf.rules
        ],
        "sql": leaf.sql,
        "parameters": list(leaf.parameters),
        "estimated_rows": None if leaf.estimated_rows is None else round(leaf.estimated_rows),
        "actual_rows": None if measured is None else measured.rows,
        "seconds": None if measured is None else measured.seconds,
        "database_plan": leaf.database_plan or None,
    }
