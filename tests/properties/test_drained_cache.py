"""Whatever is read, drained and asked again, the cache of drained samples answers as the fold."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.columns.fold import Deletion, Piece, fold, gathered
from sql.samples.reading.drained_cache import DrainedBounds, DrainedCache
from sql.samples.reading.drained_reader import DrainedQuestion, StoredSamples
from tests.sample_model import BITS, SERIES, TIMES, Rows, rows_of, samples_of

TENANT = 7
ROWS = st.dictionaries(st.tuples(SERIES, TIMES), BITS, min_size=1, max_size=12)
WANTED = st.sets(SERIES, min_size=1).map(lambda ids: np.array(sorted(ids), np.int64))
QUESTIONS = st.tuples(st.just("ask"), WANTED, st.integers(-6, 15), st.integers(-6, 15))
STEPS = st.lists(QUESTIONS | QUESTIONS | st.tuples(st.just("drain"), ROWS, st.booleans()))


class Drained:
    """What is drained, and reads of it as of `DrainedReader`."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.deletions: list[Deletion] = []
        self.state = DrainState("epoch", 0, 0)

    def drain(self, rows: Rows, deletes: bool) -> None:
        number = self.state.drained_through + 1
        if deletes:
            times = [time_ms for _, time_ms in rows]
            ids = np.array(sorted({series for series, _ in rows}), np.int64)
            self.deletions.append(Deletion(number, ids, min(times), max(times)))
        else:
            self.pieces.append(Piece(samples_of(rows), number, number, replaces=False))
        self.state = DrainState("epoch", number, 0)

    def bounds(self) -> DrainedBounds:
        times = [piece.samples.timestamps for piece in self.pieces]
        found = (min(int(t.min()) for t in times), max(int(t.max()) for t in times))
        return DrainedBounds(self.state, found)

    def read(self, question: DrainedQuestion) -> StoredSamples:
        pieces = []
        for one in self.pieces:
            times = question.start_ms, question.end_ms
            samples = gathered([one.samples], question.wanted, *times)
            if len(samples):
                pieces.append(Piece(samples, one.first_arrival, one.last_arrival, one.replaces))
        return StoredSamples(pieces, self.deletions[:], state=self.state)


def folded_of(stored: StoredSamples) -> Rows:
    return rows_of(fold(stored.pieces, stored.deletions))


@given(ROWS, STEPS, st.sampled_from([0, 200, 1_000, 1 << 20]))
def test_a_cached_answer_is_what_a_read_would_give(
    first: Rows, steps: list[tuple], max_bytes: int
) -> None:
    drained, cache = Drained(), DrainedCache(max_bytes)
    drained.drain(first, False)

    async def run() -> None:
        for kind, *rest in steps:
            if kind == "drain":
                drained.drain(*rest)
                continue
            wanted, *times = rest
            question = DrainedQuestion(TENANT, wanted, *sorted(times), 0)
            found, expected = await cache.find(drained.state, question), drained.read(question)
            if found is None:
                await cache.add(question, expected, drained.bounds())
            else:
                assert folded_of(found) == folded_of(expected)
                for piece in found.pieces:
                    piece.samples.values[:] = -1.0
            assert cache.stats.bytes <= max_bytes

    asyncio.run(run())


def test_a_window_that_moves_on_is_answered_without_a_read() -> None:
    drained, cache = Drained(), DrainedCache(1 << 20)
    drained.drain({(1, time_ms): time_ms for time_ms in range(10)}, False)
    wanted = np.array([1], np.int64)

    async def ask(start_ms: int, end_ms: int) -> StoredSamples | None:
        question = DrainedQuestion(TENANT, wanted, start_ms, end_ms, 0)
        found = await cache.find(drained.state, question)
        if found is None:
            await cache.add(question, drained.read(question), drained.bounds())
        return found

    async def run() -> None:
        assert await ask(3, 12) is None
        moved = await ask(5, 14)
        assert moved is not None
        assert folded_of(moved) == {(1, time_ms): time_ms for time_ms in range(6, 10)}
        assert await ask(2, 12) is None
        drained.drain({(1, 20): 5}, False)
        assert await ask(5, 14) is None

    asyncio.run(run())
    assert (cache.stats.hits, cache.stats.misses) == (1, 3)
