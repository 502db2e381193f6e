"""The syntax tree as JSON, in the shape the web interface of Prometheus 3.5 reads."""

from collections.abc import Sequence
from typing import assert_never

from promcompat.api.float_format import format_scalar_value
from promcompat.core.matchers import LabelMatcher
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
    TimeModifiers,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
)
from promql.parsing.signatures import FUNCTIONS

Json = dict[str, object]


def expr_json(expr: Expr) -> Json:
    """An object with the node's `type`; durations are int milliseconds, absent parts are null."""
    match expr:
        case NumberLiteral():
            return {"type": "numberLiteral", "val": format_scalar_value(expr.value)}
        case StringLiteral():
            return {"type": "stringLiteral", "val": expr.value}
        case ParenExpr():
            return {"type": "parenExpr", "expr": expr_json(expr.expr)}
        case UnaryExpr():
            return {"type": "unaryExpr", "op": expr.op, "expr": expr_json(expr.expr)}
        case VectorSelector():
            return {"type": "vectorSelector", **_selector_json(expr)}
        case MatrixSelector():
            selector = _selector_json(expr.vector_selector)
            return {"type": "matrixSelector", **selector, "range": expr.range_ms}
        case SubqueryExpr() | AggregateExpr() | BinaryExpr() | Call():
            return _composite_json(expr)
        case _:
            assert_never(expr)


def _composite_json(expr: SubqueryExpr | AggregateExpr | BinaryExpr | Call) -> Json:
    match expr:
        case SubqueryExpr():
            return {
                "type": "subquery",
                "expr": expr_json(expr.expr),
                "range": expr.range_ms,
                "step": expr.step_ms,
                **_modifiers_json(expr.modifiers),
            }
        case AggregateExpr():
            return {
                "type": "aggregation",
                "op": expr.op,
                "expr": expr_json(expr.expr),
                "param": None if expr.param is None else expr_json(expr.param),
                "grouping": list(expr.grouping),
                "without": expr.without,
            }
        case BinaryExpr():
            return {
                "type": "binaryExpr",
                "op": expr.op,
                "lhs": expr_json(expr.lhs),
                "rhs": expr_json(expr.rhs),
                "matching": None if expr.matching is None else _matching_json(expr.matching),
                "bool": expr.return_bool,
            }
        case Call():
            return {
                "type": "call",
                "func": _function_json(expr.func),
                "args": [expr_json(argument) for argument in expr.args],
            }
        case _:
            assert_never(expr)


def _selector_json(selector: VectorSelector) -> Json:
    return {
        "name": selector.name,
        "matchers": _matchers_json(selector.matchers),
        **_modifiers_json(selector.modifiers),
    }


def _modifiers_json(modifiers: TimeModifiers) -> Json:
    return {
        "offset": modifiers.offset_ms,
        "timestamp": modifiers.timestamp_ms,
        "startOrEnd": modifiers.at,
    }


def _matchers_json(matchers: Sequence[LabelMatcher]) -> list[Json]:
    return [
        {"name": matcher.name, "value": matcher.value, "type": matcher.op.value}
        for matcher in matchers
    ]


def _matching_json(matching: VectorMatching) -> Json:
    return {
        "card": matching.card.value,
        "labels": list(matching.labels),
        "on": matching.on,
        "include": list(matching.include),
    }


def _function_json(name: str) -> Json:
    function = FUNCTIONS[name]
    return {
        "name": name,
        "argTypes": [kind.value for kind in function.arg_types],
        "variadic": function.variadic,
        "returnType": function.return_type.value,
    }
