"""Exemplars: single observations of a series, with labels that lead to a trace."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Protocol

from promcompat.core.model import Labels
from promcompat.core.ports import MatcherSets

MAX_EXEMPLAR_CHARACTERS: Final = 128
"""Of all names and values of an exemplar's labels together, as in OpenMetrics."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An observation; `timestamp_ms` is Unix milliseconds."""

    labels: Labels
    value: float
    timestamp_ms: int

    @property
    def is_too_long(self) -> bool:
        """Whether its labels have more characters than the limit."""
        n_characters = sum(map(len, chain.from_iterable(self.labels.pairs)))
        return n_characters > MAX_EXEMPLAR_CHARACTERS


@dataclass(frozen=True, slots=True)
class SeriesExemplar:
    """An exemplar and the labels of its series."""

    series: Labels
    exemplar: Exemplar


@dataclass(frozen=True, slots=True)
class ExemplarsOfSeries:
    """The exemplars of a series, the oldest first."""

    series: Labels
    exemplars: tuple[Exemplar, ...]


@dataclass(frozen=True, slots=True)
class AppendedExemplars:
    """What became of exemplars; `n_stored` counts repeats of the newest one of a series too.

    `out_of_order` and `invalid` have the series of those that were refused: they are older than the
    newest one, or have too long labels or texts that cannot be stored.
    """

    n_stored: int = 0
    out_of_order: tuple[Labels, ...] = ()
    invalid: tuple[Labels, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExemplarLimits:
    """How many exemplars are kept of a series and of a tenant, and for how long.

    `overrides` gives the present `max_per_tenant` of the tenants that have one of their own.
    """

    max_per_series: int
    max_per_tenant: int
    retention_ms: int
    overrides: Callable[[], Mapping[str, int]] = dict


class ExemplarRepository(Protocol):
    """The store of exemplars."""

    async def append(self, tenant: str, exemplars: Sequence[SeriesExemplar]) -> AppendedExemplars:
        """Store exemplars in their order, by Prometheus' rules for the order of a series.

        One that equals the newest one of its series is not stored again. One that is older is out
        of order; among those of one time, so is one of a smaller value, or with labels of a smaller
        hash. Raises StorageUnavailableError; then none is stored.
        """

    async def select(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[ExemplarsOfSeries]:
        """The exemplars in `[start_ms, end_ms]` of the series that match, sorted by series."""

    async def trim(self, limits: ExemplarLimits, now_ms: int, tenant: str | None = None) -> int:
        """Delete what exceeds the limits, of a tenant or of all; returns how many."""

    async def count_excess(self, limits: ExemplarLimits, now_ms: int) -> int:
        """How many exemplars `trim` would delete, of all tenants."""
