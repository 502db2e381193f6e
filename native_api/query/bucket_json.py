"""Buckets as JSON."""

import numpy as np
import orjson

from native_api.contract.numbers import json_numbers
from native_api.contract.times import format_times_ms
from native_api.query.payloads import Fill, SeriesQuery
from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray
from promcompat.core.native_queries import BucketedSeries, BucketValues
from promcompat.core.texts.durations import format_duration_ms

_MAX_POINTS = 1_000_000


def render_buckets(name: str, query: SeriesQuery, answer: BucketedSeries, now_ms: int) -> bytes:
    """The JSON of the answer. Raises ExecutionError for more points than an answer may have.

    Buckets that begin after `now_ms` are in it only up to the last one with a sample: nothing is
    filled in for the future.
    """
    labels = answer.buckets.labels
    kept = len(labels[: query.limit])
    n_buckets = _count_shown(answer, now_ms)
    if kept * n_buckets * len(answer.layers) > _MAX_POINTS:
        raise ExecutionError(
            f"{kept} series of {n_buckets} buckets make more than {_MAX_POINTS} points; use wider "
            "buckets or fewer series"
        )
    times = format_times_ms(answer.starts_ms[:n_buckets])
    series = [
        {"labels": labels[row].as_dict(), "points": _points(times, answer, row, query.fill)}
        for row in range(kept)
    ]
    return orjson.dumps(
        {
            "name": name,
            "type": answer.type.value,
            "aggregation": answer.aggregation.value,
            "bucket": format_duration_ms(query.bucket),
            "series": series,
            "truncated": len(labels) > kept,
            "warnings": list(answer.warnings),
        }
    )


def _count_shown(answer: BucketedSeries, now_ms: int) -> int:
    begun = int(np.searchsorted(answer.starts_ms, now_ms, side="right"))
    with_sample = np.flatnonzero(answer.buckets.present.any(axis=(0, 1)))
    return max(begun, int(with_sample[-1]) + 1 if len(with_sample) else 0)


def _points(
    times: list[str], answer: BucketedSeries, row: int, fill: Fill
) -> list[dict[str, object]]:
    columns = [
        _column(answer.buckets, answer.before, layer, row, len(times), fill)
        for layer in range(len(answer.layers))
    ]
    return [
        {"timestamp": time, **dict(zip(answer.layers, numbers, strict=True))}
        for time, *numbers in zip(times, *columns, strict=True)
        if fill is not Fill.NONE or any(number is not None for number in numbers)
    ]


def _column(
    found: BucketValues,
    before: BucketValues | None,
    layer: int,
    row: int,
    n_buckets: int,
    fill: Fill,
) -> list[float | str | None]:
    """The numbers of one layer of a series, None where a bucket has none."""
    values, present = found.values[layer, row, :n_buckets], found.present[layer, row, :n_buckets]
    if fill is Fill.PREVIOUS:
        values, present = _carried(values, present, before, layer, row)
    numbers = json_numbers(np.where(present, values, 0.0))
    return [
        number if known else None for number, known in zip(numbers, present.tolist(), strict=True)
    ]


def _carried(
    values: FloatArray, present: BoolArray, before: BucketValues | None, layer: int, row: int
) -> tuple[FloatArray, BoolArray]:
    """Each bucket without a value has the one before it, first that of before the range."""
    if before is not None:
        values = np.concatenate([before.values[layer, row], values])
        present = np.concatenate([before.present[layer, row], present])
    # The index of the last bucket with a value, -1 before the first one.
    last = np.maximum.accumulate(np.where(present, np.arange(len(present)), -1))
    first = 0 if before is None else 1
    return values[np.maximum(last, 0)][first:], (last >= 0)[first:]
