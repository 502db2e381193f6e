"""Drained samples that queries asked for lately, in the memory of the process.

What is drained does not change as long as its state stays the same, and every view of the head has
the state of its snapshot. So what was read under that state is exact, whatever the clock says, and
is forgotten as soon as a drain, a deletion or retention makes another state.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from promcompat.core.offloading import in_thread_if
from promcompat.core.ports import ALL_TIME_MS
from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.columns.fold import Piece, gathered
from sql.samples.reading.drained_reader import DrainedQuestion, StoredSamples

_RANGES: Final = 4
"""Time ranges that are kept of the same series, as of several panels of a dashboard."""
_SAMPLES_WORTH_A_THREAD: Final = 20_000
_ANSWER_BYTES: Final = 2_048
_PIECE_BYTES: Final = 1_024
"""What the objects of an answer, and of each of its pieces, take besides their arrays."""

Bounds = tuple[int, int] | None
"""The first and last Unix ms of samples, inclusive; None without samples."""
_Key = tuple[int, bytes]
"""A tenant, and the ids of series."""


@dataclass(frozen=True, slots=True)
class DrainedBounds:
    """The bounds of what was drained of a tenant in a state."""

    state: DrainState
    bounds: Bounds

    def is_within(self, start_ms: int, end_ms: int) -> bool:
        """Whether drained samples may have times in `(start_ms, end_ms]`."""
        return self.bounds is not None and self.bounds[0] <= end_ms and self.bounds[1] > start_ms

    def answered(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """The times that are known with `(start_ms, end_ms]`: beyond the bounds is nothing."""
        if self.bounds is None:
            return ALL_TIME_MS
        return (
            start_ms if start_ms >= self.bounds[0] else ALL_TIME_MS[0],
            end_ms if end_ms < self.bounds[1] else ALL_TIME_MS[1],
        )


@dataclass(slots=True)
class DrainedCacheStats:
    """Totals of this process, and what is held now."""

    hits: int = 0
    misses: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is drained of some series in `(start_ms, end_ms]`."""

    stored: StoredSamples
    start_ms: int
    end_ms: int
    n_bytes: int

    def covers(self, question: DrainedQuestion) -> bool:
        return self.start_ms <= question.start_ms and question.end_ms <= self.end_ms


class DrainedCache:
    """Keeps the answers that were used last, of at most `max_bytes` together (0: none)."""

    def __init__(self, max_bytes: int) -> None:
        self.stats = DrainedCacheStats()
        self._max_bytes = max_bytes
        self._state: DrainState | None = None
        self._answers: OrderedDict[_Key, list[_Answer]] = OrderedDict()

    def forget(self) -> None:
        """Drop everything."""
        self._answers.clear()
        self.stats.bytes = 0

    async def find(self, state: DrainState, question: DrainedQuestion) -> StoredSamples | None:
        """The answer to a question under a state, if it is known."""
        key = _key_of(question)
        known = self._answers.get(key, []) if state == self._state else []
        answer = next((one for one in known if one.covers(question)), None)
        if answer is None:
            self.stats.misses += 1
            return None
        self.stats.hits += 1
        self._answers.move_to_end(key)
        return await _copied(answer.stored, question)

    async def add(
        self, question: DrainedQuestion, stored: StoredSamples, drained: DrainedBounds
    ) -> None:
        """Keep a copy of an answer that was read under the state of `drained`, if there is room.

        Nothing is kept of an earlier state than that of the answers that are known.
        """
        key = _key_of(question)
        n_bytes = len(key[1]) + _bytes_of(stored)
        if n_bytes > self._max_bytes:
            return
        copied = await _copied(stored, question)
        if self._state is not None and _is_before(drained.state, self._state):
            return
        if drained.state != self._state:
            self.forget()
            self._state = drained.state
        times = drained.answered(question.start_ms, question.end_ms)
        known = self._answers.setdefault(key, [])
        known.insert(0, _Answer(copied, *times, n_bytes))
        self.stats.bytes += n_bytes - sum(one.n_bytes for one in known[_RANGES:])
        del known[_RANGES:]
        self._answers.move_to_end(key)
        while self.stats.bytes > self._max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self.stats.bytes -= sum(one.n_bytes for one in oldest)


def _is_before(one: DrainState, other: DrainState) -> bool:
    """Whether one state is older than the other, as that of a slow query may be."""
    positions = (one.drained_through, one.last_change), (other.drained_through, other.last_change)
    return one.epoch == other.epoch and positions[0] < positions[1]


def _bytes_of(stored: StoredSamples) -> int:
    """What an answer takes in memory, roughly."""
    samples = sum(_PIECE_BYTES + piece.samples.n_bytes for piece in stored.pieces)
    ids = [one.series_ids for one in stored.deletions if one.series_ids is not None]
    return _ANSWER_BYTES + samples + sum(series_ids.nbytes for series_ids in ids)


def _key_of(question: DrainedQuestion) -> _Key:
    return question.tenant_id, question.wanted.tobytes()


async def _copied(stored: StoredSamples, question: DrainedQuestion) -> StoredSamples:
    """The part that a question asks for: nobody who reads it can change what is kept."""
    is_long = sum(len(piece.samples) for piece in stored.pieces) >= _SAMPLES_WORTH_A_THREAD
    return await in_thread_if(is_long, _part, stored, question)


def _part(stored: StoredSamples, question: DrainedQuestion) -> StoredSamples:
    times = question.start_ms, question.end_ms
    pieces = []
    for piece in stored.pieces:
        samples = gathered([piece.samples], piece.samples.ids, *times)
        if len(samples):
            pieces.append(Piece(samples, piece.first_arrival, piece.last_arrival, piece.replaces))
    return replace(stored, pieces=pieces)
