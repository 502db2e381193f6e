"""Times of samples that come without one."""

import numpy as np
import pytest

from sql.database.copy_format import SampleRows
from sql.samples.writing import server_timestamps
from sql.samples.writing.server_timestamps import RecentStamps


def rows_of(*ids: int, is_timed: bool, now_ms: int = 1_000) -> SampleRows:
    n = len(ids)
    columns = np.array(ids, np.int64), np.full(n, now_ms), np.zeros(n, np.uint64)
    return SampleRows(*columns, np.full(n, is_timed))


def test_rows_of_one_series_get_different_times() -> None:
    stamps = RecentStamps()
    assert stamps.assign(rows_of(7, 7, is_timed=True)).timestamps.tolist() == [1_000, 1_001]
    assert stamps.assign(rows_of(7, 8, is_timed=True)).timestamps.tolist() == [1_002, 1_000]


def test_after_a_step_back_of_the_clock_times_are_those_of_the_clock() -> None:
    """Or they would stay where the clock was, a millisecond apart, until it is there again."""
    stamps, hour_ms = RecentStamps(), 3_600_000
    stamps.assign(rows_of(7, 8, is_timed=True, now_ms=hour_ms))
    assert stamps.assign(rows_of(7, 7, is_timed=True)).timestamps.tolist() == [1_000, 1_001]
    assert stamps.assign(rows_of(7, is_timed=True)).timestamps.tolist() == [1_002]
    many = stamps.assign(rows_of(*[9] * 100_000, is_timed=True)).timestamps
    assert len(set(many.tolist())) == 100_000, "those of one request stay apart"


def test_rows_with_times_of_their_own_keep_them_however_many_series_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As what is left of a request whose other rows were refused."""
    monkeypatch.setattr(server_timestamps, "_MAX_SERIES", 1)
    stamps = RecentStamps()
    stamps.assign(rows_of(7, 8, is_timed=True))
    assert stamps.assign(rows_of(7, is_timed=False)).timestamps.tolist() == [1_000]
