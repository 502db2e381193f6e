"""The sample codec: samples of many series to pages and back, to the bit.

One self-describing format holds arrivals, runs and blocks; docs/adr/0014-sample-codec.md describes
it, and `sql/samples/codec/page_kernels.py` has its layout. `decode_page` reads it in SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
    usual_nans,
    without_histogram_bits,
)
from promcompat.core.model import FloatArray, IntArray
from sql.samples.codec.column_kernels import INCONSISTENT, READ_AHEAD
from sql.samples.codec.histogram_kernels import MAX_CELLS
from sql.samples.codec.histogram_sections import (
    SectionError,
    SectionWriter,
    cells_of,
    read_histograms,
    with_section,
)
from sql.samples.codec.page_kernels import (
    MAX_MS,
    MAX_SAMPLES,
    MIN_MS,
    SECTION_SIZE_BYTES,
    measure_pages,
    read_pages,
)
from sql.samples.codec.page_writing_kernels import SAMPLE_BYTES, SERIES_BYTES, write_pages
from sql.samples.columns.fold_kernels import copy_rows
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples

_HEAD_BYTES: Final = 256
_SAMPLES_AT_ONCE: Final = 1 << 17
"""Bounds the buffer that pages are written to, to 21 MB."""
_LARGEST_SAMPLE_BYTES: Final = 24
"""What a sample of a long page takes at most."""
_USUAL_SAMPLE_BYTES: Final = 16
"""Few samples take more, whatever they are; so many are not judged by a trial first."""
_TRIED_SAMPLES: Final = 1_024
"""This many are encoded on trial, to judge how many fit into a page."""
_FAULTS: Final = {
    -1: "it ends too early",
    -2: "it has no known format version",
    -3: "its checksum does not match its bytes",
    -4: "its columns contradict each other",
    -5: "times do not ascend, or are not in the years 1 to 9999",
}
_NO_INTEGERS: Final = np.empty(0, np.int64)


class CorruptPageError(ValueError):
    """Bytes are no page of samples; `index` is the place of the payload among those decoded."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"page {index} cannot be decoded: {reason}")
        self.index = index
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Page:
    """Encoded samples, sorted by series and time, and their bounds; all bounds are inclusive."""

    payload: bytes
    n_samples: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int


def encode_pages(
    samples: SeriesSamples,
    max_samples: int,
    max_bytes: int,
    per_series: bool = False,
    cuts: IntArray | None = None,
) -> list[Page]:
    """Pages in the order of the samples, cut within a series only where it does not fit.

    With `per_series`, no page has samples of two series. No page has rows on both sides of one of
    the `cuts` (the first one is 0, the last one behind all rows), and ids need to ascend between
    two of them only. A page has at most `MAX_SAMPLES` (65,536) samples; one of a single sample may
    exceed `max_bytes`. Cells of samples without histograms refer to none: such a cell becomes the
    usual NaN. Raises ValueError for times outside the years 1 to 9999.
    """
    if not len(samples):
        return []
    if samples.histograms is None:
        samples = replace(samples, values=without_histogram_bits(samples.values))
    if samples.timestamps.min() < MIN_MS or samples.timestamps.max() > MAX_MS:
        raise ValueError("times of samples must be in the years 1 to 9999")
    largest = max(1, min(max_samples, MAX_SAMPLES))
    if cuts is not None:
        starts, ends = _within(samples.offsets, cuts, largest)
    else:
        if not per_series:
            largest = _fitting(samples, largest, max_bytes)
        cuts = _page_cuts(samples.offsets, largest, per_series)
        starts, ends = cuts[:-1], cuts[1:]
    starts, ends = _without_heavy(samples, starts, ends)
    finished: list[tuple[int, Page]] = []
    while len(starts):
        too_large = []
        for begin, end, page in _written(samples, starts, ends):
            if len(page.payload) > max_bytes and page.n_samples > 1:
                too_large.append((begin, _middle(samples.offsets, begin, end), end))
            else:
                finished.append((begin, page))
        halves = np.array(too_large, np.int64).reshape(-1, 3)
        starts, ends = halves[:, :2].reshape(-1), halves[:, 1:].reshape(-1)
    finished.sort(key=lambda item: item[0])
    return [page for _, page in finished]


def _within(offsets: IntArray, cuts: IntArray, largest: int) -> tuple[IntArray, IntArray]:
    """The pages between cuts, those with too many samples cut in two as often as needed."""
    starts, ends = cuts[:-1], cuts[1:]
    while (is_large := ends - starts > largest).any():
        bounds = zip(starts[is_large].tolist(), ends[is_large].tolist(), strict=True)
        middles = [_middle(offsets, begin, end) for begin, end in bounds]
        starts = np.sort(np.append(starts, middles))
        ends = np.append(starts[1:], ends[-1])
    return starts, ends


def encode_cut(samples: SeriesSamples, cuts: IntArray) -> list[Page]:
    """A page for the samples from each cut to the next one; the last cut is behind all samples.

    The ids need to ascend within a page only, and a page has at most `MAX_SAMPLES` samples.
    """
    return [page for _, _, page in _written(samples, cuts[:-1], cuts[1:])]


def _without_heavy(
    samples: SeriesSamples, starts: IntArray, ends: IntArray
) -> tuple[IntArray, IntArray]:
    """The pages, cut such that none has more of histograms than `MAX_CELLS`."""
    if samples.histograms is None:
        return starts, ends
    places = np.flatnonzero(is_histogram(samples.values))
    cells = np.zeros(len(samples) + 1, np.int64)
    cells[places + 1] = cells_of(samples.histograms)[histogram_numbers(samples.values[places])]
    np.cumsum(cells, out=cells)
    cuts, left = [], list(zip(starts.tolist(), ends.tolist(), strict=True))
    while left:
        begin, end = left.pop()
        if cells[end] - cells[begin] > MAX_CELLS and end - begin > 1:
            middle = _middle(samples.offsets, begin, end)
            left += [(middle, end), (begin, middle)]
        else:
            cuts.append((begin, end))
    bounds = np.array(cuts, np.int64)
    return bounds[:, 0], bounds[:, 1]


def _fitting(samples: SeriesSamples, largest: int, max_bytes: int) -> int:
    """How many samples fit into a page, judged by some, as too large a page is encoded again."""
    most = min(largest, len(samples))
    if largest * _LARGEST_SAMPLE_BYTES <= max_bytes or most * _USUAL_SAMPLE_BYTES <= max_bytes:
        return largest
    tried = min(most, _TRIED_SAMPLES)
    begin = (len(samples) - tried) // 2
    start = np.array([begin])
    start, end = (bounds[:1] for bounds in _without_heavy(samples, start, start + tried))
    tried = int(end[0] - start[0])
    [page] = _write(samples, start, end)
    return max(1, min(largest, int(0.9 * max_bytes * tried / len(page.payload))))


def _page_cuts(offsets: IntArray, largest: int, per_series: bool) -> IntArray:
    """The first rows of pages, and the row behind the last one."""
    if per_series:
        parts = -(-np.diff(offsets) // largest)
        within = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        return np.append(np.repeat(offsets[:-1], parts) + within * largest, offsets[-1])
    cuts = [0]
    while cuts[-1] < offsets[-1]:
        cuts.append(_last_boundary(offsets, cuts[-1], cuts[-1] + largest))
    return np.array(cuts, np.int64)


def _last_boundary(offsets: IntArray, begin: int, limit: int) -> int:
    """The last row up to `limit` that a series ends at; `limit` if there is none after `begin`."""
    boundary = int(offsets[np.searchsorted(offsets, limit, "right") - 1])
    return boundary if boundary > begin else limit


def _middle(offsets: IntArray, begin: int, end: int) -> int:
    """Where to cut a page in two: between two series if it has several."""
    middle = (begin + end) // 2
    boundary = _last_boundary(offsets, begin, middle)
    if boundary < middle:
        return boundary
    following = int(offsets[np.searchsorted(offsets, middle, "left")])
    return following if following < end else middle


def _written(
    samples: SeriesSamples, starts: IntArray, ends: IntArray
) -> list[tuple[int, int, Page]]:
    """Each page with its first row and the row behind it, some pages at a time."""
    written: list[tuple[int, int, Page]] = []
    sizes = np.cumsum(ends - starts)
    begin = 0
    while begin < len(starts):
        done = sizes[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(sizes, done + _SAMPLES_AT_ONCE, "right")))
        pages = _write(samples, starts[begin:end], ends[begin:end])
        written += zip(starts[begin:end].tolist(), ends[begin:end].tolist(), pages, strict=True)
        begin = end
    return written


def _write(samples: SeriesSamples, starts: IntArray, ends: IntArray) -> list[Page]:
    """The pages of ascending, not necessarily adjacent, ranges of rows."""
    first = np.searchsorted(samples.offsets, starts, "right") - 1
    behind = np.searchsorted(samples.offsets, ends, "left")
    n_series = behind - first
    pages = np.append(0, np.cumsum(n_series))
    series, rows, offsets = _cut_out(samples.offsets, starts, ends, first, behind)
    times = np.ascontiguousarray(samples.timestamps[rows])
    values = np.ascontiguousarray(samples.values[rows])
    sections: Sequence[bytes] = ()
    if samples.histograms is not None:
        values, sections = _sections(samples.histograms, values, offsets, pages)
    ids = np.ascontiguousarray(samples.ids[series])
    most_series, most_samples = int(n_series.max()), int((ends - starts).max())
    out = np.empty(
        SERIES_BYTES * len(ids) + SAMPLE_BYTES * len(times) + _HEAD_BYTES * len(starts), np.uint8
    )
    positions = np.zeros(len(pages), np.int64)
    write_pages(
        ids, offsets, times, values, values.view(np.int64), pages, most_series, most_samples, out,
        positions,
    )  # fmt: skip
    payloads = out[: positions[-1]].tobytes()
    bounds = np.column_stack(
        (
            positions[:-1],
            positions[1:],
            ends - starts,
            ids[pages[:-1]],
            ids[pages[1:] - 1],
            np.minimum.reduceat(times, offsets[pages[:-1]]),
            np.maximum.reduceat(times, offsets[pages[:-1]]),
        )
    )
    written = [Page(payloads[begin:end], *rest) for begin, end, *rest in bounds.tolist()]
    if not sections:
        return written
    return [
        replace(page, payload=with_section(page.payload, section)) if section else page
        for page, section in zip(written, sections, strict=True)
    ]


def _sections(
    histograms: Histograms, values: FloatArray, offsets: IntArray, pages: IntArray
) -> tuple[FloatArray, Sequence[bytes]]:
    """Values without numbers of histograms, and the section of each page, empty if it has none.

    Page `k` has the series `pages[k]` to `pages[k + 1]`, each of which has rows up to an offset.
    """
    places = np.flatnonzero(is_histogram(values))
    if not len(places):
        return values, ()
    numbers, writer = histogram_numbers(values[places]), SectionWriter(histograms)
    values = values.copy()
    values[places] = histogram_cells(np.zeros(1, np.int64))
    series = np.searchsorted(offsets, places, "right")
    is_first = np.diff(series, prepend=-1) != 0
    cuts = np.searchsorted(places, offsets[pages]).tolist()
    return values, [
        writer.section(numbers[begin:end], is_first[begin:end]) if end > begin else b""
        for begin, end in pairwise(cuts)
    ]


def _cut_out(
    all_offsets: IntArray, starts: IntArray, ends: IntArray, first: IntArray, behind: IntArray
) -> tuple[IntArray | slice, IntArray | slice, IntArray]:
    """The series and the rows of some pages, and the offsets of each series among these rows.

    `first` and `behind` are the first series of each page and the one behind its last.
    """
    rows = slice(int(starts[0]), int(ends[-1]))
    is_adjacent = (starts[1:] == ends[:-1]).all() and (first[1:] == behind[:-1]).all()
    if is_adjacent and (all_offsets[first] == starts).all() and all_offsets[behind[-1]] == ends[-1]:
        # Pages of whole series, one after the other, as nearly all are: nothing needs to be copied.
        of_pages = slice(int(first[0]), int(behind[-1]))
        return of_pages, rows, all_offsets[of_pages.start : of_pages.stop + 1] - rows.start
    n_series = behind - first
    before = np.cumsum(n_series) - n_series
    series = np.arange(n_series.sum()) + np.repeat(first - before, n_series)
    low = np.maximum(all_offsets[series], np.repeat(starts, n_series))
    high = np.minimum(all_offsets[series + 1], np.repeat(ends, n_series))
    offsets = np.append(0, np.cumsum(high - low))
    if offsets[-1] == rows.stop - rows.start:
        return series, rows, offsets
    return series, np.arange(offsets[-1]) + np.repeat(low - offsets[:-1], high - low), offsets


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
