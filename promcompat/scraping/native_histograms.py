"""The native histograms of a scrape: decoded, checked, and no finer than the job allows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import CUSTOM_BUCKETS, Histograms, Ragged
from promcompat.core.histograms.layout import reduced
from promcompat.core.histograms.validation import LAST_SCHEMA
from promcompat.core.model import FloatArray, IntArray
from promcompat.remote_write.histograms import decode_histograms
from promcompat.scraping.configuration import HistogramOptions

_FIRST_SCHEMA = -4


class HistogramError(Exception):
    """A histogram cannot be stored: it is not valid, or has too many buckets."""

    def __init__(self, number: int, reason: str, *, is_too_large: bool = False) -> None:
        super().__init__(reason)
        self.number = number
        """Its number among the messages."""
        self.is_too_large = is_too_large


@dataclass(frozen=True, slots=True)
class ScrapedHistograms:
    """The histograms of messages; `cells` refer to them, or are stale markers."""

    cells: FloatArray
    histograms: Histograms


def read_histograms(messages: Sequence[bytes], options: HistogramOptions) -> ScrapedHistograms:
    """The histograms of messages of remote write.

    Raises HistogramError, with Prometheus' text.
    """
    try:
        found = decode_histograms(messages)
    except BadDataError as exc:
        raise HistogramError(0, str(exc)) from exc
    if found.faults:
        number = min(found.faults)
        raise HistogramError(number, found.faults[number])
    pool = _at_schema(found.histograms, finest_schema(options.min_bucket_factor))
    if options.bucket_limit:
        pool = _within(pool, options.bucket_limit)
    return ScrapedHistograms(found.bits.view(np.float64), pool)


def finest_schema(min_factor: float) -> int:
    """The finest schema whose buckets grow by at least a factor; 0 sets no limit."""
    if not min_factor > 1:
        return LAST_SCHEMA
    schema = max(-math.log2(math.log2(min_factor)), _FIRST_SCHEMA)
    return min(math.floor(schema), LAST_SCHEMA)


def _at_schema(histograms: Histograms, finest: int) -> Histograms:
    schemas = histograms.schemas.astype(np.int64)
    shifts = np.where(schemas == CUSTOM_BUCKETS, 0, np.maximum(schemas - finest, 0))
    return reduced(histograms, shifts)


def _within(histograms: Histograms, limit: int) -> Histograms:
    """The histograms at the first resolution with few enough buckets. Raises HistogramError."""
    while (is_over := _n_populated(histograms) > limit).any():
        # Custom buckets have a lower number than any resolution.
        is_last = is_over & (histograms.schemas <= _FIRST_SCHEMA)
        if is_last.any():
            # Stale markers are the only messages without a histogram, and no target sends any.
            number = int(np.flatnonzero(is_last)[0])
            raise HistogramError(number, "histogram bucket limit exceeded", is_too_large=True)
        histograms = reduced(histograms, is_over.astype(np.int64))
    return histograms


def _n_populated(histograms: Histograms) -> IntArray:
    """Empty buckets do not count: Prometheus leaves them out before it looks."""
    return sum(
        (_n_nonzero(side) for side in (histograms.positive, histograms.negative)),
        start=np.zeros(len(histograms), np.int64),
    )


def _n_nonzero(side: Ragged[np.int64]) -> IntArray:
    # -0.0 is no count, and the bits of other floats are 0 only for 0.0.
    rows = side.rows_of_cells()[side.cells != 0]
    return np.bincount(rows, minlength=len(side))
