"""In-memory stand-ins for the ports; they pass the same contract tests as the real adapters."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from time import monotonic
from typing import TypeVar

import numpy as np

from promcompat.core.access import NewToken, Token
from promcompat.core.audit import AuditEntry, AuditFilter, AuditRecord
from promcompat.core.errors import ConflictError, StorageUnavailableError, WriteRejectedError
from promcompat.core.exemplars import (
    AppendedExemplars,
    Exemplar,
    ExemplarLimits,
    ExemplarsOfSeries,
    SeriesExemplar,
)
from promcompat.core.explanations import ExplanationDepth, ReadMeasurement, SelectionExplanation
from promcompat.core.histograms.columns import (
    HistogramCells,
    Histograms,
    Ragged,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.label_counts import LabelCounts
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import (
    UNKNOWN_SERIES,
    FloatArray,
    IntArray,
    Labels,
    MetricMetadata,
    SampleBlock,
    SeriesSelection,
    WriteBatch,
)
from promcompat.core.ports import CheckBytes, MatcherSets, any_bytes
from promcompat.core.series_table import KnownSeries, PendingKeys
from sql.repositories.exemplar_repository import label_hash
from tests.support.known_series import NO_SERIES


@dataclass(slots=True)
class InternedHistograms:
    """`all` are those that cells of the store refer to; equal cells are equal histograms."""

    all: Histograms | None = None
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def interned(self, values: FloatArray, histograms: Histograms | None) -> FloatArray:
        """The values with cells that refer to the store's histograms, which get the new ones."""
        if histograms is None:
            return values
        places = np.flatnonzero(is_histogram(values))
        found, numbers = histograms.take(histogram_numbers(values[places])), []
        for row in range(len(places)):
            one = found.take(np.array([row]))
            key = columns_bytes(one)
            if key not in self._numbers:
                self._numbers[key] = len(self._numbers)
                self.all = one if self.all is None else Histograms.joined([self.all, one])
            numbers.append(self._numbers[key])
        renumbered = values.copy()
        renumbered[places] = histogram_cells(np.array(numbers, np.int64))
        return renumbered


def columns_bytes(histograms: Histograms) -> bytes:
    """All columns with their types: equal if the histograms are, to the bit."""
    parts = []
    for name in Histograms.__dataclass_fields__:
        column = getattr(histograms, name)
        arrays = (column.offsets, column.cells) if isinstance(column, Ragged) else (column,)
        parts += [f"{name} {array.dtype}".encode() + array.tobytes() for array in arrays]
    return b"\0".join(parts)


def matches_all(labels: Labels, matchers: Sequence[LabelMatcher]) -> bool:
    """Whether a series satisfies every matcher."""
    return all(matcher.matches(labels.get(matcher.name)) for matcher in matchers)


class StoredSeries:
    """The samples of one series: value bits by time, and the times in order when asked."""

    __slots__ = ("_bits", "_times", "starts")

    def __init__(self) -> None:
        self._bits: dict[int, int] = {}
        self._times: list[int] | None = []
        self.starts: dict[int, int] = {}

    def add(self, timestamp_ms: int, bits: int) -> int | None:
        """Store a sample; the bits already stored at this time when they are others."""
        stored = self._bits.setdefault(timestamp_ms, bits)
        self._times = None
        return None if stored == bits else stored

    def next_free_time(self, timestamp_ms: int) -> int:
        """The first time from `timestamp_ms` on that has no sample."""
        while timestamp_ms in self._bits:
            timestamp_ms += 1
        return timestamp_ms

    @property
    def times(self) -> list[int]:
        """The times of all samples, ascending."""
        if self._times is None:
            self._times = sorted(self._bits)
        return self._times

    def has_sample(self, start_ms: int, end_ms: int) -> bool:
        """Whether a sample, stale markers included, is in `[start_ms, end_ms]`."""
        index = bisect_left(self.times, start_ms)
        return index < len(self.times) and self.times[index] <= end_ms

    def between(self, start_ms: int, end_ms: int) -> tuple[list[int], list[int]]:
        """Times and value bits of the samples in `(start_ms, end_ms]`."""
        times = self.times[bisect_right(self.times, start_ms) : bisect_right(self.times, end_ms)]
        return times, [self._bits[time] for time in times]


@dataclass(slots=True)
class TenantData:
    """All that is kept for one tenant."""

    labels_by_key: dict[bytes, Labels] = field(default_factory=dict)
    series: defaultdict[Labels, StoredSeries] = field(
        default_factory=lambda: defaultdict(StoredSeries)
    )
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    histograms: InternedHistograms = field(default_factory=InternedHistograms)


def _labels_of_rows(batch: WriteBatch, data: TenantData) -> list[Labels]:
    known, unknown = list(data.labels_by_key.values()), iter(batch.unknown_keys)
    return [
        data.labels_by_key[next(unknown)] if series_id == UNKNOWN_SERIES else known[series_id]
        for series_id in batch.series_ids.tolist()
    ]


class InMemoryStore:
    """A `Store` and a `Catalogue` in plain dicts, for tests that need no database."""

    def __init__(self) -> None:
        self._tenants: dict[str, TenantData] = {}
        self.first_kept_ms = -(1 << 62)

    def known_series(self, tenant: str) -> KnownSeries:
        """See the port; an id is the place among the label sets seen."""
        data = self._tenants.get(tenant, TenantData())
        ids = {key: number for number, key in enumerate(data.labels_by_key)}
        return KnownSeries(NO_SERIES, 0, PendingKeys(ids), version=0)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """See the port."""
        data = self._tenants.setdefault(tenant, TenantData())
        data.labels_by_key.update(batch.labels)
        data.metadata.update({entry.family: entry for entry in batch.metadata})
        values = np.ascontiguousarray(batch.values, np.float64)
        bits = data.histograms.interned(values, batch.histograms).view(np.uint64).tolist()
        conflicts: dict[int, tuple[int, int, int]] = {}
        times = batch.timestamps.tolist()
        n_rows = len(batch)
        is_timed = [False] * n_rows if batch.server_timed is None else batch.server_timed.tolist()
        series_of = _labels_of_rows(batch, data)
        if batch.starts is not None:
            for labels, time, start in zip(series_of, times, batch.starts.tolist(), strict=True):
                data.series[labels].starts[time] = start
        for row in sorted(range(n_rows), key=is_timed.__getitem__):
            series = data.series[series_of[row]]
            if is_timed[row]:
                series.add(series.next_free_time(times[row]), bits[row])
            elif (stored := series.add(times[row], bits[row])) is not None:
                conflicts[row] = times[row], stored, bits[row]
        if conflicts:
            first = next(iter(conflicts.values()))
            raise WriteRejectedError(_conflict_text(*first), tuple(conflicts))

    async def count_unseen(self, tenant: str, timestamps: IntArray) -> int:
        """See the port; nothing is deleted."""
        return int(np.count_nonzero(timestamps < self.first_kept_ms))

    async def ask_ahead(self, tenant: str) -> float:
        """See the port; there is nothing to ask for."""
        return monotonic()

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        """See the port."""
        data = self._tenants.get(tenant)
        if data is None:
            return [SampleBlock.empty() for _ in selections]
        return [_select(data, selection) for selection in selections]

    async def explain_select(
        self, tenant: str, selections: Sequence[SeriesSelection], depth: ExplanationDepth
    ) -> list[SelectionExplanation]:
        """See the port. There is no SQL, no rule and no estimate; dicts are read whole."""
        blocks = await self.select(tenant, selections)
        return [
            SelectionExplanation(
                n_series=len(block.labels),
                measured=ReadMeasurement(rows=len(block.timestamps), seconds=0.0)
                if depth.analyze
                else None,
            )
            for block in blocks
        ]

    async def series(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[Labels]:
        """See the port."""
        return _truncate(self._matching(tenant, matcher_sets, start_ms, end_ms), limit)

    async def sample_bounds(self, tenant: str) -> tuple[int, int] | None:
        """See the port."""
        data = self._tenants.get(tenant)
        times = (
            []
            if data is None
            else [time for series in data.series.values() for time in series.times]
        )
        return (min(times), max(times)) if times else None

    async def label_names(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[str]:
        """See the port."""
        matching = self._matching(tenant, matcher_sets, start_ms, end_ms)
        return _truncate({name for labels in matching for name, _ in labels}, limit)

    async def label_values(
        self,
        tenant: str,
        name: str,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int,
    ) -> list[str]:
        """See the port."""
        matching = self._matching(tenant, matcher_sets, start_ms, end_ms)
        return _truncate({labels.get(name) for labels in matching} - {""}, limit)

    async def label_counts(self, tenant: str) -> LabelCounts:
        """See the port."""
        series = self._tenants.get(tenant, TenantData()).series
        counts = Counter(label for labels in series for label in labels)
        return LabelCounts.of(len(series), counts)

    async def metadata(self, tenant: str, family: str | None) -> list[MetricMetadata]:
        """See the port."""
        data = self._tenants.get(tenant, TenantData())
        return [
            data.metadata[name]
            for name in sorted(data.metadata)
            if family is None or name == family
        ]

    async def ping(self) -> None:
        """See the port."""

    def _matching(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> Iterator[Labels]:
        data = self._tenants.get(tenant, TenantData())
        for labels, stored in data.series.items():
            selected = not matcher_sets or any(
                matches_all(labels, matchers) for matchers in matcher_sets
            )
            if selected and stored.has_sample(start_ms, end_ms):
                yield labels


OrderedT = TypeVar("OrderedT", str, Labels)


def _truncate(found: Iterable[OrderedT], limit: int) -> list[OrderedT]:
    ordered = sorted(found)
    return ordered[:limit] if limit else ordered


def _select(data: TenantData, selection: SeriesSelection) -> SampleBlock:
    kept: list[Labels] = []
    times: list[int] = []
    bits: list[int] = []
    starts: list[int] = []
    offsets = [0]
    for labels in data.series:
        if not matches_all(labels, selection.matchers):
            continue
        found = data.series[labels].between(selection.start_ms, selection.end_ms)
        if found[0]:
            kept.append(labels)
            times += found[0]
            bits += found[1]
            starts += [data.series[labels].starts.get(time, 0) for time in found[0]]
            offsets.append(len(times))
    cells = HistogramCells(
        np.array(bits, np.uint64).view(np.float64), data.histograms.all
    ).compacted()
    return SampleBlock(
        tuple(kept),
        np.array(times, np.int64),
        cells.values,
        np.array(offsets, np.int64),
        histograms=cells.histograms,
        starts=np.array(starts, np.int64) if selection.hints.wants_starts else None,
    )


def _conflict_text(timestamp_ms: int, stored_bits: int, new_bits: int) -> str:
    stored, new = np.array([stored_bits, new_bits], np.uint64).view(np.float64).tolist()
    return (
        f"duplicate sample for timestamp {timestamp_ms}; overrides not allowed: "
        f"existing {stored:g}, new value {new:g}"
    )


class InMemoryExemplars:
    """Exemplars by tenant and series, in order of their insertion."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, Labels], list[Exemplar]] = {}

    async def append(self, tenant: str, exemplars: Sequence[SeriesExemplar]) -> AppendedExemplars:
        n_stored = 0
        out_of_order, invalid = [], []
        for found in exemplars:
            if found.exemplar.is_too_long:
                invalid.append(found.series)
                continue
            kept = self.of.setdefault((tenant, found.series), [])
            if kept and _place(found.exemplar) < _place(kept[-1]):
                out_of_order.append(found.series)
                continue
            n_stored += 1
            if not kept or kept[-1] != found.exemplar:
                kept.append(found.exemplar)
        return AppendedExemplars(n_stored, tuple(out_of_order), tuple(invalid))

    async def select(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[ExemplarsOfSeries]:
        found = []
        for (owner, labels), exemplars in self.of.items():
            if owner == tenant and any(matches_all(labels, chosen) for chosen in matcher_sets):
                within = [one for one in exemplars if start_ms <= one.timestamp_ms <= end_ms]
                if within:
                    found.append(ExemplarsOfSeries(labels, tuple(within)))
        return sorted(found, key=lambda series: series.series.pairs)

    async def trim(self, limits: ExemplarLimits, now_ms: int, tenant: str | None = None) -> int:
        return 0


def _place(exemplar: Exemplar) -> tuple[int, float, int]:
    return exemplar.timestamp_ms, exemplar.value, label_hash(exemplar.labels)


class InMemoryTokens:
    """A TokenRepository; `is_away` makes it fail as a database that is away."""

    def __init__(self) -> None:
        self.is_away = False
        self._version = 0
        self._tokens: dict[bytes, Token] = {}

    async def version(self) -> int:
        if self.is_away:
            raise StorageUnavailableError("the database is away")
        return self._version

    async def by_digest(self) -> Mapping[bytes, Token]:
        await self.version()
        return dict(self._tokens)

    async def create(self, new: NewToken, max_tokens: int) -> Token:
        await self.version()
        names = {token.name for token in self._tokens.values()}
        if new.name in names or len(names) >= max_tokens:
            raise ConflictError("the name is taken, or there are too many tokens")
        self._version += 1
        token = Token(
            id=self._version,
            name=new.name,
            roles=new.roles,
            tenants=new.tenants,
            created_by=new.created_by,
            created_at_ms=0,
            expires_at_ms=new.expires_at_ms,
        )
        self._tokens[new.digest] = token
        return token

    async def revoke(self, token_id: int, revoked_by: str) -> bool:
        await self.version()
        before = len(self._tokens)
        self._tokens = {key: one for key, one in self._tokens.items() if one.id != token_id}
        self._version += 1
        return len(self._tokens) < before

    async def note_uses(self, used_at_ms: Mapping[int, int]) -> None:
        await self.version()


class InMemoryAudit:
    """An audit trail without times."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []

    async def begin(self, entry: AuditEntry) -> int:
        record_id = len(self.records) + 1
        record = AuditRecord(**asdict(entry), id=record_id, at_ms=0, status=None, request="")
        self.records.append(record)
        return record_id

    async def end(self, record_id: int, status: int, request: str) -> None:
        record = self.records[record_id - 1]
        self.records[record_id - 1] = replace(record, status=status, request=request)

    async def list(self, wanted: AuditFilter, before_id: int, limit: int) -> Sequence[AuditRecord]:
        of_tenant = (one for one in self.records if wanted.tenant in (None, one.tenant))
        return [one for one in reversed(list(of_tenant)) if one.id < before_id][:limit]
