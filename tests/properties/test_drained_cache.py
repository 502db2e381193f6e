"""Whatever is read, drained and asked again, the cache of drained samples answers as the fold."""

import asyncio
import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.columns.fold import Deletion, Piece, fold, gathered
from sql.samples.reading.drained_cache import DrainedBounds, DrainedCache
from sql.samples.reading.drained_reader import DrainedQuestion, StoredSamples
from tests.support.storage.sample_model import BITS, SERIES, TIMES, Rows, rows_of, samples_of

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


@given(ROWS, STEPS, st.sampled_from([0, 5_000, 15_000, 1 << 20]))
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
            start_ms, end_ms = sorted(times)
            question = DrainedQuestion(TENANT, wanted, start_ms, end_ms, 0)
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


def question_of(series: int) -> DrainedQuestion:
    return DrainedQuestion(TENANT, np.array([series], np.int64), 0, 10, 0)


def test_answers_without_samples_take_no_more_memory_than_the_bound() -> None:
    cache, drained = DrainedCache(200_000), DrainedBounds(DrainState("epoch", 0, 0), None)

    async def grown_bytes() -> int:
        before, _ = tracemalloc.get_traced_memory()
        for series in range(1_000):
            await cache.add(question_of(series), StoredSamples([], []), drained)
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        assert asyncio.run(grown_bytes()) < 200_000
    finally:
        tracemalloc.stop()
    assert cache.stats.bytes > 100_000


def test_the_series_of_deletions_count_too() -> None:
    cache, drained = DrainedCache(200_000), DrainedBounds(DrainState("epoch", 0, 0), None)

    async def run() -> None:
        for n_deleted, is_kept in ((10_000, True), (30_000, False)):
            deletion = Deletion(1, np.arange(n_deleted), 0, 10)
            asked = question_of(n_deleted)
            await cache.add(asked, StoredSamples([], [deletion]), drained)
            assert (await cache.find(drained.state, asked) is not None) is is_kept

    asyncio.run(run())


def test_a_slow_query_of_an_earlier_state_leaves_the_answers_of_a_later_one() -> None:
    empty, cache = StoredSamples([], []), DrainedCache(1 << 20)
    later = DrainState("epoch", 7, 3)

    async def run() -> None:
        await cache.add(question_of(1), empty, DrainedBounds(later, None))
        for earlier in (DrainState("epoch", 6, 3), DrainState("epoch", 7, 2)):
            await cache.add(question_of(2), empty, DrainedBounds(earlier, None))
            assert await cache.find(later, question_of(1)) is not None
            assert await cache.find(earlier, question_of(2)) is None
        restored = DrainState("restored", 1, 1)
        await cache.add(question_of(2), empty, DrainedBounds(restored, None))
        assert await cache.find(restored, question_of(2)) is not None

    asyncio.run(run())
