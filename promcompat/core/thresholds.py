"""Thresholds of a metric definition: the values, and the pure rule that finds breaches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

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


NO_LIMIT: Final = math.nan
"""A limit that nothing breaches."""


@dataclass(frozen=True, slots=True)
class ThresholdOverride:
    """Other limits for the series that carry all of `labels`; the first that fits counts.

    A limit of None is inherited from the threshold; NO_LIMIT switches it off.
    """

    labels: Labels
    warning: float | None = None
    critical: float | None = None


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
        """Warning and critical limit for a series; NO_LIMIT where there is none."""
        own = set(labels)
        for override in self.overrides:
            if set(override.labels) <= own:
                return self.limits_under(override)
        return _first_set(self.warning), _first_set(self.critical)

    def limits_under(self, override: ThresholdOverride) -> tuple[float, float]:
        """Warning and critical limit for the series of an override."""
        return (
            _first_set(override.warning, self.warning),
            _first_set(override.critical, self.critical),
        )


def _first_set(*limits: float | None) -> float:
    return next((limit for limit in limits if limit is not None), NO_LIMIT)


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
