"""Decodes pages into samples of many series, to the bit; `decode_page` does the same in SQL."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import (
    histogram_cells,
    histogram_numbers,
    is_histogram,
    usual_nans,
)
from promcompat.core.model import IntArray
from sql.samples.codec.column_kernels import INCONSISTENT, READ_AHEAD
from sql.samples.codec.histogram_sections import SectionError, read_histograms
from sql.samples.codec.page_kernels import (
    HISTOGRAM_VERSION,
    MAX_MS,
    MIN_MS,
    SECTION_SIZE_BYTES,
    measure_pages,
    read_pages,
)
from sql.samples.columns.fold_kernels import copy_rows
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples

_FAULTS: Final = {
    -1: "it ends too early",
    -2: "it has no known format version",
    -3: "its checksum does not match its bytes",
    -4: "its columns contradict each other",
    -5: "times do not ascend, or are not in the years 1 to 9999",
}
_NO_INTEGERS: Final = np.empty(0, np.int64)
_HISTOGRAM_HEAD: Final = bytes([HISTOGRAM_VERSION])
_HISTOGRAM_WEIGHT: Final = 8
"""A byte of a page with histograms becomes about as many more bytes than one with floats."""


def unpacked_bytes(payload: bytes) -> int:
    """The size of a payload; of one with histograms, about what they take in memory.

    Also in sql/routines (`unpacked_bytes`).
    """
    has_histograms = payload[:1] == _HISTOGRAM_HEAD
    return len(payload) * (_HISTOGRAM_WEIGHT if has_histograms else 1)


class CorruptPageError(ValueError):
    """Bytes are no page of samples; `index` is the place of the payload among those decoded."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"page {index} cannot be decoded: {reason}")
        self.index = index
        self.reason = reason


def decode_pages(
    payloads: Sequence[bytes],
    wanted: IntArray | None = None,
    start_ms: int = MIN_MS - 1,
    end_ms: int = MAX_MS,
) -> list[SeriesSamples]:
    """The samples of each page: of the `wanted` series (ids, ascending) in `(start_ms, end_ms]`.

    Raises CorruptPageError for bytes that are no page. Nothing is read outside them, and at most
    2 MB is allocated for each payload.
    """
    samples, page_ends = _read(payloads, wanted, start_ms, end_ms)
    series = pairwise(page_ends.tolist())
    if samples.histograms is not None:
        return [_part_with_histograms(samples, *bounds) for bounds in series]
    offsets = samples.offsets
    parts = []
    for first, behind in series:
        rows = slice(int(offsets[first]), int(offsets[behind]))
        parts.append(
            SeriesSamples(
                samples.ids[first:behind],
                offsets[first : behind + 1] - offsets[first],
                samples.timestamps[rows],
                samples.values[rows],
            )
            if behind > first
            else NO_SAMPLES
        )
    return parts


def _part_with_histograms(samples: SeriesSamples, first: int, behind: int) -> SeriesSamples:
    """Neighbouring series of samples whose histograms are in the order of their cells."""
    if behind == first:
        return NO_SAMPLES
    assert samples.histograms is not None
    offsets = samples.offsets
    rows = slice(int(offsets[first]), int(offsets[behind]))
    values, histograms = samples.values[rows], None
    places = np.flatnonzero(is_histogram(values))
    if len(places):
        number = int(histogram_numbers(values[places[:1]])[0])
        values = values.copy()
        values[places] = histogram_cells(np.arange(len(places)))
        histograms = samples.histograms.take(slice(number, number + len(places)))
    return SeriesSamples(
        samples.ids[first:behind],
        offsets[first : behind + 1] - offsets[first],
        samples.timestamps[rows],
        values,
        histograms=histograms,
    )


def decode_joined(
    payloads: Sequence[bytes],
    wanted: IntArray | None = None,
    start_ms: int = MIN_MS - 1,
    end_ms: int = MAX_MS,
) -> SeriesSamples:
    """The samples of pages as one, in the order of series and time.

    Of a series, each page has times of its own. The arguments and errors are those of
    `decode_pages`. Raises ValueError if the times of two pages alternate.
    """
    samples, _ = _read(payloads, wanted, start_ms, end_ms)
    ids, offsets = samples.ids, samples.offsets
    if len(ids) < 2:
        return samples
    if (ids[1:] > ids[:-1]).all():
        return samples
    firsts, lasts = samples.timestamps[offsets[:-1]], samples.timestamps[offsets[1:] - 1]
    order = np.lexsort((firsts, ids))
    is_next = ids[order[1:]] != ids[order[:-1]]  # The difference of two ids may overflow.
    if not (is_next | (firsts[order[1:]] > lasts[order[:-1]])).all():
        raise ValueError("the pages to be joined have samples of a series within the same times")
    return _in_order(samples, order, np.append(0, np.flatnonzero(is_next) + 1))


def _in_order(samples: SeriesSamples, order: IntArray, heads: IntArray) -> SeriesSamples:
    """The parts of samples in another order; the series begin with the parts at `heads`."""
    starts, lengths = samples.offsets[order], np.diff(samples.offsets)[order]
    offsets = np.append(0, np.cumsum(lengths))
    ids = samples.ids[order][heads]
    if np.array_equal(starts, offsets[:-1]):
        return replace(samples, ids=ids, offsets=np.append(offsets[heads], offsets[-1]))
    times, bits = np.empty((2, len(samples)), np.int64)
    columns = samples.timestamps, samples.values.view(np.int64)
    copy_rows(*columns, starts, lengths, offsets[:-1].copy(), times, bits)
    return replace(
        samples,
        ids=ids,
        offsets=np.append(offsets[heads], offsets[-1]),
        timestamps=times,
        values=bits.view(np.float64),
    )


def _read(
    payloads: Sequence[bytes], wanted: IntArray | None, start_ms: int, end_ms: int
) -> tuple[SeriesSamples, IntArray]:
    """The samples of pages one behind the other, and where the series of each page end."""
    pages = np.frombuffer(bytearray().join([*payloads, bytes(READ_AHEAD)]), np.uint8)
    sizes = np.zeros((len(payloads), 3), np.int64)
    bounds, page_ends = np.zeros(len(sizes) + 1, np.int64), np.zeros((2, len(sizes) + 1), np.int64)
    np.cumsum(np.fromiter(map(len, payloads), np.int64, len(payloads)), out=bounds[1:])
    _check(*measure_pages(pages, bounds, sizes))
    n_samples, n_series, _ = sizes.sum(axis=0).tolist()
    ids, ends = np.empty(n_series, np.int64), np.zeros(n_series + 1, np.int64)
    times, values = np.empty(n_samples, np.int64), np.empty(n_samples, np.float64)
    _check(
        *read_pages(
            pages,
            bounds,
            sizes,
            _NO_INTEGERS if wanted is None else wanted,
            wanted is None,
            max(start_ms, MIN_MS - 1),
            min(end_ms, MAX_MS),
            ids,
            ends,
            times,
            values.view(np.int64),
            page_ends,
        )
    )
    found = int(page_ends[0, -1])
    rows = int(ends[found])
    columns = (ids[:found], ends[: found + 1], times[:rows], values[:rows])
    if rows * 2 < n_samples:
        columns = tuple(column.copy() for column in columns)  # type: ignore[assignment]
    samples = SeriesSamples(*columns)
    if page_ends[1, -1]:
        samples = _with_histograms(samples, pages, bounds, sizes[:, 2], page_ends)
    return samples, page_ends[0]


def _with_histograms(
    samples: SeriesSamples,
    pages: NDArray[np.uint8],
    bounds: IntArray,
    floats_ends: IntArray,
    page_ends: IntArray,
) -> SeriesSamples:
    """Samples with the histograms that they refer to, in the order of the cells.

    The numbers in the cells count all histograms; page `k` has those up to `page_ends[1, k + 1]`.
    Only the sections of pages that are needed are read.
    """
    places = np.flatnonzero(is_histogram(samples.values))
    cell_ends = page_ends[1]
    of_page = np.searchsorted(samples.offsets[page_ends[0]], places, "right") - 1
    is_stray = np.diff(cell_ends)[of_page] == 0
    if is_stray.any():
        # Earlier releases stored any NaN; in a page without histograms it refers to nothing.
        samples.values[places[is_stray]] = usual_nans(int(is_stray.sum()))
        places, of_page = places[~is_stray], of_page[~is_stray]
    numbers = histogram_numbers(samples.values[places])
    needed, first = np.unique(of_page, return_index=True)
    if not len(needed):
        return samples
    behind = bounds[needed + 1] - SECTION_SIZE_BYTES
    try:
        found, counts = read_histograms(pages, np.column_stack((floats_ends[needed], behind)))
    except SectionError as exc:
        _check(exc.error, int(needed[exc.index]))
        raise
    sizes = np.diff(cell_ends)[needed]
    if (counts != sizes).any():
        _check(INCONSISTENT, int(needed[np.flatnonzero(counts != sizes)[0]]))
    before = np.repeat(
        cell_ends[needed] - (np.cumsum(sizes) - sizes), np.diff(first, append=len(places))
    )
    chosen = numbers - before
    if len(chosen) < len(found):
        found = found.take(chosen)
    samples.values[places] = histogram_cells(np.arange(len(places)))
    return replace(samples, histograms=found)


def _check(error: int, index: int) -> None:
    if error < 0:
        raise CorruptPageError(index, _FAULTS[error])
