"""From when on the samples of each series are kept: no reader sees older ones, on disk or not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from promcompat.core.ports import ALL_TIME, SampleState, TimeRange
from promcompat.core.value_classes import value_class
from sql.caching.change_log import ChangeLogState, joined_ranges
from sql.caching.series_column import SeriesColumn
from sql.database.connection_pool import Connection, Pool, acquired
from sql.query_loader import load_queries
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.tables.slots import first_whole_days
from sql.times import MIN_TIMESTAMP_MS, MS_PER_DAY

_QUERIES: Final = load_queries("retention")
_MAX_SERIES: Final = 1_000_000
_UNKNOWN: Final = -1


class _Rules:
    """The retention of a tenant (0: forever) and of metrics with one of their own, in days.

    `of_series` remembers the days of series that were asked for.
    """

    def __init__(self, of_others: int, of_metrics: Mapping[str, int]) -> None:
        self.of_others = of_others
        self.of_metrics = of_metrics
        self.of_series = SeriesColumn(_MAX_SERIES)

    @property
    def days(self) -> tuple[int, ...]:
        """The different retentions, ascending."""
        return tuple(sorted({self.of_others, *self.of_metrics.values()}))

    def is_same(self, other: "_Rules") -> bool:
        """Whether the rules are the same."""
        return self.of_others == other.of_others and self.of_metrics == other.of_metrics


@value_class(frozen=True, slots=True)
class KeptTimes:
    """What a tenant keeps at one moment.

    `rollup_days` is how long rollups are kept where that is longer than samples are (0: forever;
    None: as long as samples).
    """

    pool: Pool
    rules: _Rules
    now_ms: int
    rollup_days: int | None = None

    @property
    def first_ms(self) -> int:
        """No series keeps samples before this time."""
        return min(_first_ms(days, self.now_ms) for days in self.rules.days)

    @property
    def limits_ms(self) -> tuple[int, ...]:
        """The times from which something is kept, for each different retention."""
        return tuple(_first_ms(days, self.now_ms) for days in self.rules.days)

    async def clip(self, wanted: IntArray, connection: Connection | None) -> "Clip | None":
        """From when on each series (ascending ids) is kept; None when that is `first_ms` for all.

        `connection` is the one that the caller has, so that it does not wait for another.
        """
        if not self.rules.of_metrics or not len(wanted):
            return None
        return Clip(wanted, await self.from_ms(wanted, connection))

    async def from_ms(self, wanted: IntArray, connection: Connection | None) -> IntArray:
        """From when on each series is kept, Unix ms; parameters as of `clip`."""
        if not self.rules.of_metrics:
            return np.full(len(wanted), self.first_ms, np.int64)
        days = self.rules.of_series.get(wanted, _UNKNOWN)
        unknown = wanted[days == _UNKNOWN]
        if len(unknown):
            new = await self._ask(unknown, connection)
            self.rules.of_series.put(unknown, new)
            days[days == _UNKNOWN] = new
        return np.where(days == 0, MIN_TIMESTAMP_MS, self.now_ms - days * MS_PER_DAY)

    def first_rolled_days(self, from_ms: IntArray) -> IntArray:
        """The first whole UTC day of which rollups are kept, of series kept from some times on."""
        if self.rollup_days is not None:
            from_ms = np.minimum(from_ms, _first_ms(self.rollup_days, self.now_ms))
        return first_whole_days(from_ms)

    async def _ask(self, series_ids: IntArray, connection: Connection | None) -> IntArray:
        """The retention of each series in days."""
        rules = self.rules
        question = series_ids.tolist(), list(rules.of_metrics)
        if connection is not None:
            rows = await connection.fetch(_QUERIES["names_of_series"], *question)
        else:
            async with acquired(self.pool) as own:
                rows = await own.fetch(_QUERIES["names_of_series"], *question)
        found = {row["id"]: rules.of_metrics[row["metric_name"]] for row in rows}
        return np.array([found.get(one, rules.of_others) for one in question[0]], np.int64)


@dataclass(frozen=True, slots=True)
class Clip:
    """The time in Unix ms from which on each of some series (ascending ids) is kept."""

    ids: IntArray
    from_ms: IntArray

    def of(self, samples: SeriesSamples) -> SeriesSamples:
        """Those of some samples of these series that are kept."""
        if not len(samples):
            return samples
        from_ms = self.from_ms[np.searchsorted(self.ids, samples.ids)]
        is_kept = samples.timestamps >= np.repeat(from_ms, np.diff(samples.offsets))
        return samples if is_kept.all() else samples.where(is_kept)


class Retentions:
    """The retentions of all tenants; a change of one raises the generation of its series."""

    def __init__(
        self,
        pool: Pool,
        default_days: int,
        now_ms: Callable[[], int],
        rollup_days: int | None = None,
    ) -> None:
        """`pool` is for reading; `default_days` is the retention of the service (0: forever).

        `rollup_days` as in `KeptTimes`.
        """
        self._pool = pool
        self._rollup_days = rollup_days
        self._default_days = default_days
        self._now_ms = now_ms
        self._rules: dict[int, tuple[int, _Rules]] = {}

    def forget(self) -> None:
        """Read everything again: the database was set back."""
        self._rules.clear()

    async def of(
        self, tenant_id: int, generation: int, connection: Connection | None = None
    ) -> KeptTimes:
        """What a tenant keeps now, by the rules of this generation of its series or later ones.

        `connection` as in `KeptTimes.clip`.
        """
        known = self._rules.get(tenant_id)
        if known is not None and known[0] == generation:
            return self._now(known[1])
        if connection is not None:
            rows = await connection.fetch(_QUERIES["retentions_of_tenant"], tenant_id)
        else:
            async with acquired(self._pool) as own:
                rows = await own.fetch(_QUERIES["retentions_of_tenant"], tenant_id)
        days = {row["metric_name"]: row["retention_days"] for row in rows}
        rules = _Rules(days.pop("", self._default_days), days)
        if known is not None and known[1].is_same(rules):
            rules = known[1]
        self._rules[tenant_id] = generation, rules
        return self._now(rules)

    @property
    def kept_by_all_ms(self) -> int:
        """No retention is so short that it has passed samples from this time on."""
        return self._now_ms() - MS_PER_DAY

    def _now(self, rules: _Rules) -> KeptTimes:
        return KeptTimes(self._pool, rules, self._now_ms(), self._rollup_days)


@dataclass(frozen=True, slots=True)
class KeptState(SampleState):
    """Changes, and what is no longer kept as time goes on."""

    changes: ChangeLogState
    kept: KeptTimes | None

    @property
    def settled_ms(self) -> int:
        """As of the changes."""
        return self.changes.settled_ms

    def changed_since(self, earlier: SampleState) -> Sequence[TimeRange]:
        """The times that changed, and those that a retention has passed."""
        assert isinstance(earlier, KeptState)
        changed = self.changes.changed_since(earlier.changes)
        if self.kept is None:
            return changed
        if earlier.kept is None or earlier.kept.rules is not self.kept.rules:
            return [ALL_TIME]
        limits = zip(earlier.kept.limits_ms, self.kept.limits_ms, strict=True)
        passed = [
            (min(before, now), max(before, now) - 1) for before, now in limits if before != now
        ]
        if self.kept.rollup_days is not None:
            passed = self._passed_days(earlier.kept, self.kept, passed)
        return joined_ranges([*changed, *passed])

    @staticmethod
    def _passed_days(
        earlier: KeptTimes, kept: KeptTimes, passed: Sequence[TimeRange]
    ) -> list[TimeRange]:
        """Rollups take the place of samples, and go themselves, a whole day at a time."""
        first_days = [
            one.first_rolled_days(np.array([one.now_ms])) * MS_PER_DAY for one in (earlier, kept)
        ]
        before_ms, now_ms = (int(days[0]) for days in first_days)
        days = [
            (start_ms // MS_PER_DAY * MS_PER_DAY, (end_ms // MS_PER_DAY + 1) * MS_PER_DAY - 1)
            for start_ms, end_ms in passed
        ]
        return [*days, (before_ms, now_ms - 1)] if before_ms < now_ms else days


def _first_ms(days: int, now_ms: int) -> int:
    return MIN_TIMESTAMP_MS if days == 0 else now_ms - days * MS_PER_DAY
