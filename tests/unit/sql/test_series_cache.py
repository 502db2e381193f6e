"""The caches of series: exact, bounded, apart by tenant."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from promcompat.core.model import UNKNOWN_SERIES, label_sets_bytes
from promcompat.core.series_table import SeriesTableBuilder
from sql.caching import series_cache
from sql.caching.series_cache import LabelsCache, SeriesCache
from sql.database.rows import LabelPair, labels_of_series
from tests.support.factories import make_labels


def numbered(first: int, end: int, length: int = 8) -> dict[bytes, int]:
    return {f"{number:0{length}}".encode(): number for number in range(first, end)}


def test_known_series_have_ids_and_others_do_not() -> None:
    cache = SeriesCache(100_000)
    cache.add("a", {b"x": 1, b"y": 2})
    ids = cache.known("a", 0).find([b"y", b"z", b"x", b"y"])
    assert ids.dtype == np.int64
    assert ids.tolist() == [2, UNKNOWN_SERIES, 1, 2]
    assert cache.known("a", 0).find([]).tolist() == []


def test_tenants_do_not_share_keys() -> None:
    cache = SeriesCache(1_000_000)
    cache.add("a", numbered(0, 1000))
    cache.add("b", {b"00000007": 5000})
    assert cache.known("a", 0).find([b"00000007"]).tolist() == [7]
    assert cache.known("b", 0).find([b"00000007", b"00000008"]).tolist() == [5000, UNKNOWN_SERIES]
    assert cache.known("c", 0).find([b"00000007"]).tolist() == [UNKNOWN_SERIES]


def test_what_is_known_at_one_moment_does_not_change() -> None:
    cache = SeriesCache(1_000_000)
    cache.add("a", numbered(0, 1000))
    before = cache.known("a", 7)
    cache.add("a", numbered(1000, 3000))
    cache.forget(None)
    keys = list(numbered(0, 1000))
    assert before.find(keys).tolist() == list(range(1000))
    assert before.version == 7
    assert cache.known("a", 8).find(keys).tolist() == [UNKNOWN_SERIES] * 1000
    assert len(cache) == 0


def test_removed_series_are_forgotten_and_others_stay() -> None:
    cache = SeriesCache(1_000_000)
    cache.add("a", numbered(0, 1000))
    cache.add("a", {b"pending": 2000, b"removed": 2001})
    cache.forget({3, 999, 2001})
    known = cache.known("a", 0)
    assert known.find([b"pending", b"removed"]).tolist() == [2000, UNKNOWN_SERIES]
    ids = known.find(list(numbered(0, 1000))).tolist()
    assert ids == [UNKNOWN_SERIES if number in (3, 999) else number for number in range(1000)]
    cache.add("a", {b"00000003": 3000})
    assert cache.known("a", 0).find([b"00000003"]).tolist() == [3000]


def test_keys_move_to_the_table_when_there_are_many_or_they_are_often_looked_up() -> None:
    cache = SeriesCache(1_000_000)
    cache.add("a", numbered(0, 300))
    assert cache.known("a", 0).pending.ids == {}
    cache.add("a", numbered(300, 310))
    keys = list(numbered(0, 310))
    for _ in range(30):
        assert cache.known("a", 0).find(keys).tolist() == list(range(310))
    assert cache.known("a", 0).pending.ids == {}
    assert len(cache) == 310


def test_a_key_added_twice_is_kept_once() -> None:
    cache = SeriesCache(1_000_000)
    for _ in range(3):
        cache.add("a", numbered(0, 300))
        cache.add("a", {b"pending": 1000})
    assert len(cache) == 301


def test_cache_stays_within_its_bound() -> None:
    cache = SeriesCache(200_000)
    for first in range(0, 20_000, 50):
        tenant = f"tenant {first % 7}"
        cache.add(tenant, numbered(first, first + 50, 200))
        assert len(cache) <= 1000
        newest = list(numbered(first, first + 50, 200))
        assert cache.known(tenant, 0).find(newest).tolist() == list(range(first, first + 50))


def test_used_entries_outlive_unused_ones() -> None:
    cache = SeriesCache(200_000)
    used, unused = numbered(0, 100), numbered(100, 200)
    cache.add("a", used | unused)
    for first in range(1000, 10_000, 100):
        cache.add("a", numbered(first, first + 100))
        assert cache.known("a", 0).find(list(used)).tolist() == list(range(100))
    assert set(cache.known("a", 0).find(list(unused)).tolist()) == {UNKNOWN_SERIES}


def test_long_keys_fill_the_cache_sooner() -> None:
    cache = SeriesCache(10_000_000)
    for number in range(400):
        cache.add("a", {str(number).encode() + bytes(1_000_000): number})
        assert len(cache) <= 12


def test_a_key_larger_than_the_cache_is_not_kept() -> None:
    cache = SeriesCache(10_000)
    cache.add("a", {bytes(20_000): 1})
    cache.add("a", {b"x": 2})
    assert cache.known("a", 0).find([bytes(20_000), b"x"]).tolist() == [UNKNOWN_SERIES, 2]


def test_labels_cache_is_bounded_and_keeps_what_is_used() -> None:
    wanted = make_labels("wanted")
    cache = LabelsCache(20 * (label_sets_bytes([wanted]) + 110))
    cache.remember({-1: wanted})
    for number in range(1000):
        cache.remember({number: make_labels(f"m{number}")})
        assert cache.find([-1]) == [wanted]
        assert len(cache) <= 24
    assert cache.find([0, -1]) == [None, wanted]


def test_long_labels_fill_the_cache_sooner() -> None:
    cache = LabelsCache(10_000_000)
    for number in range(400):
        cache.remember({number: make_labels("m", value=f"{number:1000000}")})
        assert len(cache) <= 12
    assert cache.get(399) is not None


def test_labels_that_series_share_count_once() -> None:
    pairs: dict[LabelPair, LabelPair] = {}
    shared = labels_of_series("m", '{"long": "' + 10_000 * "x" + '"}', pairs)
    again = labels_of_series("m", '{"long": "' + 10_000 * "x" + '", "a": "1"}', pairs)
    own = make_labels("m", long=10_000 * "y")
    # The text once, and once in the JSON of each.
    assert 30_000 < label_sets_bytes([shared, again]) < 32_000
    assert 40_000 < label_sets_bytes([shared, own]) < 42_000


def add_many(cache: SeriesCache) -> None:
    cache.add("a", numbered(10, 1000))


def look_up_often(cache: SeriesCache) -> None:
    for _ in range(100):
        cache.known("a", 0).find(list(numbered(0, 10)))


@pytest.mark.parametrize("begin_move", [add_many, look_up_often])
def test_a_move_that_fails_keeps_no_later_one_from_moving_keys(
    monkeypatch: pytest.MonkeyPatch, begin_move: Callable[[SeriesCache], None]
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    cache = SeriesCache(1_000_000)
    cache.add("a", numbered(0, 10))
    with monkeypatch.context() as patch:
        patch.setattr(SeriesTableBuilder, "add", fail)
        with pytest.raises(MemoryError):
            begin_move(cache)
    assert len(cache) == 0
    cache.add("a", numbered(0, 1000))
    assert len(cache.known("a", 0).table.ids) == 1000


class HeldWork:
    """Runs nothing before it is told to: first what a thread does, then what the loop does."""

    def __init__(self) -> None:
        self._held: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def __call__(self, work: Callable[[], None], ended: Callable[[], None]) -> None:
        self._held.append((work, ended))

    def work(self) -> None:
        self._held[0][0]()

    def end(self) -> None:
        self._held.pop(0)[1]()


class CacheOfManySeries(RuleBasedStateMachine):
    """Whatever happens while keys move into the table, a key has its last id or none at all."""

    @initialize()
    def begin(self) -> None:
        self.held, self.has_worked = HeldWork(), False
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(series_cache, "_IN_THREAD_FROM", 0)
        self.patch.setattr(series_cache, "_FEWEST_PENDING", 4)
        self.cache = SeriesCache(4_000, self.held)
        self.ids: dict[bytes, int] = {}
        self.next_id = 0

    def teardown(self) -> None:
        self.patch.undo()

    @rule(numbers=st.sets(st.integers(0, 40), min_size=5))
    def add(self, numbers: set[int]) -> None:
        added = {}
        for number in numbers:
            self.next_id += 1
            key = b"%d" % number
            added[key] = self.ids.setdefault(key, self.next_id)
        self.cache.add("a", added)

    @rule(numbers=st.sets(st.integers(0, 40), min_size=1))
    def remove(self, numbers: set[int]) -> None:
        gone = {self.ids.pop(key) for key in (b"%d" % n for n in numbers) if key in self.ids}
        self.cache.forget(gone)

    @rule()
    def forget_all(self) -> None:
        self.ids.clear()
        self.cache.forget(None)

    @precondition(lambda self: self.held._held and not self.has_worked)
    @rule()
    def work(self) -> None:
        self.held.work()
        self.has_worked = True

    @precondition(lambda self: self.has_worked)
    @rule()
    def end(self) -> None:
        self.held.end()
        self.has_worked = False

    @precondition(lambda self: self.held._held and not self.has_worked)
    @rule()
    def fail(self) -> None:
        """The thread ended with an error: everything is forgotten, and looked up again."""
        self.held.end()

    @invariant()
    def finds_nothing_wrong(self) -> None:
        keys = [b"%d" % number for number in range(41)]
        for key, found in zip(keys, self.cache.known("a", 0).find(keys).tolist(), strict=True):
            assert found in (UNKNOWN_SERIES, self.ids.get(key, UNKNOWN_SERIES))


CacheOfManySeries.TestCase.settings = settings(max_examples=20, stateful_step_count=30)
TestCacheOfManySeries = CacheOfManySeries.TestCase


def test_keys_are_known_before_while_and_after_they_move() -> None:
    held = HeldWork()
    cache = SeriesCache(10_000_000, held)
    cache.add("a", numbered(0, 30_000))
    cache.add("a", numbered(30_000, 31_000))
    keys = list(numbered(0, 32_000))
    for step in (lambda: None, held.work, held.end, lambda: None):
        step()
        assert cache.known("a", 0).find(keys[:31_000]).tolist() == list(range(31_000))
        cache.add("a", numbered(31_000, 31_100))
    assert cache.known("a", 0).find(keys[31_000:]).tolist() == [
        *range(31_000, 31_100),
        *[UNKNOWN_SERIES] * 900,
    ]
    cache.forget({30_500})
    cache.add("a", {keys[30_500]: 99_000})
    assert cache.known("a", 0).find([keys[30_500]]).tolist() == [99_000]


async def test_keys_move_in_a_thread_and_end_in_the_loop() -> None:
    cache = SeriesCache(10_000_000, series_cache.run_in_thread)
    cache.add("a", numbered(0, 30_000))
    cache.add("a", numbered(30_000, 31_000))
    assert cache.known("a", 0).pending.moving
    while cache.known("a", 0).pending.moving:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert cache.known("a", 0).pending.ids == {}
    keys = list(numbered(0, 31_000))
    assert cache.known("a", 0).table.find(0, keys).tolist() == list(range(31_000))
