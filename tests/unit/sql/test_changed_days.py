"""Which days of which series are read raw, beside a model that looks at each series and day."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.reading.rollups.changed_days import Change, ChangedDays, changed_intervals
from sql.times import MS_PER_DAY

WANTED = np.array([3, 5, 6, 9])
BOUNDS = (-4, 16)
DAYS = range(-6, 20)
SERIES = st.integers(0, 10)
DAY = st.integers(DAYS[0], DAYS[-1])


@st.composite
def changes(draw: st.DrawFn) -> Change:
    series, days = sorted((draw(SERIES), draw(SERIES))), sorted((draw(DAY), draw(DAY)))
    return Change(*series, *days, is_deletion=draw(st.booleans()))


def held(changed: ChangedDays) -> set[tuple[int, int]]:
    """The series and days that are read raw."""
    times = np.array(DAYS) * MS_PER_DAY + 7
    samples = SeriesSamples(
        WANTED,
        np.arange(len(WANTED) + 1) * len(times),
        np.tile(times, len(WANTED)),
        np.ones(len(WANTED) * len(times)),
    )
    ids = np.repeat(samples.ids, np.diff(samples.offsets))
    is_held = changed.holds(samples)
    days = samples.timestamps // MS_PER_DAY
    return set(zip(ids[is_held].tolist(), days[is_held].tolist(), strict=True))


@given(
    several=st.lists(changes(), max_size=8),
    first_whole=st.lists(DAY, min_size=len(WANTED), max_size=len(WANTED)),
    not_kept=st.lists(DAY, min_size=len(WANTED), max_size=len(WANTED)),
)
def test_of_days_without_samples_exactly_the_deleted_ones_are_read_raw(
    several: list[Change], first_whole: list[int], not_kept: list[int]
) -> None:
    """A day of samples may be read raw without need, but not a day that has rollups only."""
    places = np.arange(len(WANTED))
    own = places, np.full(len(WANTED), DAYS[0]), np.array(not_kept) - 1
    parts = [*changed_intervals(WANTED, np.array(first_whole), several), own]
    changed = ChangedDays.of(WANTED, parts, BOUNDS)
    found = held(changed)
    for series, whole, kept in zip(WANTED.tolist(), first_whole, not_kept, strict=True):
        for day in DAYS:
            is_inside = BOUNDS[0] <= day <= BOUNDS[1]
            touching = [
                one
                for one in several
                if one.first_series <= series <= one.last_series
                and one.first_day <= day <= one.last_day
            ]
            is_deleted = any(one.is_deletion for one in touching)
            if not is_inside:
                assert (series, day) not in found
            elif day < kept:
                assert (series, day) in found
            elif day < whole:
                assert ((series, day) in found) == is_deleted
            elif touching:
                assert (series, day) in found


@given(several=st.lists(changes(), max_size=30))
def test_what_is_read_raw_has_all_changed_days_in_few_reads(several: list[Change]) -> None:
    parts = changed_intervals(WANTED, np.full(len(WANTED), 30), several)
    changed = ChangedDays.of(WANTED, parts, BOUNDS)
    reads = changed.reads()
    assert len(reads) <= 8
    read = {
        (series, day)
        for ids, first, last in reads
        for series in ids.tolist()
        for day in range(first, last + 1)
    }
    assert held(changed) <= read
