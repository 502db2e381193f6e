"""Protobuf exposition that a client of a Pushgateway pushes: families become columns of samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.model import MetricMetadata
from promcompat.imports.columns import ColumnsBuilder, Faults, ImportedColumns
from promcompat.imports.strict_exposition import ExpositionError
from promcompat.remote_write.histograms import decode_histograms
from promcompat.scraping.protobuf_exposition import ReadExemplar, ScrapedFamilies, read_protobuf


def read_pushed(body: bytes, extra_labels: Mapping[str, str], now_ms: int) -> list[ImportedColumns]:
    """The samples of a body, floats apart from native histograms; without a time, at `now_ms`.

    A native histogram replaces its classic buckets, as it does when Prometheus scrapes it;
    exemplars are left out. Raises BadDataError for a body that is not well-formed, of which nothing
    is stored then, as a Pushgateway does.
    """
    families = _PushedFamilies(extra_labels, now_ms)
    try:
        read_protobuf(body, families, has_native=True, has_classic=False)
    except ExpositionError as exc:
        raise BadDataError(str(exc)) from exc
    return families.columns()


class _PushedFamilies(ScrapedFamilies[int]):
    """A ScrapedFamilies whose series are numbers of a ColumnsBuilder."""

    def __init__(self, extra_labels: Mapping[str, str], now_ms: int) -> None:
        self._builder = ColumnsBuilder(extra_labels)
        self._now_ms = now_ms
        self._native: list[tuple[int, int, bytes]] = []
        self.by_text: dict[str, int] = {}
        self.metadata: dict[str, MetricMetadata] = self._builder.metadata

    def new_series(self, text: str, labels: dict[str, str]) -> int:
        """See the protocol."""
        number = self.by_text[text] = self._builder.number_of(labels)
        return number

    def add(self, series: int, time_ms: int | None, value: float) -> None:
        """See the protocol."""
        self._builder.add(series, self._now_ms if time_ms is None else time_ms, value)

    def add_histogram(self, series: int, time_ms: int | None, message: bytes) -> None:
        """See the protocol."""
        self._native.append((series, self._now_ms if time_ms is None else time_ms, message))

    def add_exemplar(
        self, series: int, labels: dict[str, str], value: float, time_ms: int | None
    ) -> None:
        """Exemplars are left out, as those of text are."""

    def add_timed_exemplars(self, series: int, exemplars: Sequence[ReadExemplar]) -> None:
        """They are left out too."""

    def note_family(self, described: MetricMetadata) -> None:
        """The metadata says the same."""

    def columns(self) -> list[ImportedColumns]:
        """The floats, and if there are any, the native histograms."""
        floats = self._builder.finish()
        return [floats, self._native_columns(floats)] if self._native else [floats]

    def _native_columns(self, floats: ImportedColumns) -> ImportedColumns:
        series, times, messages = zip(*self._native, strict=True)
        found = decode_histograms(messages)
        is_valid = np.ones(len(messages), np.bool_)
        is_valid[list(found.faults)] = False
        faults = Faults()
        faults.add_many(len(found.faults), dict.fromkeys(found.faults.values()))
        return replace(
            floats,
            series=np.array(series, np.int64)[is_valid],
            timestamps=np.array(times, np.int64)[is_valid],
            values=found.bits.view(np.float64)[is_valid],
            faults=faults,
            metadata=(),
            histograms=found.histograms,
            n_skipped=0,
        )
