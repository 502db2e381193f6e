"""Cutting and joining samples by series, against the same done one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.storage.copy_format import DecodedSamples
from sql.storage.series_samples import NO_SAMPLES, SeriesSamples

Rows = list[tuple[int, int]]
ROWS = st.sets(st.tuples(st.integers(0, 6), st.integers(-20, 20)), max_size=60).map(sorted)


def samples_of(rows: Rows) -> SeriesSamples:
    ids = np.array([series_id for series_id, _ in rows], np.int64)
    times = np.array([time_ms for _, time_ms in rows], np.int64)
    return SeriesSamples.of(DecodedSamples(ids, times, (ids * 1000 + times).astype(np.float64)))


def rows_of(samples: SeriesSamples) -> Rows:
    assert (np.diff(samples.offsets) > 0).all()
    ids = np.repeat(samples.ids, np.diff(samples.offsets))
    assert samples.values.tolist() == (ids * 1000 + samples.timestamps).tolist()
    return list(zip(ids.tolist(), samples.timestamps.tolist(), strict=True))


@given(ROWS, st.integers(-22, 22), st.integers(-22, 22))
def test_between_keeps_what_lies_within(rows: Rows, start_ms: int, end_ms: int) -> None:
    expected = [row for row in rows if start_ms < row[1] <= end_ms]
    assert rows_of(samples_of(rows).between(start_ms, end_ms)) == expected


@given(ROWS, st.integers(-22, 22))
def test_then_joins_what_was_cut_at_a_time(rows: Rows, time_ms: int) -> None:
    earlier = samples_of([row for row in rows if row[1] <= time_ms])
    later = samples_of([row for row in rows if row[1] > time_ms])
    assert rows_of(earlier.then(later)) == rows


@given(ROWS)
def test_take_gives_series_in_the_order_asked_for(rows: Rows) -> None:
    samples = samples_of(rows)
    order = np.arange(len(samples.ids))[::-1].copy()
    taken = samples.take(order)
    assert taken.ids.tolist() == samples.ids.tolist()[::-1]
    expected = [row for series_id in taken.ids.tolist() for row in rows if row[0] == series_id]
    assert rows_of(taken) == expected


def test_all_of_it_shares_memory() -> None:
    samples = samples_of([(1, 1), (1, 2), (4, 1)])
    assert samples.between(0, 2) is samples
    assert samples.then(NO_SAMPLES) is samples
    assert NO_SAMPLES.then(samples) is samples
