"""The samples that a reader found in a piece of a request, and what was wrong with the rest."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import compress
from typing import Any, Final

import numpy as np

from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.histograms.validation import find_faults
from promcompat.core.limits.label_limits import LabelFault, LabelLimits
from promcompat.core.model import (
    METRIC_NAME,
    UNKNOWN_SERIES,
    BoolArray,
    FloatArray,
    IntArray,
    MetricMetadata,
    WriteBatch,
    is_stale,
)
from promcompat.core.ports import ALL_TIME_MS
from promcompat.core.series_table import KnownSeries
from promcompat.core.texts.storable_text import is_storable_text, storable_text
from promcompat.imports.histogram_objects import histograms_of
from promcompat.remote_write.new_series import NewSeries
from promcompat.remote_write.series_key import check_keys_bytes, encode_series_key

MAX_FAULTS_SHOWN: Final = 10
MAX_LINE_CHARACTERS: Final = 1 << 19
"""Of a line that has a sample or a few. It is read by calls that take up to 0.3 s for a million,
during which nothing else runs."""
NORMAL_NAN_BITS: Final = 0x7FF8000000000001
"""The NaN that Prometheus stores for the text `NaN`."""
_SHOWN_CHARACTERS: Final = 120
_REMEMBERED: Final = 1 << 15
_MAX_REMEMBERED_CHARACTERS: Final = 500
"""Longer texts of series are not remembered, so that what is has a bound: 40 MB at most."""


def check_length(line: str) -> None:
    """Raises ValueError for a line that is too long."""
    if len(line) > MAX_LINE_CHARACTERS:
        raise ValueError(f"is longer than {MAX_LINE_CHARACTERS:,} characters")


def key_of(labels: Mapping[str, str]) -> bytes:
    """The key of a series. Raises ValueError as `ColumnsBuilder.number_of`."""
    pairs = sorted(labels.items())
    if not any(name == METRIC_NAME and value for name, value in pairs):
        raise ValueError("there is no metric name")
    try:
        return encode_series_key(pair for pair in pairs if pair[1])
    except UnicodeEncodeError:
        raise ValueError("a label is not valid Unicode") from None


@lru_cache(_REMEMBERED)
def _remembered_key(read: Callable[[str], Mapping[str, str]], text: str) -> bytes:
    return key_of(read(text))


@dataclass(slots=True)
class Faults:
    """What could not be stored: how many samples or lines, and the first reasons."""

    number: int = 0
    reasons: list[str] = field(default_factory=list)
    by_limit: Counter[str] = field(default_factory=Counter)
    """The samples that a limit of labels refused, by its name; they are among `number`."""

    def add(self, place: str, text: str, reason: str) -> None:
        """Count one; `text` is what stands at the place."""
        self.number += 1
        if len(self.reasons) < MAX_FAULTS_SHOWN:
            shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
            self.reasons.append(f"{place} ({shown}): {reason}" if shown else f"{place}: {reason}")

    def add_many(self, number: int, reasons: Iterable[str]) -> None:
        """Count several with the reasons that are known."""
        self.number += number
        self.reasons += list(reasons)[: MAX_FAULTS_SHOWN - len(self.reasons)]


@dataclass(frozen=True, slots=True)
class ImportedColumns:
    """Samples as columns of equal length; `series[i]` says which of the keys row i belongs to.

    `keys` are wire bytes of labels, as in `WriteBatch`, and `histograms` as there.
    """

    keys: Sequence[bytes]
    series: IntArray
    timestamps: IntArray
    values: FloatArray
    faults: Faults
    n_skipped: int = 0
    metadata: tuple[MetricMetadata, ...] = ()
    histograms: Histograms | None = None

    def to_batch(self, known: KnownSeries, limits: LabelLimits) -> tuple[WriteBatch, Faults]:
        """The batch of the rows whose series can be stored, and the faults of the others.

        Known series are not checked again.
        """
        ids = known.find(self.keys) if self.keys else np.empty(0, np.int64)
        unknown = np.flatnonzero(ids == UNKNOWN_SERIES).tolist()
        new = NewSeries(limits)
        accepted = new.accept([self.keys[index] for index in unknown]) if unknown else []
        is_kept = np.ones(len(self.keys), np.bool_)
        is_kept[list(compress(unknown, (not accepts for accepts in accepted)))] = False
        faults = self._faults_of(is_kept, new)
        rows = slice(None) if is_kept.all() else is_kept[self.series]
        series = self.series[rows]
        row_ids = ids[series]
        unknown_rows = series[row_ids == UNKNOWN_SERIES].tolist()
        batch = WriteBatch(
            row_ids,
            self.timestamps[rows],
            self.values[rows],
            [self.keys[index] for index in unknown_rows],
            new.labels,
            tuple(
                bounded(entry, limits)
                for entry in self.metadata
                if is_storable_text(entry.family)
                and len(entry.family.encode()) <= limits.max_metadata_bytes
            ),
            known_version=known.version,
            identities=new.identities,
            histograms=self.histograms,
        )
        return batch, faults

    def _faults_of(self, is_kept: np.ndarray, new: NewSeries) -> Faults:
        found = Faults()
        if not is_kept.all():
            n_rows = int(np.count_nonzero(~is_kept[self.series]))
            found.add_many(n_rows, [*new.refused.values(), *new.invalid.values()])
            n_rows_of = np.bincount(self.series, minlength=len(self.keys))
            for index in np.flatnonzero(~is_kept).tolist():
                fault = new.refused.get(self.keys[index])
                if isinstance(fault, LabelFault):
                    found.by_limit[fault.limit] += int(n_rows_of[index])
        return found


def bounded(metadata: MetricMetadata, limits: LabelLimits) -> MetricMetadata:
    """Metadata with a help text and a unit of at most as many bytes as the limits allow."""

    def cut(text: str) -> str:
        encoded = storable_text(text).encode()
        return encoded[: limits.max_metadata_bytes].decode(errors="ignore")

    return replace(metadata, help=cut(metadata.help), unit=cut(metadata.unit))


class ColumnsBuilder:
    """Collects the samples of a piece; series are numbered by the text that stands for them.

    `extra_labels` are set on every series, and replace labels of the same names. `n_skipped` counts
    what is valid but cannot be a sample, such as a text.

    A short text may stand for many long labels: tags for each of a line's fields, or labels in the
    URL for each line. So the bytes of keys that are made are bounded.
    """

    __slots__ = (
        "_extra_labels",
        "_n_key_bytes",
        "_numbers",
        "by_text",
        "faults",
        "histograms",
        "keys",
        "metadata",
        "n_skipped",
        "series",
        "times",
        "values",
    )

    def __init__(self, extra_labels: Mapping[str, str]) -> None:
        self._extra_labels = extra_labels
        self._n_key_bytes = 0
        self._numbers: dict[bytes, int] = {}
        self.by_text: dict[str, int] = {}
        self.keys: list[bytes] = []
        self.series: list[int] = []
        self.times: list[int] = []
        self.values: list[float] = []
        self.faults = Faults()
        self.histograms: list[Mapping[str, Any]] = []
        self.n_skipped = 0
        self.metadata: dict[str, MetricMetadata] = {}

    def number_of(self, labels: Mapping[str, str]) -> int:
        """The number of a series. Raises ValueError without a metric name and for lone surrogates,
        and as `number_of_key`.

        Labels with an empty value are left out.
        """
        return self.number_of_key(key_of({**labels, **self._extra_labels}))

    def number_of_text(self, text: str, read: Callable[[str], Mapping[str, str]]) -> int:
        """The same of a text that stands for labels, of which `read` reads them.

        Requests repeat the texts of earlier ones: then they are not read again. `read` is a
        function of a module, and raises ValueError.
        """
        if self._extra_labels or len(text) > _MAX_REMEMBERED_CHARACTERS:
            return self.number_of(read(text))
        return self.number_of_key(_remembered_key(read, text))

    def number_of_key(self, key: bytes) -> int:
        """The same of the key of its labels, see `key_of`.

        Raises BadDataError when all keys together are too long.
        """
        self._n_key_bytes += len(key)
        check_keys_bytes(self._n_key_bytes)
        number = self._numbers.setdefault(key, len(self.keys))
        if number == len(self.keys):
            self.keys.append(key)
        return number

    def add(self, series: int, time_ms: int, value: float) -> None:
        """Add a sample."""
        self.series.append(series)
        self.times.append(time_ms)
        self.values.append(value)

    def with_histograms(self, values: list[Any]) -> list[float]:
        """Values with cells that refer to histograms in place of objects, which are kept."""
        objects = [value for value in values if isinstance(value, dict)]
        if not objects:
            return values
        first = len(self.histograms)
        self.histograms += objects
        cells = iter(histogram_cells(np.arange(first, len(self.histograms))).tolist())
        return [next(cells) if isinstance(value, dict) else value for value in values]

    def finish(self) -> ImportedColumns:
        """The columns; impossible times and invalid histograms are left out as faults."""
        # Not np.array: a stale marker keeps its bits.
        values = np.fromiter(self.values, np.float64, len(self.values))
        is_nan = np.isnan(values) & ~is_stale(values)
        histograms = histograms_of(self.histograms) if self.histograms else None
        if histograms is not None:
            is_nan &= ~is_histogram(values)
        if is_nan.any():
            values.view(np.uint64)[is_nan] = NORMAL_NAN_BITS
        series = np.array(self.series, np.int64)
        times = self._timestamps()
        first_ms, last_ms = ALL_TIME_MS
        is_possible = (times > first_ms) & (times < last_ms)
        if not is_possible.all():
            n_impossible = int(np.count_nonzero(~is_possible))
            self.faults.add_many(n_impossible, ["a timestamp is out of range"])
        if histograms is not None:
            is_possible &= self._are_valid(values, histograms)
        if not is_possible.all():
            series, times, values = series[is_possible], times[is_possible], values[is_possible]
        return ImportedColumns(
            self.keys,
            series,
            times,
            values,
            self.faults,
            self.n_skipped,
            tuple(self.metadata.values()),
            histograms,
        )

    def _are_valid(self, values: FloatArray, histograms: Histograms) -> BoolArray:
        """Which values are no invalid histograms; these are counted as faults."""
        are_valid = np.ones(len(values), np.bool_)
        if found := find_faults(histograms):
            refers = np.flatnonzero(is_histogram(values))
            are_bad = np.isin(histogram_numbers(values[refers]), list(found))
            are_valid[refers[are_bad]] = False
            self.faults.add_many(len(found), dict.fromkeys(found.values()))
        return are_valid

    def _timestamps(self) -> IntArray:
        try:
            return np.array(self.times, np.int64)
        except OverflowError:
            first_ms, last_ms = ALL_TIME_MS
            return np.array([min(max(time, first_ms), last_ms) for time in self.times], np.int64)
