"""The rules of `grammar.lark` for selectors, their modifiers and durations."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.core.texts.strconv import format_f, to_unicode
from promql.ast import (
    NO_MODIFIERS,
    AtPreprocessor,
    DurationExpr,
    Extension,
    MatrixSelector,
    NumberLiteral,
    PositionRange,
    SubqueryExpr,
    TimeModifiers,
    ValueType,
    VectorSelector,
)
from promql.parsing.lexer import Token
from promql.parsing.literals import parse_number, seconds_to_ms, unquote
from promql.parsing.parse_errors import PositionedError
from promql.parsing.partial_nodes import Duration, Matchers, Operand, depth_above, span

_MAX_DURATION_SECONDS = (1 << 63) / 1e9
_MAX_TIMESTAMP = float(1 << 63)
_LEAST_INT64 = -(1 << 63)


class NumberRules:
    """Numbers and durations written as literals."""

    def number(self, token: Token) -> NumberLiteral:
        try:
            value = parse_number(token.text)
        except ValueError as exc:
            raise PositionedError(token.start, str(exc)) from exc
        return NumberLiteral(value, False, span(token, token))

    def duration_literal(self, token: Token) -> NumberLiteral:
        try:
            duration_ms = parse_duration_ms(token.text)
        except ValueError as exc:
            raise PositionedError(token.start, str(exc)) from exc
        seconds, milliseconds = divmod(duration_ms, 1000)
        # Go's `Duration.Seconds` adds them in the same way.
        return NumberLiteral(seconds + milliseconds / 1000, True, span(token, token))

    def signed_number(self, sign: Token, number: NumberLiteral) -> NumberLiteral:
        value = -number.value if sign.type == "SUB" else number.value
        return replace(number, value=value, pos=PositionRange(sign.start, number.pos.end))


class DurationRules(NumberRules):
    """Arithmetic on durations, in brackets and after `offset`."""

    def duration_number(self, number: NumberLiteral) -> Duration:
        return _duration_of(number, number.pos.start)

    def signed_duration_number(self, sign: Token, number: NumberLiteral) -> Duration:
        return _duration_of(self.signed_number(sign, number), sign.start)

    def duration_sign(self, sign: Token, duration: Duration) -> Duration:
        expr = duration.expr
        if isinstance(expr, NumberLiteral):
            return duration._replace(expr=self.signed_number(sign, expr))
        if sign.type == "ADD":
            return duration
        depth = depth_above(sign.start, duration.depth)
        pos = PositionRange(sign.start, expr.pos.end)
        return Duration(DurationExpr("-", None, expr, False, pos), duration.end, depth)

    def duration_binary(self, lhs: Duration, operator: Token, rhs: Duration) -> Duration:
        if isinstance(rhs.expr, NumberLiteral) and rhs.expr.value == 0:
            if operator.type == "DIV":
                raise PositionedError(operator.start, "division by zero")
            if operator.type == "MOD":
                raise PositionedError(operator.start, "modulo by zero")
        pos = PositionRange(lhs.expr.pos.start, rhs.expr.pos.end)
        expr = DurationExpr(operator.text, lhs.expr, rhs.expr, False, pos)
        return Duration(expr, rhs.end, depth_above(pos.start, lhs.depth, rhs.depth))

    def duration_paren(self, _left: Token, duration: Duration, right: Token) -> Duration:
        if isinstance(duration.expr, DurationExpr):
            duration = duration._replace(expr=replace(duration.expr, wrapped=True))
        return duration._replace(end=right.end)

    def duration_of_query(self, name: Token, _left: Token, right: Token) -> Duration:
        expr = DurationExpr(name.text.lower(), None, None, False, span(name, right))
        return Duration(expr, right.end, 1)

    def duration_choice(
        self,
        name: Token,
        _left: Token,
        lhs: Duration,
        _comma: Token,
        rhs: Duration,
        right: Token,
    ) -> Duration:
        # Errors name the operands only, as in Prometheus.
        pos = PositionRange(lhs.expr.pos.start, rhs.expr.pos.end)
        expr = DurationExpr(name.text.lower(), lhs.expr, rhs.expr, False, pos)
        return Duration(expr, right.end, depth_above(name.start, lhs.depth, rhs.depth))

    def positive_duration(self, duration: Duration) -> Duration:
        expr = duration.expr
        if isinstance(expr, NumberLiteral) and expr.value <= 0:
            raise PositionedError(expr.pos.start, "duration must be greater than 0")
        return duration


def _duration_of(number: NumberLiteral, start: int) -> Duration:
    # Negated so that NaN is refused too, which Prometheus converts to minus 292 years.
    if not abs(number.value) <= _MAX_DURATION_SECONDS:
        raise PositionedError(start, "duration out of range")
    return Duration(number, number.pos.end, 1)


def _static_or_expr(duration: Duration) -> tuple[int, DurationExpr | None]:
    """The milliseconds of a literal duration, or 0 and the expression that computes it."""
    if isinstance(duration.expr, DurationExpr):
        return 0, duration.expr
    return seconds_to_ms(duration.expr.value), None


def _has_nanoseconds(duration: Duration) -> bool:
    """Whether a literal duration is not 0 to Prometheus, which keeps nanoseconds."""
    return isinstance(duration.expr, NumberLiteral) and abs(duration.expr.value) * 1e9 >= 0.5


class MatcherRules:
    """Label matchers and the vector selectors made of them."""

    def matcher(self, name: Token, operator: Token, value: Token) -> LabelMatcher:
        return _label_matcher(name.text, name.start, operator, value)

    def quoted_matcher(self, name: Token, operator: Token, value: Token) -> LabelMatcher:
        return _label_matcher(_label_value(name), name.start, operator, value)

    def name_matcher(self, name: Token) -> LabelMatcher:
        return LabelMatcher(METRIC_NAME, MatchOp.EQUAL, _label_value(name))

    def matchers(self, left: Token, items: list[LabelMatcher], *rest: Token) -> Matchers:
        return Matchers(tuple(items), span(left, rest[-1]))

    def no_matchers(self, left: Token, right: Token) -> Matchers:
        return Matchers((), span(left, right))

    def selector_of_name(self, name: Token) -> Operand:
        return _named_selector(name, (), name.end)

    def selector_of_matchers(self, matchers: Matchers) -> Operand:
        selector = VectorSelector("", matchers.matchers, NO_MODIFIERS, matchers.pos)
        return Operand(selector, ValueType.VECTOR)

    def selector_of_name_and_matchers(self, name: Token, matchers: Matchers) -> Operand:
        return _named_selector(name, matchers.matchers, matchers.pos.end)


def _label_value(token: Token) -> str:
    # Stored labels are UTF-8, so invalid bytes match nothing and may all become U+FFFD.
    return to_unicode(unquote(token.text))


def _label_matcher(name: str, start: int, operator: Token, value: Token) -> LabelMatcher:
    matcher = LabelMatcher(name, MatchOp(operator.text), _label_value(value))
    try:
        matcher.check_pattern()
    except BadDataError as exc:
        raise PositionedError(start, str(exc)) from exc
    return matcher


def _named_selector(name: Token, matchers: tuple[LabelMatcher, ...], end: int) -> Operand:
    by_name = LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name.text)
    pos = PositionRange(name.start, end)
    selector = VectorSelector(name.text, (*matchers, by_name), NO_MODIFIERS, pos)
    return Operand(selector, ValueType.VECTOR)


class RangeRules:
    """Ranges, subqueries, `offset` and `@`."""

    def matrix_selector(
        self, operand: Operand, left: Token, duration: Duration, right: Token
    ) -> Operand:
        selector = operand.expr
        if not isinstance(selector, VectorSelector):
            raise PositionedError(left.start, "ranges only allowed for vector selectors")
        if selector.modifiers.has_offset:
            raise PositionedError(left.start, "no offset modifiers allowed before range")
        if selector.modifiers.timestamp_ms is not None or selector.modifiers.at is not None:
            raise PositionedError(left.start, "no @ modifiers allowed before range")
        range_ms, range_expr = _static_or_expr(duration)
        pos = PositionRange(selector.pos.start, right.end)
        matrix = MatrixSelector(selector, range_ms, range_expr, pos)
        return Operand(matrix, ValueType.MATRIX)

    def subquery(
        self, operand: Operand, _left: Token, duration: Duration, _colon: Token, right: Token
    ) -> Operand:
        return _subquery(operand, duration, None, right)

    def subquery_with_step(
        self,
        operand: Operand,
        _left: Token,
        duration: Duration,
        _colon: Token,
        step: Duration,
        right: Token,
    ) -> Operand:
        return _subquery(operand, duration, step, right)

    def offset(self, operand: Operand, _keyword: Token, duration: Duration) -> Operand:
        offset_ms, offset_expr = _static_or_expr(duration)
        has_offset = offset_expr is not None or _has_nanoseconds(duration)

        def with_offset(modifiers: TimeModifiers) -> TimeModifiers:
            if modifiers.has_offset:
                reason = "offset may not be set multiple times"
                raise PositionedError(operand.expr.pos.start, reason)
            return replace(
                modifiers, offset_ms=offset_ms, offset_expr=offset_expr, has_offset=has_offset
            )

        return _modified(operand, with_offset, "offset modifier", duration.end)

    def extended(self, operand: Operand, keyword: Token) -> Operand:
        return _extended(operand, cast(Extension, keyword.text.lower()))

    def at_time(self, operand: Operand, _at: Token, time: NumberLiteral) -> Operand:
        seconds = time.value
        # Negated so that NaN is refused too.
        if not -_MAX_TIMESTAMP < seconds < _MAX_TIMESTAMP:
            reason = f"timestamp out of bounds for @ modifier: {format_f(seconds)}"
            raise PositionedError(operand.expr.pos.start, reason)
        timestamp_ms = math.floor(abs(seconds * 1000) + 0.5)
        timestamp_ms = -timestamp_ms if seconds < 0 else timestamp_ms
        if not _LEAST_INT64 <= timestamp_ms <= -_LEAST_INT64 - 1:
            # Go's conversion on amd64 of a float that does not fit int64.
            timestamp_ms = _LEAST_INT64
        return _at_modified(
            operand,
            lambda modifiers: replace(modifiers, timestamp_ms=timestamp_ms),
            time.pos.end,
        )

    def at_preprocessor(
        self, operand: Operand, _at: Token, name: Token, _left: Token, right: Token
    ) -> Operand:
        at = cast(AtPreprocessor, name.text.lower())
        return _at_modified(operand, lambda modifiers: replace(modifiers, at=at), right.end)


def _extended(operand: Operand, extension: Extension) -> Operand:
    expr = operand.expr
    match expr:
        case VectorSelector():
            return operand._replace(expr=_extended_selector(expr, extension, expr.pos))
        case MatrixSelector():
            selector = _extended_selector(expr.vector_selector, extension, expr.pos)
            return operand._replace(expr=replace(expr, vector_selector=selector))
        case SubqueryExpr():
            reason = f"{extension} modifier is not supported for subqueries"
        case _:
            reason = f"{extension} modifier not implemented"
    raise PositionedError(expr.pos.start, reason)


def _extended_selector(
    selector: VectorSelector, extension: Extension, pos: PositionRange
) -> VectorSelector:
    if selector.extension not in ("", extension):
        reason = "anchored and smoothed modifiers cannot be used together"
        raise PositionedError(pos.start, reason)
    return replace(selector, extension=extension)


def _subquery(operand: Operand, duration: Duration, step: Duration | None, right: Token) -> Operand:
    range_ms, range_expr = _static_or_expr(duration)
    step_ms, step_expr = (0, None) if step is None else _static_or_expr(step)
    pos = PositionRange(operand.expr.pos.start, right.end)
    subquery = SubqueryExpr(
        operand.expr, range_ms, step_ms, range_expr, step_expr, NO_MODIFIERS, pos
    )
    return Operand(subquery, ValueType.MATRIX)


Change = Callable[[TimeModifiers], TimeModifiers]


def _modified(operand: Operand, change: Change, what: str, end: int) -> Operand:
    expr = operand.expr
    pos = PositionRange(expr.pos.start, end)
    match expr:
        case VectorSelector() | SubqueryExpr():
            modifiers = change(expr.modifiers)
            return operand._replace(expr=replace(expr, modifiers=modifiers, pos=pos))
        case MatrixSelector():
            selector = expr.vector_selector
            selector = replace(selector, modifiers=change(selector.modifiers))
            return operand._replace(expr=replace(expr, vector_selector=selector, pos=pos))
        case _:
            reason = (
                f"{what} must be preceded by an instant vector selector or range vector selector"
                " or a subquery"
            )
            raise PositionedError(pos.start, reason)


def _at_modified(operand: Operand, change: Change, end: int) -> Operand:
    def with_time(modifiers: TimeModifiers) -> TimeModifiers:
        if modifiers.timestamp_ms is not None or modifiers.at is not None:
            reason = "@ <timestamp> may not be set multiple times"
            raise PositionedError(operand.expr.pos.start, reason)
        return change(modifiers)

    return _modified(operand, with_time, "@ modifier", end)
