"""Syntax tree to PromQL text: on one line as Prometheus' `String()`, or pretty as `Prettify()`.

What is printed parses to the same tree, matchers sorted. Prometheus 3.5 fails that in a few places
(label names in `on`/`ignoring` that need quotes, `ignoring ()` before `group_left`, label names
that are no bare words, milliseconds lost to rounding); there the text of later releases is
followed, or the one that reads back.
"""

import re
from typing import assert_never

from promcompat.core.durations import format_duration_ms
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME
from promql.ast import (
    NO_MODIFIERS,
    AggregateExpr,
    BinaryExpr,
    Call,
    Cardinality,
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
    children,
)
from promql.literals import format_number, quote

MAX_LINE_BYTES = 100
"""Prettified expressions longer than this are split over lines."""

_INDENT = "  "
_BARE_MATCHER_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_BARE_GROUPING_LABEL = re.compile(r"(?!(?i:without|inf|nan)\Z)[a-zA-Z_:][a-zA-Z0-9_:]*")


def print_expr(expr: Expr) -> str:
    """The expression on one line."""
    match expr:
        case NumberLiteral():
            return _number(expr)
        case StringLiteral():
            return quote(expr.value)
        case VectorSelector():
            return _selector(expr) + _modifiers(expr.modifiers)
        case MatrixSelector():
            selector = expr.vector_selector
            range_text = _duration(expr.range_ms, expr.range_expr)
            return f"{_selector(selector)}[{range_text}]{_modifiers(selector.modifiers)}"
        case SubqueryExpr():
            return print_expr(expr.expr) + _subquery_suffix(expr)
        case UnaryExpr():
            return expr.op + print_expr(expr.expr)
        case ParenExpr():
            return f"({print_expr(expr.expr)})"
        case Call() | AggregateExpr() | BinaryExpr():
            return _print_composite(expr)
        case _:
            assert_never(expr)


def _print_composite(expr: Call | AggregateExpr | BinaryExpr) -> str:
    match expr:
        case Call():
            return f"{expr.func}({_arguments(expr)})"
        case AggregateExpr():
            return f"{_aggregation(expr)}({_arguments(expr)})"
        case BinaryExpr():
            return f"{print_expr(expr.lhs)} {_operator(expr)} {print_expr(expr.rhs)}"
        case _:
            assert_never(expr)


def _arguments(expr: Call | AggregateExpr) -> str:
    return ", ".join(map(print_expr, children(expr)))


def prettify(expr: Expr) -> str:
    """The expression over as many lines as keep them short, indented by depth."""
    return _pretty(expr, 0)


def _pretty(expr: Expr, level: int) -> str:
    indent = _INDENT * level
    line = print_expr(expr)
    if isinstance(expr, UnaryExpr):
        return indent + expr.op + _pretty(expr.expr, level).strip()
    if isinstance(expr, SubqueryExpr):
        # Prometheus does not indent a subquery that fits on its line.
        split = _pretty(expr.expr, level) + _subquery_suffix(expr)
        return split if _is_too_long(line) else line
    if not _is_too_long(line):
        return indent + line
    return _split(expr, line, level)


def _is_too_long(line: str) -> bool:
    return len(line.encode()) > MAX_LINE_BYTES


def _split(expr: Expr, line: str, level: int) -> str:
    indent = _INDENT * level
    match expr:
        case AggregateExpr():
            return _bracketed(indent + _aggregation(expr), expr, level)
        case Call():
            return _bracketed(indent + expr.func, expr, level)
        case ParenExpr():
            return _bracketed(indent, expr, level)
        case BinaryExpr():
            lhs, rhs = _pretty(expr.lhs, level + 1), _pretty(expr.rhs, level + 1)
            return f"{lhs}\n{indent}{_operator(expr)}\n{rhs}"
        case _:
            return indent + line


def _bracketed(head: str, expr: Expr, level: int) -> str:
    body = ",\n".join(_pretty(part, level + 1) for part in children(expr))
    return f"{head}(\n{body}\n{_INDENT * level})"


def _number(number: NumberLiteral) -> str:
    if number.is_duration:
        return format_duration_ms(round(number.value * 1000))
    return format_number(number.value)


def _duration(duration_ms: int, expr: DurationExpr | NumberLiteral | None) -> str:
    match expr:
        case None:
            return format_duration_ms(duration_ms)
        case NumberLiteral():
            return _number(expr)
        case DurationExpr():
            lhs = "" if expr.lhs is None else f"{_duration(0, expr.lhs)} "
            text = f"{lhs}{expr.op}{' ' if lhs else ''}{_duration(0, expr.rhs)}"
            return f"({text})" if expr.wrapped else text


def _modifiers(modifiers: TimeModifiers) -> str:
    if modifiers is NO_MODIFIERS:
        return ""
    at = offset = ""
    if modifiers.timestamp_ms is not None:
        at = f" @ {modifiers.timestamp_ms / 1000:.3f}"
    elif modifiers.at is not None:
        at = f" @ {modifiers.at}()"
    if modifiers.offset_expr is not None or modifiers.offset_ms:
        offset = f" offset {_duration(modifiers.offset_ms, modifiers.offset_expr)}"
    return at + offset


def _subquery_suffix(subquery: SubqueryExpr) -> str:
    range_text = _duration(subquery.range_ms, subquery.range_expr)
    has_step = subquery.step_ms or subquery.step_expr is not None
    step = _duration(subquery.step_ms, subquery.step_expr) if has_step else ""
    return f"[{range_text}:{step}]{_modifiers(subquery.modifiers)}"


def _selector(selector: VectorSelector) -> str:
    matchers = sorted(
        _matcher(matcher) for matcher in selector.matchers if not _is_name(selector, matcher)
    )
    return f"{selector.name}{{{','.join(matchers)}}}" if matchers else selector.name


def _is_name(selector: VectorSelector, matcher: LabelMatcher) -> bool:
    name = selector.name
    return bool(name) and matcher == LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name)


def _matcher(matcher: LabelMatcher) -> str:
    is_bare = _BARE_MATCHER_NAME.fullmatch(matcher.name)
    name = matcher.name if is_bare else quote(matcher.name)
    return f"{name}{matcher.op}{quote(matcher.value)}"


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(
        name if _BARE_GROUPING_LABEL.fullmatch(name) else quote(name) for name in names
    )


def _aggregation(expr: AggregateExpr) -> str:
    if expr.without:
        return f"{expr.op} without ({_labels(expr.grouping)}) "
    return f"{expr.op} by ({_labels(expr.grouping)}) " if expr.grouping else expr.op


def _operator(expr: BinaryExpr) -> str:
    text = f"{expr.op} bool" if expr.return_bool else expr.op
    return text if expr.matching is None else text + _matching(expr.matching)


def _matching(matching: VectorMatching) -> str:
    is_grouped = matching.card in (Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY)
    if not (matching.labels or matching.on or is_grouped):
        return ""
    text = f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if is_grouped:
        side = "left" if matching.card is Cardinality.MANY_TO_ONE else "right"
        text += f" group_{side} ({_labels(matching.include)})"
    return text
