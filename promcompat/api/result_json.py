"""Query results as the JSON of the Prometheus HTTP API, without Python work per point.

A point is `[<seconds>,"<value>"]`. A kernel writes those of a run of series, without the
interpreter.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

import numpy as np
import orjson

from promcompat.api.float_format import (
    format_json_seconds,
    format_sample_values,
    format_timestamp,
)
from promcompat.api.histogram_json import mixed_block, mixed_matrix, mixed_vector
from promcompat.api.json_text import dump_json
from promcompat.api.series_kernels import CLOSING_BYTES, MAX_POINT_BYTES, write_series
from promcompat.core.model import FloatArray, IntArray, Labels, SampleBlock
from promcompat.core.texts.strconv import format_decimal
from promql.values.matrix import Matrix, QueryResult, ScalarGrid, StringValue

_POINTS_PER_RUN = 20_000
"""Bounds the memory for results of any size: 1 MB."""

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
            return b"matrix", _bracketed(_matrix(value, result.timestamps))
        case Matrix(histograms=None):
            return b"vector", _bracketed(_vector(value, result.timestamps))
        case Matrix():
            return _mixed_items(value, result)
        case ScalarGrid():
            text = format_decimal(float(value.values[0]))
            return b"scalar", [_single(result.timestamps, text)]
        case StringValue():
            return b"string", [_single(result.timestamps, value.value)]
        case SampleBlock(histograms=None):
            return b"matrix", _bracketed(_block(value))
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


def _bracketed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A list whose items have a comma before them."""
    yield b"[" + next(pieces, b"")[1:]
    yield from pieces
    yield b"]"


def _single(timestamps: IntArray, text: str) -> bytes:
    seconds = format_json_seconds(int(timestamps[0])).encode()
    return b"[" + seconds + b"," + dump_json(text) + b"]"


def _vector(matrix: Matrix, timestamps: IntArray) -> Iterator[bytes]:
    """The items of an instant vector; a comma is before each of them."""
    present = np.flatnonzero(matrix.present[:, 0])
    between = b',"value":[' + format_timestamp(int(timestamps[0])).encode() + b',"'
    for first in range(0, len(present), _POINTS_PER_RUN):
        rows = present[first : first + _POINTS_PER_RUN]
        texts = format_sample_values(matrix.values[rows, 0])
        for row, text in zip(rows.tolist(), texts, strict=True):
            yield b',{"metric":' + matrix.labels[row].json() + between + text + b'"]}'


def _matrix(matrix: Matrix, timestamps: IntArray) -> Iterator[bytes]:
    rows_per_run = max(1, _POINTS_PER_RUN // max(1, len(timestamps)))
    for first in range(0, len(matrix.labels), rows_per_run):
        run = slice(first, first + rows_per_run)
        present = matrix.present[run]
        offsets = np.zeros(len(present) + 1, np.int64)
        np.cumsum(present.sum(axis=1), out=offsets[1:])
        times = np.broadcast_to(timestamps, present.shape)[present]
        yield from _series(matrix.labels[run], offsets, times, matrix.values[run][present])


def _block(block: SampleBlock) -> Iterator[bytes]:
    """The raw samples of an instant query of a range vector; a series may have millions."""
    return _series(block.labels, block.offsets, block.timestamps, block.values)


def _series(
    labels: Sequence[Labels], offsets: IntArray, times: IntArray, values: FloatArray
) -> Iterator[bytes]:
    """Series with all of their points, in pieces; a comma is before each of them."""
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    times = np.ascontiguousarray(times, np.int64)
    for first in range(0, len(times), _POINTS_PER_RUN):
        end = min(first + _POINTS_PER_RUN, len(times))
        low = int(np.searchsorted(offsets, first, "right")) - 1
        high = int(np.searchsorted(offsets, end, "left"))
        heads = [b'{"metric":' + of.json() + b',"values":[' for of in labels[low:high]]
        head_offsets = np.zeros(len(heads) + 1, np.int64)
        np.cumsum([len(head) for head in heads], out=head_offsets[1:])
        n_bytes = int(head_offsets[-1]) + CLOSING_BYTES * len(heads)
        out = np.empty(n_bytes + MAX_POINT_BYTES * (end - first), np.uint8)
        joined = np.frombuffer(b"".join(heads), np.uint8)
        n_written = write_series(
            joined, head_offsets, offsets[low : high + 1], times, bits, first, end, out
        )
        yield out[:n_written].tobytes()


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
