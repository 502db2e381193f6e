"""Thresholds of a metric definition: the values, and the pure rule that finds breaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels
from promcompat.core.remediation import RemediationSpec


class Direction(StrEnum):
    """On which side of a threshold the trouble is."""

    ABOVE = "above"
    BELOW = "below"


class BreachLevel(IntEnum):
    """How bad a value is."""

    NONE = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class ThresholdOverride:
    """Other limits for the series that carry all of `labels`; the first that fits counts."""

    labels: Labels
    warning: float | None
    critical: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertThreshold:
    """When the values of a metric are a breach. A value equal to a limit is one.

    `for_ms`: how long the breach must last before its alert fires.
    """

    warning: float | None
    critical: float | None
    direction: Direction
    for_ms: int = 0
    overrides: tuple[ThresholdOverride, ...] = ()
    remediation: RemediationSpec | None = None

    def limits_of(self, labels: Labels) -> tuple[float, float]:
        """Warning and critical limit for a series; NaN, which nothing breaches, where unset."""
        warning, critical = self.warning, self.critical
        for override in self.overrides:
            if set(override.labels) <= set(labels):
                warning, critical = override.warning, override.critical
                break
        return _limit(warning), _limit(critical)


def _limit(value: float | None) -> float:
    return float("nan") if value is None else value


def find_breach_levels(
    values: FloatArray, warning: FloatArray, critical: FloatArray, is_above: BoolArray
) -> IntArray:
    """The BreachLevel of each value, int64 [n]; all arrays are of one length.

    NaN breaches nothing, a stale marker included: absence is what `absent()` rules are for.
    """

    def breached(limit: FloatArray) -> BoolArray:
        return np.where(is_above, values >= limit, values <= limit)

    levels = np.where(breached(warning), BreachLevel.WARNING, BreachLevel.NONE)
    return np.where(breached(critical), BreachLevel.CRITICAL, levels).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A change of level of one series, as the outbox carries it: NONE means that it ended."""

    metric_name: str
    labels: Labels
    level: BreachLevel
    value: float
    timestamp_ms: int


Breaches = Sequence[Breach]
