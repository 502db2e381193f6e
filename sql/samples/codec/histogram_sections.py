"""The histograms of pages: from columns to the sections behind pages of floats, and back."""

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import Histograms, Ragged
from promcompat.core.model import BoolArray, IntArray
from sql.samples.codec import histogram_kernels as kernels
from sql.samples.codec import histogram_reading_kernels as columns
from sql.samples.codec.histogram_kernels import MAX_CELLS, measure_sections
from sql.samples.codec.histogram_reading_kernels import read_sections
from sql.samples.codec.histogram_writing_kernels import write_section
from sql.samples.codec.page_kernels import HISTOGRAM_VERSION, SECTION_SIZE_BYTES

_SECTION_BYTES: Final = 2_048
_HISTOGRAM_BYTES: Final = 512
_CELL_BYTES: Final = 128
"""The worst case of a section, for each histogram and cell, and for itself."""


def cells_of(histograms: Histograms) -> IntArray:
    """How much each histogram takes of what a page may have, `MAX_CELLS`."""
    ends = _ends_of_cells(histograms)
    return ends[1:] - ends[:-1]


def mean_cells(histograms: Histograms) -> float:
    """The mean of `cells_of`, of at least one histogram."""
    return float(_ends_of_cells(histograms)[-1]) / len(histograms)


def are_too_large(histograms: Histograms) -> BoolArray:
    """Which histograms no page can have."""
    return np.asarray(cells_of(histograms) > MAX_CELLS)


def _ends_of_cells(histograms: Histograms) -> IntArray:
    """The sums of `cells_of` up to each histogram; begins with 0."""
    ends = histograms.positive_spans.offsets + histograms.negative_spans.offsets
    ends += 2 * histograms.bounds.offsets
    ends *= 2
    ends += histograms.positive.offsets
    ends += histograms.negative.offsets
    return ends


@dataclass(frozen=True)
class SectionWriter:
    """Writes sections of histograms."""

    histograms: Histograms

    @cached_property
    def cells(self) -> IntArray:
        """See `cells_of`."""
        return cells_of(self.histograms)

    @cached_property
    def _columns(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        own = self.histograms
        flat = (
            _required(own.schemas, np.int8),
            _required(own.hints, np.uint8),
            _required(own.is_float, np.bool_),
            _required(own.zero_thresholds, np.float64),
            _required(own.zero_counts, np.int64),
            _required(own.counts, np.int64),
            _required(own.sums, np.float64),
        )
        ragged = (
            *_ragged(own.positive_spans, np.int32),
            *_ragged(own.negative_spans, np.int32),
            *_ragged(own.positive, np.int64),
            *_ragged(own.negative, np.int64),
        )
        return flat, ragged, _ragged(own.bounds, np.float64)

    def section(self, numbers: IntArray, is_first: BoolArray) -> bytes:
        """The section of these histograms; `is_first` marks those that begin a series.

        Raises ValueError for more buckets, spans and bounds than a page can have.
        """
        n_cells = int(self.cells[numbers].sum())
        if n_cells > MAX_CELLS:
            raise ValueError(
                f"histograms of a page have {n_cells:,} cells, more than {MAX_CELLS:,}"
            )
        size = _SECTION_BYTES + _HISTOGRAM_BYTES * len(numbers) + _CELL_BYTES * n_cells
        out = np.empty(size, np.uint8)
        n_bytes = write_section(*self._columns, numbers, is_first, out)
        return out[:n_bytes].tobytes()


def _required(column: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """The column as kernels take it; a copy if it is read-only or not contiguous."""
    return np.require(column, dtype, ["C", "W"])


def _ragged(column: Ragged[Any], dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    return _required(column.offsets, np.int64), _required(column.cells, dtype)


def with_section(payload: bytes, section: bytes) -> bytes:
    """The page of floats as a page with histograms."""
    head = bytes([HISTOGRAM_VERSION | payload[0] & 0xF0])
    size = len(section).to_bytes(SECTION_SIZE_BYTES, "little")
    body = b"".join((payload[5:], section, size))
    checksum = zlib.crc32(body, zlib.crc32(head))
    return b"".join((head, checksum.to_bytes(4, "little"), body))


class SectionError(ValueError):
    """A section cannot be read: its number, and the error of the kernel."""

    def __init__(self, index: int, error: int) -> None:
        super().__init__(f"section {index} cannot be read: error {error}")
        self.index = index
        self.error = error


def read_histograms(pages: NDArray[np.uint8], places: IntArray) -> tuple[Histograms, IntArray]:
    """The histograms of the sections at `places` [k, 2], and how many each section has.

    Raises SectionError. `READ_AHEAD` bytes follow the last page; places may be any numbers.
    """
    totals = np.zeros((len(places), kernels.N_TOTALS), np.int64)
    _check(*measure_sections(pages, places, totals))
    sums = totals.sum(axis=0).tolist()
    n = sums[kernels.HISTOGRAMS]
    flat, offsets = np.empty((columns.N_FLAT, n), np.int64), np.empty((5, n + 1), np.int64)
    spans = [np.empty((sums[kernels.SPANS + side], 2), np.int32) for side in (0, 1)]
    buckets = [np.empty(sums[kernels.BUCKETS + side], np.int64) for side in (0, 1)]
    bounds = np.empty(sums[kernels.BOUNDS], np.int64)
    _check(
        *read_sections(
            pages, places, totals, flat, offsets, spans[0], spans[1], buckets[0], buckets[1], bounds
        )
    )
    histograms = Histograms(
        flat[columns.SCHEMA].astype(np.int8),
        flat[columns.HINT].astype(np.uint8),
        flat[columns.IS_FLOAT].astype(np.bool_),
        flat[columns.THRESHOLD].view(np.float64),
        flat[columns.ZERO_COUNT],
        flat[columns.COUNT],
        flat[columns.SUM].view(np.float64),
        Ragged(offsets[0], spans[0]),
        Ragged(offsets[1], spans[1]),
        Ragged(offsets[2], buckets[0]),
        Ragged(offsets[3], buckets[1]),
        Ragged(offsets[4], bounds.view(np.float64)),
    )
    return histograms, totals[:, kernels.HISTOGRAMS]


def _check(error: int, index: int) -> None:
    if error < 0:
        raise SectionError(index, error)
