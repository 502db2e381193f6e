"""The runs of a range cover it once, bucket by bucket."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promcompat.querying.bucket_grid import (
    ORIGIN_MS,
    bucket_runs,
    bucket_starts,
    count_buckets,
)


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 13))
def test_runs_are_the_buckets_clipped_to_the_range(offset: int, length: int, bucket: int) -> None:
    start, end = ORIGIN_MS + offset, ORIGIN_MS + offset + length
    expected: dict[int, list[int]] = {}
    for time in range(start, end):
        expected.setdefault((time - ORIGIN_MS) // bucket, []).append(time)
    starts = bucket_starts(start, end, bucket)
    assert starts.tolist() == [ORIGIN_MS + number * bucket for number in expected]
    assert count_buckets(start, end, bucket) == len(expected)
    found: dict[int, list[int]] = {}
    for run in bucket_runs(start, end, bucket):
        grid = run.eval_range
        steps = np.arange(grid.start_ms, grid.end_ms + 1, grid.step_ms)
        assert len(steps) == run.n_buckets
        for number, last in enumerate(steps.tolist(), run.first):
            # The engine's window is left-open.
            found[number] = list(range(last - run.width_ms + 1, last + 1))
    assert list(found.values()) == list(expected.values())
    assert list(found) == list(range(len(expected)))
