"""Values that every layer shares. Times are Unix milliseconds as int; samples are numpy columns."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from operator import is_
from sys import getsizeof
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic_core import CoreSchema, core_schema

from promcompat.core.histograms.columns import Histograms
from promcompat.core.matchers import LabelMatcher
from promcompat.core.texts.strconv import quote
from promcompat.core.value_classes import value_class

METRIC_NAME = "__name__"
METRIC_TYPE, METRIC_UNIT = "__type__", "__unit__"
METADATA_LABELS = frozenset((METRIC_NAME, METRIC_TYPE, METRIC_UNIT))
"""The labels that identify the metric of a series; results computed from it do not have them."""
STALE_NAN_BITS = 0x7FF0000000000002
"""The bits of the stale marker, a NaN that differs from other NaNs only in its bits."""
_LEGACY_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
_BYTES_PER_LABEL_SET = 190
_BYTES_PER_PLACE = 22
"""Of a pair in a label set: in the tuples with and without metadata, and as punctuation of JSON."""
_BYTES_PER_PAIR = 56 + 2 * getsizeof("")

ItemT = TypeVar("ItemT", bound=Hashable)
ResultT = TypeVar("ResultT")
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def is_stale(values: FloatArray) -> BoolArray:
    """Which of `values` are stale markers, bit by bit; the shape is kept."""
    return np.asarray(values.view(np.uint64) == STALE_NAN_BITS)


class Labels:
    """An immutable label set, sorted by name, without empty values.

    Ordering is Prometheus' `labels.Compare`: pair by pair, then by length. Code point order of
    `str` equals byte order of UTF-8, so plain tuple comparison gives it.
    """

    __slots__ = ("_hash", "_json", "_without_metadata", "pairs")

    pairs: tuple[tuple[str, str], ...]
    _without_metadata: "Labels | None"
    _json: bytes | None

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        """Sorts the pairs and drops empty values; names must be unique."""
        self.pairs = tuple(sorted(pair for pair in pairs if pair[1]))
        self._hash = hash(self.pairs)
        self._without_metadata = None
        self._json = None

    @classmethod
    def of(cls, mapping: Mapping[str, str]) -> "Labels":
        """The label set of a mapping of names to values."""
        return cls(mapping.items())

    @classmethod
    def of_sorted(cls, pairs: tuple[tuple[str, str], ...]) -> "Labels":
        """The label set of `pairs` that are sorted by name and have no empty values."""
        labels = cls.__new__(cls)
        labels.pairs = pairs
        labels._hash = hash(pairs)
        labels._without_metadata = labels._json = None
        return labels

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: "Labels") -> bool:
        return self.pairs < other.pairs

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"Labels({dict(self.pairs)!r})"

    def __str__(self) -> str:
        """As Prometheus prints it: `{__name__="m", a="x"}`, with UTF-8 names in quotes."""
        pairs = (
            f"{name if _LEGACY_NAME.fullmatch(name) else quote(name)}={quote(value)}"
            for name, value in self.pairs
        )
        return "{" + ", ".join(pairs) + "}"

    def get(self, name: str) -> str:
        """The value of a label, `""` when the label is absent."""
        for key, value in self.pairs:
            if key == name:
                return value
        return ""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        """In JSON documents a label set is an object."""
        text = core_schema.str_schema()
        return core_schema.no_info_after_validator_function(
            cls.of,
            core_schema.dict_schema(text, text),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_dict),
        )

    def as_dict(self) -> dict[str, str]:
        """A new dict of names to values, in name order."""
        return dict(self.pairs)

    def json(self) -> bytes:
        """The label set as a JSON object; cached, since each answer with the series has it."""
        if self._json is None:
            self._json = orjson.dumps(dict(self.pairs))
        return self._json

    def without(self, names: Iterable[str]) -> "Labels":
        """The label set without the named labels."""
        dropped = frozenset(names)
        return Labels(pair for pair in self.pairs if pair[0] not in dropped)

    def only(self, names: Iterable[str]) -> "Labels":
        """The label set with only the named labels."""
        kept = frozenset(names)
        return Labels(pair for pair in self.pairs if pair[0] in kept)

    def with_label(self, name: str, value: str) -> "Labels":
        """The label set with one label set; an empty value removes it."""
        return Labels([*(pair for pair in self.pairs if pair[0] != name), (name, value)])

    def without_metadata(self) -> "Labels":
        """The label set without name, type and unit of the metric; itself if it has none of them.

        Cached, since nearly every query over a series uses it.
        """
        if self._without_metadata is None:
            kept = tuple(pair for pair in self.pairs if pair[0] not in METADATA_LABELS)
            if len(kept) == len(self.pairs):
                return self
            self._without_metadata = Labels.of_sorted(kept)
        return self._without_metadata

    def without_name(self) -> "Labels":
        """The label set without the metric name."""
        return self.without((METRIC_NAME,))


EMPTY_LABELS = Labels()


def label_sets_bytes(label_sets: Iterable[Labels]) -> int:
    """The approximate memory of label sets and of their JSON, for caches that count bytes.

    A label set or a pair that occurs several times as the same object counts once.
    """
    distinct = {id(one): one for one in label_sets}.values()
    places = list(chain.from_iterable([labels.pairs for labels in distinct]))
    pairs = {id(pair): pair for pair in places}.values()
    in_json, in_pairs = ("".join(chain.from_iterable(some)) for some in (places, pairs))
    return (
        _BYTES_PER_LABEL_SET * len(distinct)
        + _BYTES_PER_PLACE * len(places)
        + _BYTES_PER_PAIR * len(pairs)
        + getsizeof(in_json)
        + getsizeof(in_pairs)
    )


def unrendered_characters(label_sets: Iterable[Labels]) -> int:
    """The characters of all values of the label sets whose JSON is not kept yet."""
    return sum(
        [len(text) for labels in label_sets if labels._json is None for _, text in labels.pairs]
    )


_KEPT_RESULTS = 8


class LabelSets(tuple[Labels, ...]):
    """Label sets of series that are asked for again, with what was computed of all of them.

    Of a thousand series, removing the names and grouping takes half the time of an instant query.
    """

    def kept(
        self,
        key: Hashable,
        compute: Callable[[], ResultT],
        may_keep: Callable[[ResultT], bool] = lambda _: True,
    ) -> ResultT:
        """The result of `compute`, which depends on the label sets and the key only.

        Nobody may change it. Some of those that `may_keep` allows are kept; they should take a few
        bytes for each series.
        """
        results: dict[Hashable, ResultT] = self.__dict__.setdefault("results", {})
        if key in results:
            return results[key]
        found = compute()
        if len(results) < _KEPT_RESULTS and may_keep(found):
            results[key] = found
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: without what is kept."""
        return type(self), (tuple(self),)


class PartialLabelSets(LabelSets):
    """Label sets of distinct series, reduced to the labels that a query reads.

    Two of them may be equal although their series differ.
    """

    @classmethod
    def of(cls, distinct: Sequence[Labels], place_of: IntArray) -> "PartialLabelSets":
        """For each series one of the `distinct` label sets, which come in their order here."""
        made = cls([distinct[place] for place in place_of.tolist()])
        made.kept("distinct", lambda: (distinct, place_of))
        return made

    @property
    def distinct(self) -> Sequence[Labels]:
        """Each of the different label sets once, in the order in which they first occur."""
        return self._by_place()[0]

    @property
    def place_of(self) -> IntArray:
        """The place of each label set among the distinct ones."""
        return self._by_place()[1]

    def _by_place(self) -> tuple[Sequence[Labels], IntArray]:
        return self.kept("distinct", lambda: numbered(self))

    def changed(self, change: Callable[[Labels], Labels]) -> "PartialLabelSets":
        """What a function makes of the label sets; it is called once for each distinct one."""
        made = [change(labels) for labels in self.distinct]
        if all(map(is_, made, self.distinct)):
            return self
        distinct, place_of = numbered(made)
        return PartialLabelSets.of(distinct, place_of[self.place_of])


def numbered(items: Iterable[ItemT]) -> tuple[Sequence[ItemT], IntArray]:
    """Each different item once, as they first occur, and the number of each item."""
    every = list(items)
    number_of = {item: number for number, item in enumerate(dict.fromkeys(every))}
    numbers = np.fromiter(map(number_of.__getitem__, every), np.int64, len(every))
    return tuple(number_of), numbers


def label_sets_at(label_sets: Sequence[Labels], rows: Iterable[int]) -> tuple[Labels, ...]:
    """The label sets of these rows; partial ones remain partial."""
    taken = [label_sets[row] for row in rows]
    return PartialLabelSets(taken) if isinstance(label_sets, PartialLabelSets) else tuple(taken)


@dataclass(frozen=True, slots=True)
class MetricMetadata:
    """The metadata of a metric family; `type` is the lower-case OpenMetrics name."""

    family: str
    type: str
    help: str
    unit: str


UNKNOWN_SERIES = -1
"""In place of a series id: the series is identified by its key."""
FIRST_REFUSED = -16
"""In place of a series id, from here down: the number of a limit that refused the series."""


@dataclass(frozen=True, slots=True)
class SeriesIdentity:
    """What identifies a series in the database: see `promcompat.core.series_identity`.

    `document` has the labels but the metric's name as a JSON object.
    """

    fingerprint: bytes
    metric_name: str
    document: str


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """The samples of one write, one row each, as columns of equal length.

    `series_ids[i]` is the id of row i's series in the store, or UNKNOWN_SERIES, or FIRST_REFUSED or
    less if a limit refused the series lately. `unknown_keys` has a key for each unknown row, in
    their order: the wire bytes of its labels exactly as the sender encoded them, the cheapest exact
    key of a series. Two keys may identify the same series (different label order), but a key always
    identifies one series. `labels` has the label set of every unknown key. The ids are those of
    `Store.known_series` at its `known_version`; the store refuses them when series were removed
    since.
    `server_timed` marks the rows whose timestamp is the server's clock, not the sender's: if its
    millisecond is taken, such a row gets the next free one of its series. None: no rows.
    `histograms` are the native histograms that cells of `values` refer to, see
    `promcompat.core.histograms`. `starts` has the Unix ms since which the series of each row
    counts, as its sender says, or 0; None: no row has one.
    """

    series_ids: IntArray
    timestamps: IntArray
    values: FloatArray
    unknown_keys: Sequence[bytes]
    labels: Mapping[bytes, Labels]
    metadata: tuple[MetricMetadata, ...] = ()
    server_timed: BoolArray | None = None
    known_version: int = 0
    identities: Mapping[bytes, SeriesIdentity] = field(default_factory=dict)
    histograms: Histograms | None = None
    starts: IntArray | None = None

    @classmethod
    def of_keys(
        cls,
        keys: Sequence[bytes],
        timestamps: IntArray,
        values: FloatArray,
        labels: Mapping[bytes, Labels],
    ) -> "WriteBatch":
        """A batch of which no series is known; `keys` has the key of each row."""
        ids = np.full(len(keys), UNKNOWN_SERIES, np.int64)
        return cls(ids, timestamps, values, keys, labels)

    def __len__(self) -> int:
        return len(self.series_ids)

    def rows(self, kept: BoolArray) -> "WriteBatch":
        """The batch of the marked rows, with all metadata."""
        is_unknown = self.series_ids == UNKNOWN_SERIES
        kept_keys = kept[is_unknown].tolist()
        return replace(
            self,
            series_ids=self.series_ids[kept],
            timestamps=self.timestamps[kept],
            values=self.values[kept],
            unknown_keys=list(compress(self.unknown_keys, kept_keys)),
            server_timed=None if self.server_timed is None else self.server_timed[kept],
            starts=None if self.starts is None else self.starts[kept],
        )


@value_class(frozen=True, slots=True)
class SampleBlock:
    """Raw samples of many series in CSR form, each series by time.

    The series of one metric come in the order in which they were first written.

    Series i holds `timestamps[offsets[i]:offsets[i + 1]]` (int64 ms, strictly ascending) and the
    `values` beside them (float64, exact bits, stale markers included). `offsets` has
    `len(labels) + 1` entries. A series without samples in the range may be left out.
    `counts` (int64) is the number of stored samples that each one represents, where samples that a
    query does not need were left out but still have to be counted. None: one each.
    `notes` tell people where the samples are not all that were stored. `histograms` are the native
    histograms that cells of `values` refer to, see `promcompat.core.histograms`. `starts` (int64
    ms) are when the counter of each sample began, 0 if that is not known; None: not requested.
    """

    labels: tuple[Labels, ...]
    timestamps: IntArray
    values: FloatArray
    offsets: IntArray
    counts: IntArray | None = None
    notes: Sequence[str] = ()
    histograms: Histograms | None = None
    starts: IntArray | None = None

    @classmethod
    def empty(cls) -> "SampleBlock":
        """A block without series."""
        return cls((), np.empty(0, np.int64), np.empty(0), np.zeros(1, np.int64))

    def take(
        self, labels: tuple[Labels, ...], index: IntArray | BoolArray | slice, offsets: IntArray
    ) -> "SampleBlock":
        """The samples at an index, as the series given by `labels` and `offsets`."""
        return SampleBlock(
            labels,
            self.timestamps[index],
            self.values[index],
            offsets,
            None if self.counts is None else self.counts[index],
            histograms=self.histograms,
            starts=None if self.starts is None else self.starts[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectHints:
    """How the query uses a selection; the store may ignore all of it.

    `step_ms` is the distance of the eval steps (0 for a single one), `range_ms` the window of a
    matrix selector (0 for an instant selector, which needs the last sample of the lookback).
    `reach_ms` is how far each eval time looks back, the range or the lookback delta; the eval times
    are `start_ms + reach_ms`, one step later, and so on up to `end_ms` of the selection. 0 means
    unknown, so no sample of the selection may be left out. `labels` are the sorted names of the
    only labels that the query reads of series without native histograms; None means that it may
    read any. With `drops_metadata`, the query removes the metadata of the metric first: the store
    must give all labels if two series may then have equal ones. `wants_starts` is no hint: the
    block must have `starts`.
    """

    step_ms: int = 0
    range_ms: int = 0
    reach_ms: int = 0
    function: str = ""
    labels: tuple[str, ...] | None = None
    drops_metadata: bool = False
    wants_starts: bool = False


@value_class(frozen=True, slots=True, kw_only=True)
class SeriesSelection:
    """The samples of the series that match, with `start_ms < timestamp <= end_ms`."""

    matchers: tuple[LabelMatcher, ...]
    start_ms: int
    end_ms: int
    hints: SelectHints = field(default_factory=SelectHints)


@value_class(frozen=True, slots=True)
class EvalRange:
    """The eval steps of a query: from start to end, inclusive; an instant query has one step."""

    start_ms: int
    end_ms: int
    step_ms: int

    @classmethod
    def instant(cls, time_ms: int) -> "EvalRange":
        """The grid of one step at `time_ms`."""
        return cls(time_ms, time_ms, 0)

    @property
    def n_steps(self) -> int:
        """How many steps the grid has (at least one)."""
        return 1 if self.step_ms <= 0 else (self.end_ms - self.start_ms) // self.step_ms + 1

    def timestamps(self) -> IntArray:
        """The time of each step, ms, shape [n_steps]."""
        if self.n_steps == 1:
            # A third of the time, for each of the rules.
            return np.array([self.start_ms], np.int64)
        return self.start_ms + np.arange(self.n_steps, dtype=np.int64) * self.step_ms
