"""Encodes samples of many series as pages, to the bit; `page_decoding` reads them.

One self-describing format holds arrivals, runs and blocks; docs/adr/0014-sample-codec.md describes
it, and `sql/samples/codec/page_kernels.py` has its layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
    without_histogram_bits,
)
from promcompat.core.model import FloatArray, IntArray
from sql.samples.codec.histogram_kernels import MAX_CELLS
from sql.samples.codec.histogram_sections import SectionWriter, cells_of, mean_cells, with_section
from sql.samples.codec.page_kernels import MAX_MS, MAX_SAMPLES, MIN_MS
from sql.samples.codec.page_writing_kernels import SAMPLE_BYTES, SERIES_BYTES, write_pages
from sql.samples.columns.series_samples import SeriesSamples

MAX_PAGE_SAMPLES: Final = 8_192
MAX_PAGE_BYTES: Final = 64 * 1024
"""Of the pages of arrivals, runs and blocks."""
_HEAD_BYTES: Final = 256
_SAMPLES_AT_ONCE: Final = 1 << 17
"""Bounds the buffer that pages are written to, to 21 MB."""
_LARGEST_SAMPLE_BYTES: Final = 24
"""What a sample of a long page takes at most."""
_USUAL_SAMPLE_BYTES: Final = 16
"""Few samples take more, whatever they are; so many are not judged by a trial first."""
_TRIED_SAMPLES: Final = 1_024
"""This many are encoded on trial, to judge how many fit into a page."""
_USUAL_CELL_BYTES: Final = 2
"""Few histograms take more for each of their cells, see `cells_of`."""
_TRIED_HISTOGRAMS: Final = 128
"""Samples with histograms that are encoded on trial. Each has many numbers."""


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
    most, n_tried, usual_bytes = min(largest, len(samples)), _TRIED_SAMPLES, _USUAL_SAMPLE_BYTES
    if samples.histograms is not None:
        n_tried = _TRIED_HISTOGRAMS
        usual_bytes += int(_USUAL_CELL_BYTES * mean_cells(samples.histograms))
    elif largest * _LARGEST_SAMPLE_BYTES <= max_bytes:
        return largest
    if most * usual_bytes <= max_bytes:
        return largest
    tried = min(most, n_tried)
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
