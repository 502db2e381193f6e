"""Thresholds of metric definitions: the values, and the pure rules that find breaches.

They are in the core because every write applies them: its breaches are stored in the transaction of
its samples.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from operator import itemgetter
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.core.histograms.columns import is_histogram
from promcompat.core.model import EMPTY_LABELS, BoolArray, FloatArray, IntArray, Labels


class Direction(StrEnum):
    """On which side of a limit the bad values are."""

    ABOVE = "above"
    BELOW = "below"


class BreachLevel(IntEnum):
    """How bad a value is."""

    NONE = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def severity(self) -> str:
        """The severity of alerts of this level; empty for no breach."""
        return self.name.lower() if self else ""


NO_LIMIT: Final = math.nan
"""A limit that nothing breaches."""
NEVER_MS: Final = -(1 << 62)
"""Before every time that a sample can have."""


@dataclass(frozen=True, slots=True)
class SeriesLimits:
    """The limits of one series; NO_LIMIT where it has none."""

    warning: float
    critical: float
    is_above: bool

    def limit_of(self, level: BreachLevel) -> float:
        """The limit that a value of this level breaches."""
        return self.critical if level is BreachLevel.CRITICAL else self.warning

    def level_of(self, value: float) -> BreachLevel:
        """The level of one value."""
        limits = np.array([self.warning]), np.array([self.critical]), np.array([self.is_above])
        return BreachLevel(int(find_breach_levels(np.array([value]), *limits)[0]))


@dataclass(frozen=True, slots=True)
class ThresholdOverride:
    """Other limits for the series that have all of `labels`; the first override that fits counts.

    A limit of None is inherited from the threshold; NO_LIMIT switches it off.
    """

    labels: Labels
    warning: float | None = None
    critical: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertThreshold:
    """When the values of a metric are a breach; a value equal to a limit is a breach.

    `for_ms`: how long the breach must last before its alert fires.
    """

    warning: float | None
    critical: float | None
    direction: Direction
    for_ms: int = 0
    overrides: tuple[ThresholdOverride, ...] = ()
    remediation: RemediationSpec | None = None

    def limits_of(self, labels: Labels) -> SeriesLimits:
        """The limits of the series with these labels."""
        own = set(labels)
        for override in self.overrides:
            if set(override.labels) <= own:
                return self.limits_under(override)
        return self._limits(self.warning, self.critical)

    def limits_under(self, override: ThresholdOverride) -> SeriesLimits:
        """The limits of the series that an override is for."""
        return self._limits(
            self.warning if override.warning is None else override.warning,
            self.critical if override.critical is None else override.critical,
        )

    def _limits(self, warning: float | None, critical: float | None) -> SeriesLimits:
        return SeriesLimits(
            NO_LIMIT if warning is None else warning,
            NO_LIMIT if critical is None else critical,
            self.direction is Direction.ABOVE,
        )


_Candidate: TypeAlias = tuple[int, frozenset[tuple[str, str]], SeriesLimits]
"""The place of an override among all, the labels it requires, and its limits."""
_NO_PAIR: Final = ("", "")
_COLUMNS: Final = ("ids", "_warning", "_critical", "_is_above", "_levels", "_known_ms")


def find_breach_levels(
    values: FloatArray, warning: FloatArray, critical: FloatArray, is_above: BoolArray
) -> IntArray:
    """The BreachLevel of each value, int64 [n]; all arrays are of one length.

    NaN breaches nothing, and neither does a stale marker: rules with `absent()` find absence.
    """

    def breached(limit: FloatArray) -> BoolArray:
        return np.where(is_above, values >= limit, values <= limit)

    levels = np.where(breached(warning), BreachLevel.WARNING, BreachLevel.NONE)
    return np.where(breached(critical), BreachLevel.CRITICAL, levels).astype(np.int64)


@dataclass(frozen=True, slots=True)
class LevelChange:
    """A sample that changes the level of its series; `row` is its row in the batch."""

    row: int
    series_id: int
    level: BreachLevel
    value: float
    timestamp_ms: int


class ThresholdIndex:
    """The limits of many series: overrides are found by a label that they require.

    A threshold may have a thousand overrides, and its metric a million series.
    """

    def __init__(self, threshold: AlertThreshold) -> None:
        n_overrides = Counter(pair for one in threshold.overrides for pair in one.labels)
        self._default = threshold.limits_of(EMPTY_LABELS)
        self._by_pair: defaultdict[tuple[str, str], list[_Candidate]] = defaultdict(list)
        for place, override in enumerate(threshold.overrides):
            rarest = min(override.labels, key=n_overrides.__getitem__, default=_NO_PAIR)
            limits = threshold.limits_under(override)
            self._by_pair[rarest].append((place, frozenset(override.labels), limits))

    def limits_of(self, labels: Labels) -> SeriesLimits:
        """As `AlertThreshold.limits_of`."""
        if not self._by_pair:
            return self._default
        own = set(labels)
        fitting = (
            candidate
            for pair in (*own, _NO_PAIR)
            for candidate in self._by_pair.get(pair, ())
            if candidate[1] <= own
        )
        first = min(fitting, key=itemgetter(0), default=None)
        return self._default if first is None else first[2]


class WatchedSeries:
    """The series that have a threshold, as columns: limits, level, and the time of that level.

    A sample that is not newer than its series' level says nothing about the present and is left
    out. Every write waits for this class, so it does nothing per sample: one binary search over
    the watched ids, one comparison, and more only where a level may have changed.
    """

    def __init__(self, limits: Mapping[int, SeriesLimits] | None = None) -> None:
        """Every series starts without a breach, before the time of any sample."""
        given = limits or {}
        self.ids: IntArray = np.array(sorted(given), np.int64)
        ordered = [given[series_id] for series_id in self.ids.tolist()]
        self._warning: FloatArray = np.array([limit.warning for limit in ordered], np.float64)
        self._critical: FloatArray = np.array([limit.critical for limit in ordered], np.float64)
        self._is_above = np.array([limit.is_above for limit in ordered], np.bool_)
        self._levels: IntArray = np.zeros(len(ordered), np.int64)
        self._known_ms: IntArray = np.full(len(ordered), NEVER_MS, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, series_id: int) -> bool:
        return self._slot(series_id) is not None

    def with_series(self, limits: Mapping[int, SeriesLimits]) -> "WatchedSeries":
        """These series and more; those that are watched already keep their level and its time."""
        return self.changed((), WatchedSeries(limits))

    def changed(self, gone: Collection[int], added: "WatchedSeries") -> "WatchedSeries":
        """Without some series and with others.

        Those that stay, also with other limits, keep their level and its time. No Python code is
        run per series, as a process may watch millions.
        """
        left_out = np.concatenate([np.fromiter(gone, np.int64, len(gone)), added.ids])
        stays = ~np.isin(self.ids, left_out)
        columns = {
            name: np.concatenate([getattr(self, name)[stays], getattr(added, name)])
            for name in _COLUMNS
        }
        is_known = np.isin(added.ids, self.ids, assume_unique=True)
        slots = np.searchsorted(self.ids, added.ids[is_known])
        place_of_added = int(np.count_nonzero(stays))
        for name in ("_levels", "_known_ms"):
            columns[name][place_of_added:][is_known] = getattr(self, name)[slots]
        order = np.argsort(columns["ids"])
        joined = WatchedSeries()
        for name, column in columns.items():
            setattr(joined, name, column[order])
        return joined

    def level_of(self, series_id: int) -> BreachLevel:
        """The level of a series; no breach for one that is not watched."""
        slot = self._slot(series_id)
        return BreachLevel.NONE if slot is None else BreachLevel(int(self._levels[slot]))

    def learn(self, series_id: int, level: BreachLevel, timestamp_ms: int) -> None:
        """Take over a level unless the series has a later one."""
        self.learn_all(np.array([series_id]), np.array([level]), np.array([timestamp_ms]))

    def learn_all(self, series_ids: IntArray, levels: IntArray, times_ms: IntArray) -> None:
        """The same for many series; the elements are in the order of their times."""
        if not len(self.ids) or not len(series_ids):
            return
        slots = np.minimum(np.searchsorted(self.ids, series_ids), len(self.ids) - 1)
        counts = (self.ids[slots] == series_ids) & (times_ms >= self._known_ms[slots])
        # Of several of one series the last one is assigned.
        self._levels[slots[counts]] = levels[counts]
        self._known_ms[slots[counts]] = times_ms[counts]

    def learn_newest(self, newest_ms: Iterable[tuple[int, int]]) -> None:
        """Take over how new the samples of series are, in ms by series id; levels stay."""
        for series_id, timestamp_ms in newest_ms:
            slot = self._slot(series_id)
            if slot is not None:
                self._known_ms[slot] = max(timestamp_ms, int(self._known_ms[slot]))

    def find_changes(
        self,
        series_ids: IntArray,
        timestamps: IntArray,
        values: FloatArray,
        oldest_ms: int = NEVER_MS,
    ) -> Sequence[LevelChange]:
        """The changes of level in a batch (three columns of one length), by series and time.

        A sample before `oldest_ms` raises no level; it may still lower one. A histogram says
        nothing about limits.
        """
        if not len(self.ids):
            return ()
        found = np.minimum(np.searchsorted(self.ids, series_ids), len(self.ids) - 1)
        rows = np.flatnonzero(self.ids[found] == series_ids)
        rows = rows[~is_histogram(values[rows])]
        if not len(rows):
            return ()
        slots = found[rows]
        levels = find_breach_levels(
            values[rows], self._warning[slots], self._critical[slots], self._is_above[slots]
        )
        known = self._levels[slots]
        is_old = timestamps[rows] < oldest_ms
        levels = np.where(is_old, np.minimum(levels, known), levels)
        if not levels.any() and not known.any():
            return ()
        return self._changes(rows, slots, levels, timestamps, values)

    def _changes(
        self,
        rows: NDArray[np.intp],
        slots: NDArray[np.intp],
        levels: IntArray,
        timestamps: IntArray,
        values: FloatArray,
    ) -> list[LevelChange]:
        order = np.lexsort((timestamps[rows], slots))
        order = order[timestamps[rows[order]] > self._known_ms[slots[order]]]
        if not len(order):
            return []
        rows, slots, levels = rows[order], slots[order], levels[order]
        is_first = np.diff(slots, prepend=-1) != 0
        # Of two samples of one time the first is stored.
        is_repeat = ~is_first & (np.diff(timestamps[rows], prepend=NEVER_MS) == 0)
        rows, slots, levels = rows[~is_repeat], slots[~is_repeat], levels[~is_repeat]
        is_first = np.diff(slots, prepend=-1) != 0
        before = np.where(is_first, self._levels[slots], np.roll(levels, 1))
        return [
            LevelChange(
                int(rows[index]),
                int(self.ids[slots[index]]),
                BreachLevel(int(levels[index])),
                float(values[rows[index]]),
                int(timestamps[rows[index]]),
            )
            for index in np.flatnonzero(levels != before).tolist()
        ]

    def _slot(self, series_id: int) -> int | None:
        slot = int(np.searchsorted(self.ids, series_id))
        return slot if slot < len(self.ids) and self.ids[slot] == series_id else None
