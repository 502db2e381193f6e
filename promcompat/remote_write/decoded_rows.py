"""Samples of remote write 2.0 that are decoded by themselves, and then join those of a message."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from promcompat.core.histograms.columns import Histograms, is_histogram
from promcompat.core.model import IntArray
from promcompat.remote_write.histograms import decode_parts
from promcompat.remote_write.left_series import (
    MAX_DESCRIBED,
    FoundHistograms,
    SampleRows,
    describe_fault,
    with_histograms,
)


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """Samples of a request that are decoded already, and how those of its message join them.

    `places` has for each sample of the message the row that follows it. `histograms` is what the
    bits of the rows refer to. `faults` are texts for some of the `n_bad_histograms`, whose rows are
    dropped. `n_start_timestamps` counts those of histograms.
    """

    rows: SampleRows
    places: IntArray
    histograms: Histograms | None = None
    n_histograms: int = 0
    n_bad_histograms: int = 0
    faults: tuple[str, ...] = ()
    n_start_timestamps: int = 0

    @classmethod
    def of(cls, rows: SampleRows, places: IntArray, found: FoundHistograms) -> Self:
        """Rows with the histograms that were found for some; see `decode_parts` for errors."""
        if not len(found.columns):
            return cls(rows, places)
        read = decode_parts(found.message, found.bounds)
        numbers = list(read.faults)
        return cls(
            with_histograms(rows, found.rows, read.part(slice(None)), numbers),
            places,
            read.histograms if len(read.histograms) else None,
            len(found.columns),
            len(numbers),
            tuple(
                describe_fault(read.faults[number], found.series_key(number))
                for number in numbers[:MAX_DESCRIBED]
            ),
            int(np.count_nonzero(read.starts)),
        )

    def joined(
        self, rows: SampleRows, histograms: Histograms | None
    ) -> tuple[SampleRows, Histograms | None]:
        """All rows in the order of the request, and what they refer to; changes `rows`."""
        if self.histograms is None or histograms is None:
            joined = self.histograms if histograms is None else histograms
            return self.rows.with_others(self.places, rows), joined
        # Numbers are the low bits, which no sum carries out of.
        rows.bits[is_histogram(rows.bits.view(np.float64))] += np.uint64(len(self.histograms))
        joined = Histograms.joined([self.histograms, histograms])
        return self.rows.with_others(self.places, rows), joined
