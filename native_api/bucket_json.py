"""Buckets as JSON."""

import numpy as np
import orjson

from native_api.numbers import json_numbers
from native_api.query_payloads import Fill, SeriesQuery
from native_api.times import format_times_ms
from promcompat.core.durations import format_duration_ms
from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray
from promcompat.core.native_queries import BucketedSeries

_ORIGIN_MS = 946_857_600_000
"""2000-01-03, a Monday: where `time_bucket` starts to count in SQL."""
_MAX_POINTS = 1_000_000


def bucket_grid(start_ms: int, end_ms: int, bucket_ms: int) -> tuple[int, int]:
    """The end of the first bucket and how many there are to cover `(start_ms, end_ms)`."""
    first_end_ms = start_ms - (start_ms - _ORIGIN_MS) % bucket_ms + bucket_ms
    n_more = -((first_end_ms - end_ms) // bucket_ms)
    return first_end_ms, 1 + max(0, n_more)


def render_buckets(name: str, query: SeriesQuery, answer: BucketedSeries) -> bytes:
    """The JSON of the answer. Raises ExecutionError for more points than an answer may have."""
    kept = len(answer.labels[: query.limit])
    if kept * len(answer.ends_ms) > _MAX_POINTS:
        raise ExecutionError(
            f"{kept} series of {len(answer.ends_ms)} buckets are more than {_MAX_POINTS} points: "
            "ask for wider buckets or fewer series"
        )
    times = format_times_ms(answer.ends_ms)
    series = [
        {
            "labels": answer.labels[row].as_dict(),
            "points": _points(times, answer.values[row], answer.present[row], query.fill),
        }
        for row in range(kept)
    ]
    return orjson.dumps(
        {
            "name": name,
            "type": answer.type.value,
            "aggregation": answer.aggregation.value,
            "bucket": format_duration_ms(query.bucket),
            "series": series,
            "truncated": len(answer.labels) > kept,
            "warnings": list(answer.warnings),
        }
    )


def _points(
    times: list[str], values: FloatArray, present: BoolArray, fill: Fill
) -> list[dict[str, object]]:
    if fill is Fill.PREVIOUS:
        # The index of the last bucket with a value, -1 before the first one.
        last = np.maximum.accumulate(np.where(present, np.arange(len(present)), -1))
        values, present = values[np.maximum(last, 0)], last >= 0
    numbers = json_numbers(np.where(present, values, 0.0))
    has_value = present.tolist()
    return [
        {"timestamp": time, "value": number if known else None}
        for time, number, known in zip(times, numbers, has_value, strict=True)
        if known or fill is not Fill.NONE
    ]
