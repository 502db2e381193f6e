"""Duration expressions, as in `foo[5m * 2] offset (1h - 10m)`, computed to milliseconds."""

import math
from collections.abc import Callable, Mapping

from promcompat.core.errors import BadDataError
from promql.ast import DurationExpr, NumberLiteral, PositionRange
from promql.numbers.float_arithmetic import ARITHMETIC

_MAX_SECONDS = (1 << 63) / 1e9
"""Prometheus stores durations as int64 nanoseconds."""

_FOLDS: Mapping[str, Callable[[float, float], float]] = {"min": min, "max": max}


class DurationError(BadDataError):
    """A computed duration that is invalid; `pos` is its position in the query."""

    def __init__(self, reason: str, pos: PositionRange) -> None:
        super().__init__(f"{pos.start}:{pos.end}: {reason}")
        self.reason = reason
        self.pos = pos

    def in_bytes(self, query: str) -> "DurationError":
        """The same error with byte offsets into the UTF-8 of the query, as in Prometheus."""
        start, end = (
            len(query[:offset].encode(errors="surrogatepass"))
            for offset in (self.pos.start, self.pos.end)
        )
        return DurationError(self.reason, PositionRange(start, end))


def duration_ms(expr: DurationExpr, step_ms: int, allow_negative: bool = False) -> int:
    """The milliseconds of `expr`; `step_ms` is the value of `step()`.

    Raises DurationError with Prometheus' text for a division by zero, a duration that is not
    positive where it has to be, or one out of range.
    """
    seconds = _seconds(expr, step_ms)
    if seconds <= 0 and not allow_negative:
        raise _error(expr, "duration must be greater than 0")
    # Negated so that NaN is refused too.
    if not abs(seconds) <= _MAX_SECONDS:
        raise _error(expr, "duration is out of range")
    return int(seconds * 1000)


def _seconds(expr: DurationExpr | NumberLiteral | None, step_ms: int) -> float:
    match expr:
        case None:
            return 0.0
        case NumberLiteral():
            return expr.value
        case DurationExpr():
            return _apply(expr, _seconds(expr.lhs, step_ms), _seconds(expr.rhs, step_ms), step_ms)


def _apply(expr: DurationExpr, lhs: float, rhs: float, step_ms: int) -> float:
    if expr.op == "step":
        return step_ms / 1000
    if expr.op in _FOLDS:
        return math.nan if math.isnan(lhs + rhs) else _FOLDS[expr.op](lhs, rhs)
    if rhs == 0 and expr.op in ("/", "%"):
        raise _error(expr, "division by zero" if expr.op == "/" else "modulo by zero")
    return float(ARITHMETIC[expr.op](lhs, rhs))


def _error(expr: DurationExpr, reason: str) -> DurationError:
    return DurationError(reason, expr.pos)
