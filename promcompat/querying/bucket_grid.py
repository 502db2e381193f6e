"""Buckets of time as in SQL's `time_bucket`: `[start, start + width)`, named by their start.

The windows of the query engine are `(t - range, t]`. Times are whole milliseconds, so the bucket
`[b, b + width)` is the window of this width at `b + width - 1`.
"""

from dataclasses import dataclass

import numpy as np

from promcompat.core.model import EvalRange, IntArray

ORIGIN_MS = 946_857_600_000
"""2000-01-03, a Monday: the origin of `time_bucket` for widths below a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRun:
    """Adjacent buckets of one width, the first of which has the index `first`.

    All begin `step_ms` apart. Only a bucket that the range cuts off is narrower than that, and is
    then a run of its own.
    """

    first: int
    n_buckets: int
    start_ms: int
    width_ms: int
    step_ms: int

    @property
    def eval_range(self) -> EvalRange:
        """The steps at which the engine's windows of this width equal the buckets."""
        first_ms = self.start_ms + self.width_ms - 1
        return EvalRange(first_ms, first_ms + (self.n_buckets - 1) * self.step_ms, self.step_ms)


def bucket_start(time_ms: int, bucket_ms: int) -> int:
    """The start of the bucket that contains a time."""
    return time_ms - (time_ms - ORIGIN_MS) % bucket_ms


def count_buckets(start_ms: int, end_ms: int, bucket_ms: int) -> int:
    """The number of buckets that overlap `[start_ms, end_ms)`, which must not be empty."""
    first, last = bucket_start(start_ms, bucket_ms), bucket_start(end_ms - 1, bucket_ms)
    return (last - first) // bucket_ms + 1


def bucket_starts(start_ms: int, end_ms: int, bucket_ms: int) -> IntArray:
    """The starts of these buckets; the first may be before `start_ms`."""
    n_buckets = count_buckets(start_ms, end_ms, bucket_ms)
    numbers = np.arange(n_buckets, dtype=np.int64)
    return bucket_start(start_ms, bucket_ms) + numbers * bucket_ms


def bucket_runs(start_ms: int, end_ms: int, bucket_ms: int) -> list[BucketRun]:
    """The same buckets clipped to `[start_ms, end_ms)`; a clipped bucket is a run of its own."""
    n_buckets = count_buckets(start_ms, end_ms, bucket_ms)
    first_ms = bucket_start(start_ms, bucket_ms)
    last_ms = first_ms + (n_buckets - 1) * bucket_ms
    if n_buckets == 1:
        return [_run(0, 1, start_ms, end_ms - start_ms, bucket_ms)]
    runs = []
    n_cut_before = int(start_ms > first_ms)
    n_cut_after = int(end_ms < last_ms + bucket_ms)
    if n_cut_before:
        runs.append(_run(0, 1, start_ms, first_ms + bucket_ms - start_ms, bucket_ms))
    if n_whole := n_buckets - n_cut_before - n_cut_after:
        whole_ms = first_ms + n_cut_before * bucket_ms
        runs.append(_run(n_cut_before, n_whole, whole_ms, bucket_ms, bucket_ms))
    if n_cut_after:
        runs.append(_run(n_buckets - 1, 1, last_ms, end_ms - last_ms, bucket_ms))
    return runs


def _run(first: int, n_buckets: int, start_ms: int, width_ms: int, step_ms: int) -> BucketRun:
    return BucketRun(
        first=first, n_buckets=n_buckets, start_ms=start_ms, width_ms=width_ms, step_ms=step_ms
    )
