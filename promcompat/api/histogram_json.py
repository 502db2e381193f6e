"""Native histograms in the JSON of the Prometheus HTTP API.

A histogram is `{"count":"…","sum":"…","buckets":[[code,"lower","upper","count"],…]}`. The code says
which bounds belong to the bucket: 0 the upper one, 1 the lower one, 3 both.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise

import numpy as np

from promcompat.api.float_format import (
    format_sample_values,
    format_timestamp,
    format_timestamps,
)
from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import FloatArray, IntArray, Labels, SampleBlock
from promql.histograms.listed_buckets import listed_buckets
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix

_HISTOGRAMS_AT_ONCE = 256
"""Bounds the memory of the texts of buckets."""
_LEADS = [b'"],[' + str(code).encode() + b',"' for code in range(4)]
_PARTS_OF_BUCKET = 6
Numbered = Callable[[IntArray], HistogramColumns]
"""The histograms with these numbers."""


def histogram_objects(histograms: HistogramColumns) -> list[bytes]:
    """The JSON object of each histogram."""
    buckets = _bucket_lists(histograms)
    counts, sums = format_sample_values(histograms.counts), format_sample_values(histograms.sums)
    return [
        b'{"count":"' + count + b'","sum":"' + total + b'"' + listed + b"}"
        for count, total, listed in zip(counts, sums, buckets, strict=True)
    ]


def _bucket_lists(histograms: HistogramColumns) -> Iterator[bytes]:
    """The key `buckets` of each histogram, or nothing if all are empty."""
    listed = listed_buckets(histograms)
    n = len(listed.counts)
    parts = [b""] * (_PARTS_OF_BUCKET * n)
    # Each lead closes the bucket before it; the first has none before it.
    parts[0::6] = [_LEADS[code] for code in listed.closed.tolist()]
    parts[1::6] = format_sample_values(listed.lowers)
    parts[2::6] = parts[4::6] = [b'","'] * n
    parts[3::6] = format_sample_values(listed.uppers)
    parts[5::6] = format_sample_values(listed.counts)
    bounds = (listed.offsets * _PARTS_OF_BUCKET).tolist()
    for first, end in pairwise(bounds):
        joined = b"".join(parts[first:end])
        yield b',"buckets":[' + joined[3:] + b'"]]' if joined else b""


def mixed_vector(
    matrix: Matrix, histograms: HistogramColumns, timestamps: IntArray
) -> Iterator[bytes]:
    """The items of an instant vector, in its order."""
    present = np.flatnonzero(matrix.present[:, 0])
    values = matrix.values[present, 0]
    is_there = is_histogram(values)
    objects = _objects(histograms.take, histogram_numbers(values[is_there]))
    texts = iter(format_sample_values(values[~is_there]))
    time = format_timestamp(int(timestamps[0])).encode()
    for row, is_object in zip(present.tolist(), is_there.tolist(), strict=True):
        start = b'{"metric":' + matrix.labels[row].json()
        if is_object:
            yield start + b',"histogram":[' + time + b"," + next(objects) + b"]}"
        else:
            yield start + b',"value":[' + time + b',"' + next(texts) + b'"]}'


def mixed_matrix(
    matrix: Matrix, histograms: HistogramColumns, timestamps: IntArray
) -> Iterator[bytes]:
    """The items of a range vector; a series of both kinds has `values` and `histograms`."""
    times = format_timestamps(timestamps)
    cells = matrix.values[matrix.present]
    objects = _objects(histograms.take, histogram_numbers(cells[is_histogram(cells)]))
    for row, labels in enumerate(matrix.labels):
        steps = np.flatnonzero(matrix.present[row])
        if len(steps):
            row_times = [times[step] for step in steps.tolist()]
            yield b"".join(_series(labels, row_times, matrix.values[row, steps], objects))


def mixed_block(block: SampleBlock) -> Iterator[bytes]:
    """The items of raw samples."""
    stored = block.histograms
    if stored is None:
        raise ValueError("the block has only floats")
    numbers = histogram_numbers(block.values[is_histogram(block.values)])
    objects = _objects(lambda index: HistogramColumns.of(stored.take(index)), numbers)
    bounds = block.offsets.tolist()
    for labels, first, end in zip(block.labels, bounds, bounds[1:], strict=False):
        if first < end:
            times = format_timestamps(block.timestamps[first:end])
            yield b"".join(_series(labels, times, block.values[first:end], objects))


def _objects(numbered: Numbered, numbers: IntArray) -> Iterator[bytes]:
    for first in range(0, len(numbers), _HISTOGRAMS_AT_ONCE):
        yield from histogram_objects(numbered(numbers[first : first + _HISTOGRAMS_AT_ONCE]))


def _series(
    labels: Labels, times: Sequence[bytes], values: FloatArray, objects: Iterator[bytes]
) -> Iterator[bytes]:
    """A series with samples; `objects` are the histograms that come next."""
    is_there = is_histogram(values)
    yield b'{"metric":' + labels.json()
    floats = np.flatnonzero(~is_there)
    if len(floats):
        texts = format_sample_values(values[floats])
        points = zip(floats.tolist(), texts, strict=True)
        yield (
            b',"values":['
            + b",".join(b"[" + times[place] + b',"' + text + b'"]' for place, text in points)
            + b"]"
        )
    places = np.flatnonzero(is_there).tolist()
    if places:
        found = zip(places, islice(objects, len(places)), strict=True)
        yield (
            b',"histograms":['
            + b",".join(b"[" + times[place] + b"," + item + b"]" for place, item in found)
            + b"]"
        )
    yield b"}"
