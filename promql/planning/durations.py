"""Duration expressions, as in `foo[5m * 2] offset (1h - 10m)`, computed to milliseconds."""

import math
from typing import Any

import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.model import EvalRange
from promql.ast import DurationExpr, NumberLiteral, PositionRange
from promql.numbers.float_arithmetic import ARITHMETIC, CHOICES

_MAX_SECONDS = (1 << 63) / 1e9
"""Prometheus stores durations as int64 nanoseconds."""


class DurationError(BadDataError):
    """A computed duration that is invalid; `pos` is its position in the query."""

    def __init__(self, reason: str, pos: PositionRange) -> None:
        super().__init__(f"{pos.start}:{pos.end}: {reason}")
        self.reason = reason
        self.pos = pos

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process."""
        return type(self), (self.reason, self.pos)

    def in_bytes(self, query: str) -> "DurationError":
        """The same error with byte offsets into the UTF-8 of the query, as in Prometheus."""
        start, end = (
            len(query[:offset].encode(errors="surrogatepass"))
            for offset in (self.pos.start, self.pos.end)
        )
        return DurationError(self.reason, PositionRange(start, end))


def duration_ms(expr: DurationExpr, query: EvalRange, allow_negative: bool = False) -> int:
    """The milliseconds of `expr`, whose `step()` and `range()` are those of `query`.

    Raises DurationError with Prometheus' text for a division by zero, a duration that is not
    positive where it has to be, or one out of range.
    """
    seconds = _seconds(expr, query)
    if not math.isfinite(seconds):
        raise _error(expr, "duration is NaN or infinite")
    if seconds <= 0 and not allow_negative:
        raise _error(expr, "duration must be greater than 0")
    if abs(seconds) > _MAX_SECONDS:
        raise _error(expr, "duration is out of range")
    return int(seconds * 1000)


def _seconds(expr: DurationExpr | NumberLiteral | None, query: EvalRange) -> float:
    match expr:
        case None:
            return 0.0
        case NumberLiteral():
            return expr.value
        case DurationExpr(op="step"):
            return query.step_ms / 1000
        case DurationExpr(op="range"):
            return (query.end_ms - query.start_ms) / 1000
        case DurationExpr():
            return _apply(expr, _seconds(expr.lhs, query), _seconds(expr.rhs, query))


def _apply(expr: DurationExpr, lhs: float, rhs: float) -> float:
    if expr.op in CHOICES:
        return float(CHOICES[expr.op](np.array(lhs), np.array(rhs)))
    if rhs == 0 and expr.op in ("/", "%"):
        raise _error(expr, "division by zero" if expr.op == "/" else "modulo by zero")
    return float(ARITHMETIC[expr.op](lhs, rhs))


def _error(expr: DurationExpr, reason: str) -> DurationError:
    return DurationError(reason, expr.pos)
