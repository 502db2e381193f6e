"""A repository of exemplars without a database, for tests of what is above it."""

from collections.abc import Sequence

from promcompat.core.exemplars import (
    AppendedExemplars,
    Exemplar,
    ExemplarLimits,
    ExemplarsOfSeries,
    SeriesExemplar,
)
from promcompat.core.model import Labels
from promcompat.core.ports import MatcherSets
from sql.exemplars.exemplar_repository import label_hash
from tests.fakes import matches_all


class InMemoryExemplars:
    """Exemplars by tenant and series, in order of their insertion."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, Labels], list[Exemplar]] = {}

    async def append(self, tenant: str, exemplars: Sequence[SeriesExemplar]) -> AppendedExemplars:
        n_stored = 0
        out_of_order, invalid = [], []
        for found in exemplars:
            if found.exemplar.is_too_long:
                invalid.append(found.series)
                continue
            kept = self.of.setdefault((tenant, found.series), [])
            if kept and _place(found.exemplar) < _place(kept[-1]):
                out_of_order.append(found.series)
                continue
            n_stored += 1
            if not kept or kept[-1] != found.exemplar:
                kept.append(found.exemplar)
        return AppendedExemplars(n_stored, tuple(out_of_order), tuple(invalid))

    async def select(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[ExemplarsOfSeries]:
        found = []
        for (owner, labels), exemplars in self.of.items():
            if owner == tenant and any(matches_all(labels, chosen) for chosen in matcher_sets):
                within = [one for one in exemplars if start_ms <= one.timestamp_ms <= end_ms]
                if within:
                    found.append(ExemplarsOfSeries(labels, tuple(within)))
        return sorted(found, key=lambda series: series.series.pairs)

    async def trim(self, limits: ExemplarLimits, now_ms: int, tenant: str | None = None) -> int:
        return 0


def _place(exemplar: Exemplar) -> tuple[int, float, int]:
    return exemplar.timestamp_ms, exemplar.value, label_hash(exemplar.labels)
