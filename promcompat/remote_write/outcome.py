"""What became of a remote-write request: what was stored, and what the sender is told."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from promcompat.core.errors import WriteRejectedError
from promcompat.core.exemplars import MAX_EXEMPLAR_CHARACTERS, AppendedExemplars
from promcompat.remote_write.decoder import DecodedWrite
from promcompat.remote_write.negotiation import WriteMessage

_REASONS_SHOWN: Final = 10
_TOO_LONG: Final = (
    f"label length for exemplar exceeds maximum of {MAX_EXEMPLAR_CHARACTERS} UTF-8 characters"
)
_WRITTEN: Final = "X-Prometheus-Remote-Write-{}-Written"


@dataclass(slots=True)
class WriteOutcome:
    """Counts of what was written, and texts for what was not. `message` is None until it is known.

    Repeats of samples that were stored before count as written: senders send a whole request again
    after a failure.
    """

    message: WriteMessage | None = None
    n_samples_written: int = 0
    n_histograms_written: int = 0
    n_exemplars_written: int = 0
    n_bad_histograms: int = 0
    n_refused: int = 0
    rejections: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    histogram_faults: list[str] = field(default_factory=list)
    is_decoded: bool = False

    def add(self, decoded: DecodedWrite) -> None:
        """Note what a part of the request has that is not in its batch."""
        self.is_decoded = True
        self.n_bad_histograms += decoded.n_bad_histograms
        self.histogram_faults += decoded.histogram_faults
        self.n_refused += len(decoded.refusals) + decoded.n_undescribed
        self.refusals += decoded.refusals[: _REASONS_SHOWN - len(self.refusals)]

    def add_written(
        self, decoded: DecodedWrite, rejection: WriteRejectedError | None = None
    ) -> None:
        """Note that the batch of a part of the request was stored, but for what was rejected."""
        n_written, is_histogram = len(decoded.batch), decoded.is_histogram
        if rejection is not None:
            is_written = np.ones(n_written, bool)
            is_written[[*rejection.rows, *rejection.refused]] = False
            self.rejections.append(str(rejection))
            n_written = int(np.count_nonzero(is_written))
            is_histogram = None if is_histogram is None else is_histogram & is_written
        if is_histogram is not None:
            n_histograms = int(np.count_nonzero(is_histogram))
            self.n_histograms_written += n_histograms
            n_written -= n_histograms
        self.n_samples_written += n_written

    def add_exemplars(self, appended: AppendedExemplars) -> None:
        """Note what became of exemplars; version 1.0 does not tell of those that are refused."""
        self.n_exemplars_written += appended.n_stored
        if self.message is not WriteMessage.V2:
            return
        refusals = [
            *(f"out of order exemplar for series {series}" for series in appended.out_of_order),
            *(f"{_TOO_LONG} for series {series}" for series in appended.invalid),
        ]
        self.n_refused += len(refusals)
        self.refusals += refusals[: _REASONS_SHOWN - len(self.refusals)]

    def report(self) -> None:
        """Raises WriteRejectedError if part of the request was not stored."""
        lines = self.rejections[:_REASONS_SHOWN]
        if self.n_refused:
            # Version 1.0 skips invalid series without an error, as Prometheus does.
            what = "series or metadata entries exceed a limit"
            if self.message is WriteMessage.V2:
                what = "series, exemplars or metadata entries are invalid or exceed a limit"
            lines.append(
                f"{self.n_refused} {what} and were not stored; the rest of the request was stored:"
            )
            lines += self.refusals
        if self.n_bad_histograms:
            shown = self.histogram_faults[:_REASONS_SHOWN]
            lines += shown
            if self.n_bad_histograms > len(shown):
                lines.append(f"{self.n_bad_histograms - len(shown)} more histograms are not valid")
        if lines:
            raise WriteRejectedError("\n".join(lines))

    def headers(self, status: int) -> dict[str, str]:
        """The headers that count what was written.

        Version 2.0 demands them. Without them, a sender of version 1.0 takes everything as written
        after 2xx, and nothing after 400: so a 400 has them in both versions, if part of the request
        may have been stored. After 5xx the sender sends everything again, so nothing counts.
        """
        if self.message is None:
            return {}
        if self.message is WriteMessage.V1 and not (status == 400 and self.is_decoded):
            return {}
        counts = {
            "Samples": self.n_samples_written,
            "Histograms": self.n_histograms_written,
            "Exemplars": self.n_exemplars_written,
        }
        is_kept = status < 500
        return {_WRITTEN.format(what): str(n if is_kept else 0) for what, n in counts.items()}
