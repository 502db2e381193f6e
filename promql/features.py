"""The parts of the language that are behind a feature flag of Prometheus, under its names."""

from collections.abc import Set
from enum import StrEnum
from typing import Final


class Feature(StrEnum):
    """A value of Prometheus' `--enable-feature` that changes what a query means or may contain."""

    BINOP_FILL_MODIFIERS = "promql-binop-fill-modifiers"
    DELAYED_NAME_REMOVAL = "promql-delayed-name-removal"
    EXPERIMENTAL_FUNCTIONS = "promql-experimental-functions"
    EXTENDED_RANGE_SELECTORS = "promql-extended-range-selectors"
    USE_START_TIMESTAMPS = "use-start-timestamps"


Features = Set[Feature]

ALL_FEATURES: Final[Features] = frozenset(Feature)
DEFAULT_FEATURES: Final[Features] = frozenset([Feature.EXPERIMENTAL_FUNCTIONS])
"""Prometheus enables none by default. Refusing a function because it may change helps nobody."""

ALWAYS_ON: Final = frozenset(
    ("promql-at-modifier", "promql-negative-offset", "promql-duration-expr", "native-histograms")
)
"""Flags of older versions of Prometheus for what is always on now; they are accepted."""
