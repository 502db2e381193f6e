"""Query results as the JSON of the Prometheus HTTP API, without Python work per point.

A point is `[<seconds>,"<value>"]`. The text before a value depends on its step only and is made
once for each step; one pass of orjson makes the texts of all values of a run of series. The work
left for each point runs in C: slices of a list and `bytes.join`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

import numpy as np
import orjson

from promcompat.api.float_format import (
    format_json_seconds,
    format_sample_values,
    format_timestamp,
    format_timestamps,
)
from promcompat.api.histogram_json import mixed_block, mixed_matrix, mixed_vector
from promcompat.api.json_text import dump_json
from promcompat.core.model import FloatArray, IntArray, Labels, SampleBlock
from promcompat.core.strconv import format_decimal
from promql.values.matrix import Matrix, QueryResult, ScalarGrid, StringValue

_POINTS_PER_RUN = 20_000
"""Bounds the memory of intermediate texts (some 60 bytes a point) for results of any size, and the
time for which one call keeps the interpreter from other requests: 2 ms."""

_STAGES = (
    "evalTotalTime",
    "resultSortTime",
    "queryPreparationTime",
    "innerEvalTime",
    "execQueueTime",
    "execTotalTime",
)


def query_data_parts(
    result: QueryResult, with_stats: bool, *, per_step: bool = False
) -> Iterator[bytes]:
    """The `data` object of a query: `resultType`, `result` and, when asked for, `stats`.

    It comes in pieces, so that only a few of them need to be in memory at a time. `per_step` adds
    how many samples each step read.
    """
    kind, items = _typed_items(result)
    yield b'{"resultType":"' + kind + b'","result":'
    yield from items
    if with_stats:
        yield b',"stats":' + _stats(result, per_step)
    yield b"}"


def _typed_items(result: QueryResult) -> tuple[bytes, Iterable[bytes]]:
    value = result.value
    match value:
        case Matrix(histograms=None) if result.is_range:
            return b"matrix", _listed(_matrix(value, result.timestamps))
        case Matrix(histograms=None):
            return b"vector", _listed(_vector(value, result.timestamps))
        case Matrix():
            return _mixed_items(value, result)
        case ScalarGrid():
            text = format_decimal(float(value.values[0]))
            return b"scalar", [_single(result.timestamps, text)]
        case StringValue():
            return b"string", [_single(result.timestamps, value.value)]
        case SampleBlock(histograms=None):
            return b"matrix", _block(value)
        case SampleBlock():
            return b"matrix", _listed(mixed_block(value))
        case _:
            assert_never(value)


def _mixed_items(matrix: Matrix, result: QueryResult) -> tuple[bytes, Iterable[bytes]]:
    assert matrix.histograms is not None
    if result.is_range:
        return b"matrix", _listed(mixed_matrix(matrix, matrix.histograms, result.timestamps))
    return b"vector", _listed(mixed_vector(matrix, matrix.histograms, result.timestamps))


def _listed(items: Iterable[bytes]) -> Iterator[bytes]:
    before = b"["
    for item in items:
        yield before + item
        before = b","
    yield b"]" if before == b"," else b"[]"


def _single(timestamps: IntArray, text: str) -> bytes:
    seconds = format_json_seconds(int(timestamps[0])).encode()
    return b"[" + seconds + b"," + dump_json(text) + b"]"


def _vector(matrix: Matrix, timestamps: IntArray) -> Iterator[bytes]:
    present = np.flatnonzero(matrix.present[:, 0])
    time = format_timestamp(int(timestamps[0])).encode()
    for first in range(0, len(present), _POINTS_PER_RUN):
        rows = present[first : first + _POINTS_PER_RUN]
        texts = format_sample_values(matrix.values[rows, 0])
        for row, text in zip(rows.tolist(), texts, strict=True):
            labels = matrix.labels[row].json()
            yield b'{"metric":' + labels + b',"value":[' + time + b',"' + text + b'"]}'


def _matrix(matrix: Matrix, timestamps: IntArray) -> Iterator[bytes]:
    leads = _leads(timestamps)
    rows_per_run = max(1, _POINTS_PER_RUN // max(1, len(timestamps)))
    for first in range(0, len(matrix.labels), rows_per_run):
        run = slice(first, first + rows_per_run)
        yield from _matrix_run(matrix.labels[run], matrix.values[run], matrix.present[run], leads)


def _matrix_run(
    labels: Sequence[Labels], values: FloatArray, present: np.ndarray, leads: list[bytes]
) -> Iterator[bytes]:
    texts = format_sample_values(values[present])
    counts = present.sum(axis=1).tolist()
    begin = 0
    for row, count in enumerate(counts):
        if count == 0:
            continue
        row_leads = (
            leads
            if count == len(leads)
            else [leads[step] for step in np.flatnonzero(present[row]).tolist()]
        )
        yield _series(labels[row], row_leads, texts[begin : begin + count])
        begin += count


def _block(block: SampleBlock) -> Iterator[bytes]:
    """The raw samples of an instant query of a range vector; a series may have millions."""
    before = b"["
    bounds = block.offsets.tolist()
    for labels, first, last in zip(block.labels, bounds, bounds[1:], strict=False):
        for start in range(first, last, _POINTS_PER_RUN):
            run = slice(start, min(start + _POINTS_PER_RUN, last))
            points = _points(_leads(block.timestamps[run]), format_sample_values(block.values[run]))
            yield before + _head(labels) + points[3:] if start == first else points
        if first < last:
            yield b'"]]}'
            before = b","
    yield b"]" if before == b"," else b"[]"


def _series(labels: Labels, leads: Sequence[bytes], texts: Sequence[bytes]) -> bytes:
    # Each lead closes the point before it; the first has none before it.
    return _head(labels) + _points(leads, texts)[3:] + b'"]]}'


def _head(labels: Labels) -> bytes:
    return b'{"metric":' + labels.json() + b',"values":['


def _points(leads: Sequence[bytes], texts: Sequence[bytes]) -> bytes:
    parts = [b""] * (2 * len(texts))
    # Takes 40 % of the time of `zip`; the slice assignment fails if the number of leads differs.
    parts[0::2], parts[1::2] = leads, texts
    return b"".join(parts)


def _leads(timestamps: IntArray) -> list[bytes]:
    """`"],[<seconds>,"` for each time: what stands between two values."""
    return [b'"],[' + time + b',"' for time in format_timestamps(timestamps)]


def _stats(result: QueryResult, per_step: bool) -> bytes:
    stats = result.stats
    timings = {stage: stats.timings_seconds.get(stage, 0.0) for stage in _STAGES}
    samples: dict[str, object] = {}
    if per_step and stats.samples_per_step is not None:
        seconds = map(format_json_seconds, result.timestamps.tolist())
        points = zip(seconds, stats.samples_per_step.tolist(), strict=True)
        text = ",".join(f"[{time},{count}]" for time, count in points)
        samples["totalQueryableSamplesPerStep"] = orjson.Fragment(f"[{text}]")
    samples["totalQueryableSamples"] = stats.total_samples
    samples["peakSamples"] = stats.peak_samples
    return orjson.dumps({"timings": timings, "samples": samples})
