"""Syntax tree to PromQL text: on one line as Prometheus' `String()`, or pretty as `Prettify()`.

The text parses to the same tree. Prometheus 3.5 prints some trees wrong: label names in `on` or
`ignoring` that need quotes, `ignoring ()` before `group_left`, labels named `without`, `inf` or
`nan`, milliseconds lost to rounding, parentheses lost in duration expressions. There the text
differs from Prometheus' as little as necessary.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar, assert_never

from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.durations import format_duration_ms
from promcompat.core.texts.strconv import format_decimal
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
from promql.parsing.literals import quote_literal

MAX_LINE_BYTES = 100
"""Longer expressions are split over several lines by `prettify`."""
MAX_PRETTY_CHARS = 64_000_000

PartT = TypeVar("PartT")

_INDENT = "  "
_CALLED = frozenset(("step", "range", "min_of", "max_of"))
"""Operators of durations that are written as calls."""
_BARE_MATCHER_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_BARE_GROUPING_LABEL = re.compile(r"(?!(?i:without|inf|nan)\Z)[a-zA-Z_:][a-zA-Z0-9_:]*")


def print_expr(expr: Expr) -> str:
    """The expression on one line."""
    return OneLine(expr).text


class OneLine:
    """An expression on one line; each part of it is a slice of the text.

    Separate texts of all parts would take memory quadratic in the length of a chain of operators.
    """

    def __init__(self, expr: Expr) -> None:
        pieces: list[str] = []
        self._spans: dict[int, tuple[int, int]] = {}
        end = 0
        starts: list[int] = []
        # A piece of text, a part to print, or the end of the part that was started last.
        pending: list[str | Expr | _End] = [expr]
        while pending:
            match pending.pop():
                case str() as text:
                    pieces.append(text)
                    end += len(text)
                case _End(part):
                    self._spans[id(part)] = starts.pop(), end
                case part:
                    starts.append(end)
                    pending.append(_End(part))
                    pending.extend(reversed(_parts(part)))
        self.text = "".join(pieces)

    def text_of(self, part: Expr, max_chars: int | None = None) -> str:
        """The text of a part, or at most `max_chars` of its beginning."""
        if id(part) not in self._spans:
            # The selector of a matrix selector: the range is between its name and its modifiers.
            return print_expr(part)[:max_chars]
        start, end = self._spans[id(part)]
        return self.text[start : end if max_chars is None else min(end, start + max_chars)]

    def is_short(self, part: Expr) -> bool:
        """Whether a part fits on a line."""
        # Every character takes at least one byte, so more characters need not be encoded.
        beginning = self.text_of(part, MAX_LINE_BYTES + 1)
        return len(beginning.encode(errors="surrogatepass")) <= MAX_LINE_BYTES


class _End(NamedTuple):
    """The end of a part."""

    part: Expr


def _parts(expr: Expr) -> list[str | Expr]:
    match expr:
        case NumberLiteral():
            return [_number(expr)]
        case StringLiteral():
            return [quote_literal(expr.value)]
        case VectorSelector():
            at, offset = _modifiers(expr.modifiers)
            return [f"{_selector(expr)}{at}{_extension(expr)}{offset}"]
        case MatrixSelector():
            selector = expr.vector_selector
            range_text = _duration(expr.range_ms, expr.range_expr)
            at, offset = _modifiers(selector.modifiers)
            return [f"{_selector(selector)}[{range_text}]{_extension(selector)}{at}{offset}"]
        case BinaryExpr():
            return [expr.lhs, f" {_operator(expr)} ", expr.rhs]
        case SubqueryExpr():
            return [expr.expr, _subquery_suffix(expr)]
        case UnaryExpr():
            return [expr.op, expr.expr]
        case Call() | AggregateExpr() | ParenExpr():
            return [f"{_head(expr)}(", *_separated(children(expr), ", "), ")"]
        case _:
            assert_never(expr)


def _separated(parts: Sequence[PartT], separator: str) -> list[PartT | str]:
    joined: list[PartT | str] = []
    for part in parts:
        joined += (part, separator)
    return joined[:-1]


class _Piece(NamedTuple):
    """A part still to be laid out; with `inline` its first line is not indented."""

    expr: Expr
    level: int
    inline: bool = False


def prettify(expr: Expr, max_chars: int = MAX_PRETTY_CHARS) -> str:
    """The expression on as many lines as keep them short, indented by depth.

    Raises BadDataError if that takes more than `max_chars`: each operator of a chain indents the
    text before it once more, so 20,000 of them would take 800 MB.
    """
    line = OneLine(expr)
    pieces: list[str] = []
    n_chars = 0
    pending: list[_Piece | str] = [_Piece(expr, 0)]
    while pending:
        piece = pending.pop()
        if isinstance(piece, str):
            pieces.append(piece)
            continue
        laid_out = _layout(piece, line)
        n_chars += sum(len(text) for text in laid_out if isinstance(text, str))
        if n_chars > max_chars:
            raise BadDataError(f"formatted query is longer than {max_chars} characters")
        pending.extend(reversed(laid_out))
    return "".join(pieces)


def _layout(piece: _Piece, line: OneLine) -> list[_Piece | str]:
    expr, level, inline = piece
    indent = "" if inline else _INDENT * level
    is_short = line.is_short(expr)
    match expr:
        case UnaryExpr():
            return [indent + expr.op, _Piece(expr.expr, level, inline=True)]
        case SubqueryExpr():
            # Prometheus does not indent a subquery that fits on its line.
            if is_short:
                return [line.text_of(expr)]
            return [_Piece(expr.expr, level, inline), _subquery_suffix(expr)]
        case BinaryExpr() if not is_short:
            operator = f"\n{_INDENT * level}{_operator(expr)}\n"
            return [_Piece(expr.lhs, level + 1, inline), operator, _Piece(expr.rhs, level + 1)]
        case Call() | AggregateExpr() | ParenExpr() if not is_short:
            opening, closing = f"{indent}{_head(expr)}(\n", f"\n{_INDENT * level})"
            arguments = [_Piece(child, level + 1) for child in children(expr)]
            return [opening, *_separated(arguments, ",\n"), closing]
        case _:
            return [indent + line.text_of(expr)]


def _head(expr: Call | AggregateExpr | ParenExpr) -> str:
    match expr:
        case Call():
            return expr.func
        case AggregateExpr():
            return _aggregation(expr)
        case ParenExpr():
            return ""


def _number(number: NumberLiteral) -> str:
    if number.is_duration:
        return format_duration_ms(round(number.value * 1000))
    return format_decimal(number.value)


def _duration(duration_ms: int, expr: DurationExpr | NumberLiteral | None) -> str:
    match expr:
        case None:
            return format_duration_ms(duration_ms)
        case NumberLiteral():
            return _number(expr)
        case DurationExpr():
            text = _duration_expr(expr)
            return f"({text})" if expr.wrapped else text


def _duration_expr(expr: DurationExpr) -> str:
    match expr.op:
        case "step" | "range":
            return f"{expr.op}()"
        case "min_of" | "max_of":
            return f"{expr.op}({_duration(0, expr.lhs)}, {_duration(0, expr.rhs)})"
        case _:
            return f"{_duration_lhs(expr)}{_duration(0, expr.rhs)}"


def _duration_lhs(expr: DurationExpr) -> str:
    if expr.lhs is None:
        return expr.op
    lhs = _duration(0, expr.lhs)
    # The parser drops parentheses around a number, but `(-2) ^ 2` is not `-2 ^ 2`.
    if expr.op == "^" and lhs.startswith("-"):
        lhs = f"({lhs})"
    return f"{lhs} {expr.op} "


def _offset(offset_ms: int, expr: DurationExpr | None) -> str:
    text = _duration(offset_ms, expr)
    # `offset (1m) + 2m` is one offset, `offset 1m + 2m` is a sum.
    is_one = expr is None or text.startswith("(") or _is_term(expr)
    return text if is_one else f"({text})"


def _is_term(expr: DurationExpr) -> bool:
    if expr.lhs is None and isinstance(expr.rhs, DurationExpr):
        return expr.rhs.wrapped or expr.rhs.op in _CALLED
    return expr.op in _CALLED


def _modifiers(modifiers: TimeModifiers) -> tuple[str, str]:
    """The texts of `@` and `offset`."""
    if modifiers is NO_MODIFIERS:
        return "", ""
    at = offset = ""
    if modifiers.timestamp_ms is not None:
        at = f" @ {modifiers.timestamp_ms / 1000:.3f}"
    elif modifiers.at is not None:
        at = f" @ {modifiers.at}()"
    if modifiers.offset_expr is not None or modifiers.offset_ms:
        offset = f" offset {_offset(modifiers.offset_ms, modifiers.offset_expr)}"
    return at, offset


def _subquery_suffix(subquery: SubqueryExpr) -> str:
    range_text = _duration(subquery.range_ms, subquery.range_expr)
    has_step = subquery.step_ms or subquery.step_expr is not None
    step = _duration(subquery.step_ms, subquery.step_expr) if has_step else ""
    at, offset = _modifiers(subquery.modifiers)
    return f"[{range_text}:{step}]{at}{offset}"


def _selector(selector: VectorSelector) -> str:
    matchers = sorted(
        _matcher(matcher) for matcher in selector.matchers if not _is_name(selector, matcher)
    )
    return f"{selector.name}{{{','.join(matchers)}}}" if matchers else selector.name


def _extension(selector: VectorSelector) -> str:
    return f" {selector.extension}" if selector.extension else ""


def _is_name(selector: VectorSelector, matcher: LabelMatcher) -> bool:
    name = selector.name
    return bool(name) and matcher == LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name)


def _matcher(matcher: LabelMatcher) -> str:
    is_bare = _BARE_MATCHER_NAME.fullmatch(matcher.name)
    name = matcher.name if is_bare else quote_literal(matcher.name)
    return f"{name}{matcher.op}{quote_literal(matcher.value)}"


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(
        name if _BARE_GROUPING_LABEL.fullmatch(name) else quote_literal(name) for name in names
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
        return _fill(matching)
    text = f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if is_grouped:
        side = "left" if matching.card is Cardinality.MANY_TO_ONE else "right"
        text += f" group_{side} ({_labels(matching.include)})"
    return text + _fill(matching)


def _fill(matching: VectorMatching) -> str:
    left, right = matching.fill_left, matching.fill_right
    if left is not None and left == right:
        return f" fill ({format_decimal(left)})"
    text = "" if left is None else f" fill_left ({format_decimal(left)})"
    return text if right is None else f"{text} fill_right ({format_decimal(right)})"
