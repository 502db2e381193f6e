"""The series of a request that are not in the table of known ones, and histograms of all series."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import Histograms, without_histogram_bits
from promcompat.core.model import UNKNOWN_SERIES, BoolArray, IntArray
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decode_kernels import (
    HISTOGRAM_END,
    HISTOGRAM_FIRST,
    HISTOGRAM_ROW,
    KEY_END,
    KEY_FIRST,
    N_HISTOGRAM_COLUMNS,
    UNUSUAL,
)
from promcompat.remote_write.histograms import (
    HistogramRows,
    HistogramSamples,
    decode_histograms,
    decode_parts,
)
from promcompat.remote_write.new_series import NewSeries
from promcompat.remote_write.remote_pb2 import TimeSeries
from promcompat.remote_write.series_key import decode_series_key
from promcompat.remote_write.wire_fields import check_field_count, parse_message

COUNTED_FROM_BYTES: Final = 1 << 16
"""The protobuf library decodes fewer bytes too fast to delay other requests."""
DROPPED: Final = -2
"""In place of the id of a series or a sample that cannot be stored."""
_MAX_FIELDS_OF_SERIES: Final = 100_000
_BYTES_LIKE_A_SERIES: Final = 2_048
"""Of histograms, with these for each: they are read in 5 µs, as a new series is."""
_BYTES_MORE: Final = 64
MAX_DESCRIBED: Final = 10
_SHOWN_CHARACTERS: Final = 500
"""Labels are cut here in the text about a histogram that is not valid."""


class WireExemplar(NamedTuple):
    """An Exemplar message, and the key of its series."""

    series_key: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Samples in the order of the request; the values as their bits.

    `is_histogram` marks histograms, and stale markers in their place; None: there are none.
    `starts` are start timestamps, 0 for rows without; None: no row has one.
    """

    ids: IntArray
    timestamps: IntArray
    bits: NDArray[np.uint64]
    is_histogram: BoolArray | None = None
    starts: IntArray | None = None

    @classmethod
    def empty(cls, n_rows: int) -> "SampleRows":
        """Room for floats."""
        return cls(np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty(n_rows, "u8"))

    def with_others(self, places: IntArray, others: "SampleRows") -> "SampleRows":
        """These rows with others among them, each before the row with the number in `places`."""
        if not len(places):
            return self
        return SampleRows(
            np.insert(self.ids, places, others.ids),
            np.insert(self.timestamps, places, others.timestamps),
            np.insert(self._float_bits(others), places, others._float_bits(self)),
            self._marks_with(places, others),
            self._starts_with(places, others),
        )

    def with_starts(self, starts: IntArray | None) -> "SampleRows":
        """These rows with the start timestamps of those that are not histograms."""
        if starts is None:
            return self
        return replace(self, starts=starts if self.starts is None else starts + self.starts)

    def take(self, index: BoolArray | slice) -> "SampleRows":
        marks = None if self.is_histogram is None else self.is_histogram[index]
        starts = None if self.starts is None else self.starts[index]
        return SampleRows(self.ids[index], self.timestamps[index], self.bits[index], marks, starts)

    def _float_bits(self, others: "SampleRows") -> NDArray[np.uint64]:
        """The bits, of which none may look like a histogram when there are others that do."""
        if others.is_histogram is None or self.is_histogram is not None:
            return self.bits
        return without_histogram_bits(self.bits.view(np.float64)).view(np.uint64)

    def _marks_with(self, places: IntArray, others: "SampleRows") -> BoolArray | None:
        if self.is_histogram is None and others.is_histogram is None:
            return None
        mine = np.zeros(len(self.ids), bool) if self.is_histogram is None else self.is_histogram
        theirs = others.is_histogram
        return np.insert(mine, places, False if theirs is None else theirs)

    def _starts_with(self, places: IntArray, others: "SampleRows") -> IntArray | None:
        if self.starts is None and others.starts is None:
            return None
        mine = np.zeros(len(self.ids), np.int64) if self.starts is None else self.starts
        return np.insert(mine, places, 0 if others.starts is None else others.starts)


@dataclass(frozen=True, slots=True)
class FoundHistograms:
    """The histograms that the kernel found in a message; `columns` [n, N_HISTOGRAM_COLUMNS].

    `key_of` makes the key of a series of the part of the message that `columns` has for it; None:
    that part is the key, as in version 1.0.
    """

    message: bytes
    columns: IntArray
    key_of: Callable[[int, int], bytes] | None = None

    @property
    def rows(self) -> IntArray:
        """The row of each."""
        return self.columns[:, HISTOGRAM_ROW]

    @property
    def bounds(self) -> IntArray:
        """First and end of each Histogram message, int64 [n, 2]."""
        return np.column_stack((self.columns[:, HISTOGRAM_FIRST], self.columns[:, HISTOGRAM_END]))

    @property
    def n_like_series(self) -> int:
        """How many new series are read in the time that these histograms take, rounded up."""
        n_bytes = (self.columns[:, HISTOGRAM_END] - self.columns[:, HISTOGRAM_FIRST]).sum()
        n_bytes += _BYTES_MORE * len(self.columns)
        return -int(-n_bytes // _BYTES_LIKE_A_SERIES)

    def before(self, row: int) -> "FoundHistograms":
        """Those of the rows before one."""
        return replace(self, columns=self.columns[self.rows < row])

    def messages(self) -> list[bytes]:
        """The Histogram messages."""
        return [self.message[first:end] for first, end in self.bounds.tolist()]

    def series_key(self, number: int) -> bytes:
        """The key of the series of one of them."""
        first, end = self.columns[number, [KEY_FIRST, KEY_END]].tolist()
        return self.message[first:end] if self.key_of is None else self.key_of(first, end)


NO_HISTOGRAMS: Final = FoundHistograms(b"", np.empty((0, N_HISTOGRAM_COLUMNS), np.int64))


class Left(NamedTuple):
    """A series that is not in the table: its key and its rows, or (UNUSUAL) its whole message."""

    wire: bytes
    first_row: int
    end_row: int


@dataclass(slots=True)
class LeftSeries:
    """Keys of the series that are left, and the samples of those that are parsed.

    `n_rows` is the number of samples of each series; `is_parsed` says that they are not among the
    rows of the kernel, but here: `places` has for each the row of the kernel that follows it.
    `messages` are the histograms of parsed series, and `rows_of_messages` their samples among those
    parsed. Numbers of histograms count those first that the kernel `found`: `series_of_messages`
    are the series of all, None for one that is known.
    """

    found: FoundHistograms = NO_HISTOGRAMS

    keys: list[bytes] = field(default_factory=list)
    n_rows: list[int] = field(default_factory=list)
    is_parsed: list[bool] = field(default_factory=list)
    exemplars: list[tuple[int, bytes]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    rows_of_messages: list[int] = field(default_factory=list)
    series_of_messages: list[int | None] = field(default_factory=list)
    read: HistogramSamples | None = None
    fault: BadDataError | None = None

    @classmethod
    def of(cls, left: Sequence[Left], histograms: FoundHistograms) -> "LeftSeries":
        """Stops at a malformed one, so that what is wrong before it is reported first."""
        found = cls(found=histograms)
        is_usual = all(series.end_row != UNUSUAL for series in left)
        if is_usual:
            found._add_usual(left)
        if is_usual and not found.n_histograms:
            return found
        found.series_of_messages += _series_of_rows(left, histograms.rows)
        try:
            for series in () if is_usual else left:
                if series.end_row == UNUSUAL:
                    found._parse(series)
                else:
                    found._add(series.wire, series.end_row - series.first_row)
            if found.n_histograms:
                found.read = found._decode()
        except BadDataError as fault:
            found.fault = fault
        return found

    def resolve(self, known: KnownSeries, new: NewSeries) -> IntArray:
        """The id of each series, UNKNOWN_SERIES for a new one, or DROPPED.

        Raises BadDataError when a series is malformed.
        """
        ids = known.find(self.keys) if self.keys else np.empty(0, np.int64)
        unknown = np.flatnonzero(ids == UNKNOWN_SERIES)
        if len(unknown):
            accepted = new.accept([self.keys[index] for index in unknown.tolist()])
            ids[unknown[~np.array(accepted)]] = DROPPED
        if self.fault is not None:
            raise self.fault
        return ids

    def unknown_keys(self, ids: IntArray) -> list[bytes]:
        """The key of each row of a new series; rows with a fault have none."""
        is_unknown = (ids == UNKNOWN_SERIES).tolist()
        if self.n_rows == [1] * len(self.n_rows) and not self.faults:
            return list(compress(self.keys, is_unknown))
        n_rows = np.array(self.n_rows, np.int64)
        for message in self.faults:
            if (series := self.series_of_messages[message]) is not None:
                n_rows[series] -= 1
        keys = zip(compress(self.keys, is_unknown), compress(n_rows, is_unknown), strict=True)
        return [key for key, n in keys for _ in range(n)]

    @property
    def n_histograms(self) -> int:
        """How many histograms the series have."""
        return len(self.found.columns) + len(self.messages)

    def _decode(self) -> HistogramSamples:
        if not self.messages:
            return decode_parts(self.found.message, self.found.bounds)
        return decode_histograms([*self.found.messages(), *self.messages])

    @property
    def histograms(self) -> Histograms | None:
        """What the bits of the rows refer to."""
        return self.read.histograms if self.read is not None and len(self.read.histograms) else None

    @property
    def faults(self) -> dict[int, str]:
        """What is wrong with the histograms of some messages."""
        return {} if self.read is None else self.read.faults

    @property
    def n_start_timestamps(self) -> int:
        """How many histograms say since when they count."""
        return 0 if self.read is None else int(np.count_nonzero(self.read.starts))

    def kept_faults(self, ids: IntArray) -> list[int]:
        """The numbers of the histograms that are not valid, of series that are not dropped."""
        found = ((message, self.series_of_messages[message]) for message in self.faults)
        return [message for message, series in found if series is None or ids[series] != DROPPED]

    def described(self, faults: Sequence[int]) -> Iterator[str]:
        """Texts for the first of these histograms."""
        for message in faults[:MAX_DESCRIBED]:
            series = self.series_of_messages[message]
            key = self.found.series_key(message) if series is None else self.keys[series]
            yield describe_fault(self.faults[message], key)

    def kept_exemplars(self, ids: IntArray) -> list[WireExemplar]:
        """The exemplars of the series that are not dropped."""
        return [
            WireExemplar(self.keys[index], message)
            for index, message in self.exemplars
            if ids[index] != DROPPED
        ]

    def _add_usual(self, left: Sequence[Left]) -> None:
        self.keys = [series.wire for series in left]
        self.n_rows = [series.end_row - series.first_row for series in left]
        self.is_parsed = [False] * len(left)

    def _add(self, key: bytes, n_rows: int, *, is_parsed: bool = False) -> None:
        self.keys.append(key)
        self.n_rows.append(n_rows)
        self.is_parsed.append(is_parsed)

    def _parse(self, left: Left) -> None:
        if len(left.wire) > COUNTED_FROM_BYTES:
            check_field_count(left.wire, _MAX_FIELDS_OF_SERIES, "fields in one series")
        series = parse_message(TimeSeries, left.wire, "prometheus.TimeSeries")
        n_rows = len(series.samples) + len(series.histograms)
        self.places += [left.first_row] * n_rows
        self.timestamps += [sample.timestamp for sample in series.samples]
        self.bits += [sample.value for sample in series.samples]
        self.exemplars += [(len(self.keys), message) for message in series.exemplars]
        if series.histograms:
            self._add_histograms(series.histograms)
        self._add(_take_key(series), n_rows, is_parsed=True)

    def _add_histograms(self, messages: Sequence[bytes]) -> None:
        """Rows for the histograms of a series, which are read later, all at once."""
        n = len(messages)
        self.rows_of_messages += range(len(self.bits), len(self.bits) + n)
        self.series_of_messages += [len(self.keys)] * n
        self.messages += messages
        self.timestamps += [0] * n
        self.bits += [0] * n

    def parsed_rows(self, ids: IntArray) -> SampleRows:
        """The samples that are here; those of histograms that are not valid are dropped."""
        is_parsed, n_rows = np.array(self.is_parsed), np.array(self.n_rows)
        rows = SampleRows(
            np.repeat(ids[is_parsed], n_rows[is_parsed]),
            np.array(self.timestamps, np.int64),
            np.array(self.bits, np.uint64),
        )
        return rows if self.read is None else self._with_histograms(rows, self.read)

    def _with_histograms(self, rows: SampleRows, read: HistogramSamples) -> SampleRows:
        """Parsed rows with their histograms."""
        n_found = len(self.found.columns)
        faults = [message - n_found for message in read.faults if message >= n_found]
        return with_histograms(
            rows,
            np.array(self.rows_of_messages, np.int64),
            read.part(slice(n_found, None)),
            faults,
        )

    def with_found(self, rows: SampleRows) -> SampleRows:
        """The rows of the kernel with the histograms that it found."""
        n_found = len(self.found.columns)
        if self.read is None or not n_found:
            return rows
        return with_histograms(
            rows,
            self.found.rows,
            self.read.part(slice(n_found)),
            [message for message in self.read.faults if message < n_found],
        )


def _series_of_rows(left: Sequence[Left], rows: IntArray) -> list[int | None]:
    """The number of the series in `left` that has each row; None for a row of a known series."""
    with_rows = [
        (series.first_row, series.end_row, number)
        for number, series in enumerate(left)
        if series.end_row > series.first_row
    ]
    if not with_rows:
        return [None] * len(rows)
    firsts, ends, numbers = np.array(with_rows, np.int64).T
    places = np.searchsorted(firsts, rows, "right") - 1
    is_left = (places >= 0) & (rows < ends[places])
    return [
        number if chosen else None
        for number, chosen in zip(numbers[places].tolist(), is_left.tolist(), strict=True)
    ]


def describe_fault(fault: str, key: bytes) -> str:
    """What the sender is told of a histogram that is not valid, of the series with a key."""
    return f"{fault} for series {str(decode_series_key(key))[:_SHOWN_CHARACTERS]}"


def with_histograms(
    rows: SampleRows,
    places: IntArray,
    read: HistogramRows,
    faults: Sequence[int],
) -> SampleRows:
    """Rows with histograms at these places; those with a fault are dropped. Changes `rows`."""
    bits = without_histogram_bits(rows.bits.view(np.float64)).view(np.uint64)
    rows.timestamps[places], bits[places] = read.timestamps, read.bits
    starts = None
    if read.starts.any():
        starts = np.zeros(len(bits), np.int64)
        starts[places] = read.starts
    rows.ids[places[list(faults)]] = DROPPED
    is_histogram = np.zeros(len(bits), bool)
    is_histogram[places] = True
    return SampleRows(rows.ids, rows.timestamps, bits, is_histogram, starts)


def _take_key(series: TimeSeries) -> bytes:
    """The label fields alone, as encoded, joined; the message is modified."""
    series.ClearField("samples")
    series.ClearField("exemplars")
    series.ClearField("histograms")
    series.DiscardUnknownFields()
    return series.SerializeToString()
