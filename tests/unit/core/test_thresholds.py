"""Level changes of a batch: each against what a loop over its samples finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.alerting.thresholds import (
    NEVER_MS,
    AlertThreshold,
    BreachLevel,
    Direction,
    SeriesLimits,
    ThresholdIndex,
    ThresholdOverride,
    WatchedSeries,
)
from promcompat.core.histograms.columns import histogram_cells
from promcompat.core.model import Labels

LIMITS = {
    3: SeriesLimits(5.0, 8.0, True),
    7: SeriesLimits(float("nan"), 0.0, False),
    9: SeriesLimits(1.0, float("nan"), True),
}
NAN = float("nan")


def changes_of(
    watched: WatchedSeries, rows: list[tuple[int, int, float]], oldest_ms: int = NEVER_MS
) -> list[tuple[int, int, float, BreachLevel]]:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    found = watched.find_changes(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        oldest_ms,
    )
    for change in found:
        assert rows[change.row] == (change.series_id, change.timestamp_ms, change.value)
    return [(change.series_id, change.timestamp_ms, change.value, change.level) for change in found]


def test_a_level_that_stays_is_no_change() -> None:
    watched = WatchedSeries(LIMITS)
    assert changes_of(watched, [(3, 1, 0.0), (4, 1, 99.0), (9, 1, NAN)]) == []
    assert changes_of(watched, [(3, 2, 6.0)]) == [(3, 2, 6.0, BreachLevel.WARNING)]
    watched.learn(3, BreachLevel.WARNING, 2)
    assert changes_of(watched, [(3, 3, 7.0), (3, 4, 7.9)]) == []
    assert changes_of(watched, [(3, 5, 8.0)]) == [(3, 5, 8.0, BreachLevel.CRITICAL)]


def test_a_histogram_ends_no_breach() -> None:
    watched = WatchedSeries(LIMITS)
    watched.learn(3, BreachLevel.WARNING, 2)
    cells = histogram_cells(np.arange(1))
    assert watched.find_changes(np.array([3]), np.array([3]), cells) == ()
    rows = np.array([3, 3]), np.array([3, 4]), np.append(cells, 9.0)
    [change] = watched.find_changes(*rows)
    assert (change.row, change.level) == (1, BreachLevel.CRITICAL)


def test_late_samples_change_nothing() -> None:
    watched = WatchedSeries(LIMITS)
    watched.learn(7, BreachLevel.CRITICAL, 100)
    assert changes_of(watched, [(7, 99, 1.0), (7, 100, 1.0)]) == []
    assert changes_of(watched, [(7, 99, 1.0), (7, 101, 1.0)]) == [(7, 101, 1.0, BreachLevel.NONE)]
    watched.learn_newest([(7, 200), (3, 200), (12, 1)])
    assert changes_of(watched, [(7, 150, 1.0), (3, 150, 9.0)]) == []
    assert watched.level_of(7) is BreachLevel.CRITICAL
    watched.learn(7, BreachLevel.NONE, 150)
    assert watched.level_of(7) is BreachLevel.CRITICAL


def test_old_samples_raise_no_level_and_may_lower_one() -> None:
    watched = WatchedSeries(LIMITS)
    backfill = [(3, 10, 9.0), (3, 20, 6.0), (7, 10, -1.0)]
    assert changes_of(watched, backfill, oldest_ms=50) == []
    # What they say is not taken as known: the first new sample is a change.
    found = changes_of(watched, [*backfill, (3, 50, 9.0)], oldest_ms=50)
    assert found == [(3, 50, 9.0, BreachLevel.CRITICAL)]
    watched.learn(3, BreachLevel.WARNING, 1)
    assert changes_of(watched, [(3, 10, 9.0)], oldest_ms=50) == []
    assert changes_of(watched, [(3, 10, 0.0)], oldest_ms=50) == [(3, 10, 0.0, BreachLevel.NONE)]


def test_series_come_and_go_and_keep_what_is_known() -> None:
    watched = WatchedSeries({7: LIMITS[7]}).with_series({3: LIMITS[3], 9: LIMITS[9]})
    assert watched.ids.tolist() == [3, 7, 9]
    assert 7 in watched
    assert 8 not in watched
    watched.learn(9, BreachLevel.WARNING, 5)
    other = watched.changed([3, 7, 9, 12], WatchedSeries({9: LIMITS[3], 20: LIMITS[3]}))
    assert other.ids.tolist() == [9, 20]
    assert other.level_of(9) is BreachLevel.WARNING
    assert other.level_of(20) is BreachLevel.NONE
    # The new limits of the series that stays count.
    assert changes_of(other, [(9, 5, 9.0), (9, 6, 6.0), (9, 7, 9.0)]) == [
        (9, 7, 9.0, BreachLevel.CRITICAL)
    ]


def test_of_many_levels_the_newest_of_each_series_is_learned() -> None:
    watched = WatchedSeries(LIMITS)
    watched.learn(9, BreachLevel.CRITICAL, 100)
    rows = [(3, 1, 1), (12, 2, 2), (9, 1, 99), (7, 2, 100), (3, 2, 101), (3, 0, 101)]
    watched.learn_all(*np.array(rows).T)
    found = [int(watched.level_of(series_id)) for series_id in (3, 7, 9, 12)]
    assert found == [0, 2, 2, 0]


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")).map(Labels.of)


@given(st.lists(LABELS, max_size=6), st.lists(LABELS, min_size=1, max_size=6))
def test_the_index_finds_the_first_override_that_fits(
    overrides: list[Labels], series: list[Labels]
) -> None:
    threshold = AlertThreshold(
        warning=-1.0,
        critical=None,
        direction=Direction.ABOVE,
        overrides=tuple(
            ThresholdOverride(labels, float(place)) for place, labels in enumerate(overrides)
        ),
    )
    index = ThresholdIndex(threshold)
    for labels in series:
        assert index.limits_of(labels).warning == threshold.limits_of(labels).warning


def test_of_two_samples_of_one_time_the_first_counts() -> None:
    watched = WatchedSeries(LIMITS)
    assert changes_of(watched, [(3, 1, 0.0), (3, 1, 9.0)]) == []
    assert changes_of(watched, [(3, 1, 9.0), (3, 1, 0.0)]) == [(3, 1, 9.0, BreachLevel.CRITICAL)]


def level_by_hand(series_id: int, value: float) -> BreachLevel:
    limits = LIMITS[series_id]
    for limit, level in (
        (limits.critical, BreachLevel.CRITICAL),
        (limits.warning, BreachLevel.WARNING),
    ):
        if value >= limit if limits.is_above else value <= limit:
            return level
    return BreachLevel.NONE


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([1, 3, 7, 9, 11]),
                st.integers(0, 20),
                st.sampled_from([-1.0, 0.0, 1.0, 5.0, 9.0, float("inf")]),
            ),
            max_size=12,
        ),
        max_size=5,
    )
)
def test_batches_give_what_a_loop_gives(batches: list[list[tuple[int, int, float]]]) -> None:
    watched = WatchedSeries(LIMITS)
    known = dict.fromkeys(LIMITS, (BreachLevel.NONE, -1))
    for batch in batches:
        expected = []
        newest = {series_id: time for series_id, (_, time) in known.items()}
        level = {series_id: known_level for series_id, (known_level, _) in known.items()}
        seen: set[tuple[int, int]] = set()
        for series_id, time, value in sorted(batch, key=lambda row: (row[0], row[1])):
            if series_id not in LIMITS or time <= newest[series_id] or (series_id, time) in seen:
                continue
            seen.add((series_id, time))
            found = level_by_hand(series_id, value)
            if found is not level[series_id]:
                level[series_id] = found
                known[series_id] = (found, time)
                expected.append((series_id, time, value, found))
        assert changes_of(watched, batch) == expected
        for series_id, time, _, found in expected:
            watched.learn(series_id, found, time)
