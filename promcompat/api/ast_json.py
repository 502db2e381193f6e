"""The syntax tree as JSON, in the form that the web interface of Prometheus reads.

What Prometheus has added since 3.5 (computed durations, `anchored`, `smoothed`, fill values) is in
the nodes that have it. So the tree of a query that 3.5 accepts is the tree that 3.5 shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from promcompat.api.json_text import dump_json
from promcompat.core.matchers import LabelMatcher
from promcompat.core.texts.strconv import format_decimal
from promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
)
from promql.functions.registry import FUNCTIONS

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Node:
    """The fields of a node, with its child nodes by field name."""

    fields: Json
    parts: Mapping[str, Expr | tuple[Expr, ...]] = field(default_factory=dict)


def expr_json(expr: Expr) -> bytes:
    """An object with the node's `type`; durations are int milliseconds, absent parts are null.

    Encoded piece by piece: JSON encoders refuse objects of more than about 250 levels.
    """
    written: list[bytes] = []
    pending: list[bytes | Expr] = [expr]
    while pending:
        piece = pending.pop()
        if isinstance(piece, bytes):
            written.append(piece)
        else:
            pending.extend(reversed(_pieces(_node_of(piece))))
    return b"".join(written)


def _pieces(node: _Node) -> list[bytes | Expr]:
    pieces: list[bytes | Expr] = [dump_json(node.fields)[:-1]]
    for name, part in node.parts.items():
        pieces.append(f',"{name}":'.encode())
        if isinstance(part, tuple):
            listed = [piece for item in part for piece in (b",", item)]
            pieces += [b"[", *listed[1:], b"]"]
        else:
            pieces.append(part)
    return [*pieces, b"}"]


def _node_of(expr: Expr) -> _Node:
    fields: Json
    match expr:
        case NumberLiteral():
            return _Node({"type": "numberLiteral", "val": format_decimal(expr.value)})
        case StringLiteral():
            return _Node({"type": "stringLiteral", "val": expr.value})
        case ParenExpr():
            return _Node({"type": "parenExpr"}, {"expr": expr.expr})
        case UnaryExpr():
            return _Node({"type": "unaryExpr", "op": expr.op}, {"expr": expr.expr})
        case VectorSelector():
            return _Node({"type": "vectorSelector", **_selector_json(expr)})
        case MatrixSelector():
            fields = {"type": "matrixSelector", **_selector_json(expr.vector_selector)}
            fields |= {"range": expr.range_ms, **_computed("rangeExpr", expr.range_expr)}
            return _Node(fields)
        case SubqueryExpr() | AggregateExpr() | BinaryExpr() | Call():
            return _composite_node(expr)
        case _:
            assert_never(expr)


def _composite_node(expr: SubqueryExpr | AggregateExpr | BinaryExpr | Call) -> _Node:
    fields: Json
    match expr:
        case SubqueryExpr():
            fields = {"type": "subquery", "range": expr.range_ms, "step": expr.step_ms}
            fields |= _computed("rangeExpr", expr.range_expr)
            fields |= _computed("stepExpr", expr.step_expr)
            return _Node({**fields, **_modifiers_json(expr.modifiers)}, {"expr": expr.expr})
        case AggregateExpr():
            fields = {"type": "aggregation", "op": expr.op}
            fields |= {"grouping": list(expr.grouping), "without": expr.without}
            if expr.param is None:
                return _Node({**fields, "param": None}, {"expr": expr.expr})
            return _Node(fields, {"expr": expr.expr, "param": expr.param})
        case BinaryExpr():
            matching = None if expr.matching is None else _matching_json(expr.matching)
            fields = {"type": "binaryExpr", "op": expr.op}
            fields |= {"matching": matching, "bool": expr.return_bool}
            return _Node(fields, {"lhs": expr.lhs, "rhs": expr.rhs})
        case Call():
            return _Node({"type": "call", "func": _function_json(expr.func)}, {"args": expr.args})
        case _:
            assert_never(expr)


def _selector_json(selector: VectorSelector) -> Json:
    fields: Json = {
        "name": selector.name,
        "matchers": _matchers_json(selector.matchers),
        **_modifiers_json(selector.modifiers),
    }
    return fields | {selector.extension: True} if selector.extension else fields


def _modifiers_json(modifiers: TimeModifiers) -> Json:
    return {
        "offset": modifiers.offset_ms,
        "timestamp": modifiers.timestamp_ms,
        "startOrEnd": modifiers.at,
        **_computed("offsetExpr", modifiers.offset_expr),
    }


def _computed(name: str, duration: DurationExpr | None) -> Json:
    """A field for a duration that is computed; none for one that is written out."""
    return {} if duration is None else {name: _duration_json(duration)}


def _duration_json(duration: DurationExpr | NumberLiteral | None) -> Json | None:
    match duration:
        case None:
            return None
        case NumberLiteral():
            value = format_decimal(duration.value)
            return {"type": "numberLiteral", "val": value, "duration": duration.is_duration}
        case DurationExpr():
            return {
                "type": "durationExpr",
                "op": duration.op,
                "lhs": _duration_json(duration.lhs),
                "rhs": _duration_json(duration.rhs),
                "wrapped": duration.wrapped,
            }


def _matchers_json(matchers: Sequence[LabelMatcher]) -> list[Json]:
    return [
        {"name": matcher.name, "value": matcher.value, "type": matcher.op.value}
        for matcher in matchers
    ]


def _matching_json(matching: VectorMatching) -> Json:
    fills: Json = {"fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right}}
    return {
        "card": matching.card.value,
        "labels": list(matching.labels),
        "on": matching.on,
        "include": list(matching.include),
        **(fills if matching.fills else {}),
    }


def _function_json(name: str) -> Json:
    function = FUNCTIONS[name]
    return {
        "name": name,
        "argTypes": [kind.value for kind in function.arg_types],
        "variadic": function.variadic,
        "returnType": function.return_type.value,
    }
