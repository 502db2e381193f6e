"""Query results as the JSON of the Prometheus HTTP API, without a Python step per point.

A point is `[<seconds>,"<value>"]`. The text before a value depends on its step only and is made
once for each step; the texts of all values of a run of series come from one pass of orjson. What
is left per point is C: `zip` and `bytes.join`.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import assert_never

import numpy as np
import orjson

from promcompat.api.float_format import (
    format_json_seconds,
    format_sample_values,
    format_scalar_value,
    format_timestamp,
)
from promcompat.api.json_text import dump_json
from promcompat.core.model import FloatArray, IntArray, Labels, SampleBlock
from promql.values import Matrix, QueryResult, ScalarGrid, StringValue

_POINTS_PER_RUN = 200_000
"""Bounds the memory of the texts in between (some 60 bytes a point) for results of any size."""

_STAGES = (
    "evalTotalTime",
    "resultSortTime",
    "queryPreparationTime",
    "innerEvalTime",
    "execQueueTime",
    "execTotalTime",
)


def render_query_data(result: QueryResult, with_stats: bool, *, per_step: bool = False) -> bytes:
    """The `data` object of a query: `resultType`, `result` and, when asked for, `stats`.

    `per_step` adds how many samples each step read.
    """
    value = result.value
    match value:
        case Matrix():
            kind = b"matrix" if result.is_range else b"vector"
            render = _matrix if result.is_range else _vector
            items = b"[" + b",".join(render(value, result.timestamps)) + b"]"
        case ScalarGrid() if result.is_range:
            kind, matrix = b"matrix", _as_matrix(value)
            items = b"[" + b",".join(_matrix(matrix, result.timestamps)) + b"]"
        case ScalarGrid():
            kind = b"scalar"
            text = format_scalar_value(float(value.values[0]))
            items = _single(result.timestamps, text)
        case StringValue():
            kind, items = b"string", _single(result.timestamps, value.value)
        case SampleBlock():
            kind, items = b"matrix", b"[" + b",".join(_block(value)) + b"]"
        case _:
            assert_never(value)
    stats = b',"stats":' + _stats(result, per_step) if with_stats else b""
    return b'{"resultType":"' + kind + b'","result":' + items + stats + b"}"


def _as_matrix(grid: ScalarGrid) -> Matrix:
    values = grid.values.reshape(1, -1)
    return Matrix.of((Labels(),), values, np.ones(values.shape, bool))


def _single(timestamps: IntArray, text: str) -> bytes:
    seconds = format_json_seconds(int(timestamps[0])).encode()
    return b"[" + seconds + b"," + dump_json(text) + b"]"


def _vector(matrix: Matrix, timestamps: IntArray) -> Iterator[bytes]:
    rows = np.flatnonzero(matrix.present[:, 0]).tolist()
    time = format_timestamp(int(timestamps[0])).encode()
    texts = format_sample_values(matrix.values[rows, 0])
    for row, text in zip(rows, texts, strict=True):
        labels = _labels(matrix.labels[row])
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
    """The raw samples of an instant query of a range vector."""
    bounds = block.offsets.tolist()
    for labels, first, last in zip(block.labels, bounds, bounds[1:], strict=False):
        if first < last:
            leads = _leads(block.timestamps[first:last])
            yield _series(labels, leads, format_sample_values(block.values[first:last]))


def _series(labels: Labels, leads: Sequence[bytes], texts: Sequence[bytes]) -> bytes:
    points = b"".join(chain.from_iterable(zip(leads, texts, strict=True)))
    # Each lead closes the point before it; the first has none before it.
    return b'{"metric":' + _labels(labels) + b',"values":[' + points[3:] + b'"]]}'


def _leads(timestamps: IntArray) -> list[bytes]:
    """`"],[<seconds>,"` for each time: what stands between two values."""
    return [f'"],[{format_timestamp(time)},"'.encode() for time in timestamps.tolist()]


def _labels(labels: Labels) -> bytes:
    return orjson.dumps(dict(labels.pairs))


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
