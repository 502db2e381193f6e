"""Instant lookups and windows: left-open, within the lookback, stale markers apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.model import SampleBlock
from promql.values.matrix import Matrix
from promql.values.windows import (
    look_up,
    make_windows,
    matrix_to_block,
    upper_bounds,
    windows_to_block,
    without_stale_markers,
)
from tests.support.factories import STALE_NAN, make_block, make_labels

A, B = make_labels("m", n="a"), make_labels("m", n="b")


def times(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_look_up_takes_the_last_sample_within_a_left_open_lookback() -> None:
    block = make_block({A: [(100, 1.0), (200, 2.0)], B: [(150, 3.0)]})
    found = look_up(block, times(99, 100, 199, 200, 299, 300), 100)
    assert found.present.tolist() == [
        [False, True, True, True, True, False],
        [False, False, True, True, False, False],
    ]
    assert found.values[0, 1:5].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert found.timestamps[1, 2:4].tolist() == [150, 150]


def test_look_up_ends_at_a_stale_marker() -> None:
    block = make_block({A: [(100, 1.0), (200, STALE_NAN), (300, 2.0)], B: [(100, np.nan)]})
    found = look_up(block, times(150, 250, 350), 1000)
    assert found.present.tolist() == [[True, False, True], [True, True, True]]


def test_look_up_of_nothing() -> None:
    found = look_up(SampleBlock.empty(), times(1, 2), 10)
    assert found.present.shape == (0, 2)


def test_look_up_in_series_without_samples() -> None:
    block = SampleBlock((A,), np.empty(0, np.int64), np.empty(0), np.zeros(2, np.int64))
    assert look_up(block, times(1), 10).present.tolist() == [[False]]


def test_windows_are_left_open_and_right_closed() -> None:
    block = make_block({A: [(100, 1.0), (200, 2.0), (300, 3.0)]})
    windows = make_windows(block, times(200, 300), 100)
    assert windows.lo.tolist() == [[1, 2]]
    assert windows.hi.tolist() == [[2, 3]]
    assert windows.start_ms.tolist() == [100, 200]


@given(
    st.lists(st.integers(-50, 50), unique=True),
    st.integers(1, 9),
    st.integers(1, 30),
    st.integers(1, 12),
)
def test_windows_hold_the_samples_of_their_range(
    samples: list[int], step: int, range_ms: int, n_steps: int
) -> None:
    block = make_block({A: [(t, 0.0) for t in sorted(samples)], B: [(0, 0.0)]})
    ends = np.arange(n_steps, dtype=np.int64) * step
    windows = make_windows(block, ends, range_ms)
    for step_number, end in enumerate(ends.tolist()):
        low, high = windows.lo[0, step_number], windows.hi[0, step_number]
        expected = [t for t in sorted(samples) if end - range_ms < t <= end]
        assert block.timestamps[low:high].tolist() == expected


def test_windows_fixed_by_at_are_the_same_at_every_step() -> None:
    block = make_block({A: [(100, 1.0), (200, 2.0)]})
    windows = make_windows(block, times(200, 200, 200), 150)
    assert windows.lo.tolist() == [[0, 0, 0]]
    assert windows.hi.tolist() == [[2, 2, 2]]


def test_without_stale_markers_keeps_every_other_bit() -> None:
    block = make_block({A: [(1, STALE_NAN), (2, 1.0)], B: [(1, STALE_NAN)]})
    kept = without_stale_markers(block)
    assert (kept.timestamps.tolist(), kept.offsets.tolist()) == ([2], [0, 1, 1])
    clean = make_block({A: [(1, np.nan)]})
    assert without_stale_markers(clean) is clean


def test_matrix_to_block_keeps_present_samples_only() -> None:
    matrix = Matrix.of((A, B), np.arange(6.0).reshape(2, 3), np.array([[1, 0, 1], [0, 0, 0]]) > 0)
    block = matrix_to_block(matrix, times(10, 20, 30))
    assert block.timestamps.tolist() == [10, 30]
    assert block.values.tolist() == [0.0, 2.0]
    assert block.offsets.tolist() == [0, 2, 2]


def test_windows_to_block_sorts_series_and_leaves_out_empty_ones() -> None:
    block = SampleBlock((B, A), times(1, 2, 5), np.array([1.0, 2.0, 3.0]), times(0, 2, 3))
    copied = windows_to_block(make_windows(block, times(5), 4))
    assert copied.labels == (A, B)
    assert copied.values.tolist() == [3.0, 2.0]
    assert windows_to_block(make_windows(block, times(0), 1)).labels == ()


@given(
    st.lists(st.lists(st.integers(-50, 50), unique=True), max_size=4),
    st.integers(-60, 60),
    st.integers(-20, 20),
    st.integers(1, 12),
    st.sampled_from([1, 30]),
)
def test_upper_bounds_counts_samples_not_later(
    series: list[list[int]], start: int, step: int, n_steps: int, n_copies: int
) -> None:
    copies = series * n_copies
    block = make_block(
        {make_labels(n=str(n)): [(t, 0.0) for t in sorted(ts)] for n, ts in enumerate(copies)}
    )
    grid = start + np.arange(n_steps) * step
    expected = [
        [low + int((block.timestamps[low:high] <= t).sum()) for t in grid]
        for low, high in zip(block.offsets, block.offsets[1:], strict=False)
    ]
    assert upper_bounds(block, grid).tolist() == expected


@pytest.mark.parametrize("n_steps", [1, 2])
def test_upper_bounds_of_no_series(n_steps: int) -> None:
    grid = np.arange(n_steps, dtype=np.int64)
    assert upper_bounds(SampleBlock.empty(), grid).shape == (0, n_steps)
