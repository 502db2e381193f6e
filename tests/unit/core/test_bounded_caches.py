"""A cache that counts bytes keeps to its bound whatever is put into it."""

from collections.abc import Sequence

import pytest

from promcompat.core.bounded_caches import (
    BYTES_PER_ENTRY,
    ByteBoundedCache,
    GenerationalCache,
    estimated_bytes,
    texts_bytes,
)


def test_the_least_recently_used_is_thrown_out_first() -> None:
    cache: ByteBoundedCache[str, int] = ByteBoundedCache(10 * (BYTES_PER_ENTRY + 100))
    for number in range(10):
        cache.add(str(number), number, 100)
    assert cache.get("0") == 0
    cache.add("10", 10, 100)
    assert (cache.get("0"), cache.get("1"), cache.get("10")) == (0, None, 10)


def test_bytes_are_bounded_not_entries() -> None:
    cache: ByteBoundedCache[int, int] = ByteBoundedCache(1_000_000)
    for number in range(10_000):
        cache.add(number, number, number % 200_000)
        assert cache.n_bytes <= 1_000_000
    assert cache.get(9_999) == 9_999


def test_what_is_too_large_for_the_cache_throws_nothing_else_out() -> None:
    cache: ByteBoundedCache[str, int] = ByteBoundedCache(10_000)
    cache.add("small", 1, 100)
    cache.add("large", 2, 5_000)
    assert (cache.get("small"), cache.get("large")) == (1, None)


def test_a_new_value_replaces_the_bytes_of_the_old_one() -> None:
    cache: ByteBoundedCache[str, int] = ByteBoundedCache(10_000)
    for number in range(100):
        cache.add("same", number, 1_000)
    assert (len(cache), cache.n_bytes) == (1, 1_000 + BYTES_PER_ENTRY)
    cache.clear()
    assert (len(cache), cache.n_bytes) == (0, 0)


def test_texts_of_every_script_are_counted() -> None:
    assert texts_bytes(["a" * 100]) >= 100
    assert texts_bytes(["ü" * 100, "😀" * 100]) >= 800


def test_clearing_drops_entries_and_their_bytes() -> None:
    cache: ByteBoundedCache[str, int] = ByteBoundedCache(10_000)
    cache.add("a", 1, 100)
    cache.clear()
    assert (cache.get("a"), len(cache), cache.n_bytes) == (None, 0, 0)


def test_many_items_are_estimated_by_some_of_them() -> None:
    measured: list[str] = []

    def measure(texts: Sequence[str]) -> int:
        measured.extend(texts)
        return sum(map(len, texts))

    assert estimated_bytes([], measure) == 0
    assert estimated_bytes(["ab", "abcd"], measure) == 6
    assert estimated_bytes(["abc"] * 100_000, measure) == 300_000
    assert len(measured) <= 1_000 + 2


def test_what_is_used_stays_and_the_bytes_keep_near_their_bound() -> None:
    cache: GenerationalCache[int, bytes] = GenerationalCache(10_000)
    cache.add(-1, b"used", 10)
    for number in range(10_000):
        cache.add(number, bytes(number % 200), number % 200)
        assert cache.get(-1) == b"used"
        kept = [*cache.young.values(), *cache.old.values()]
        assert sum(map(len, kept)) <= 15_000
    assert cache.get(0) is None


def test_an_entry_that_is_used_again_is_not_measured_again() -> None:
    cache: GenerationalCache[int, str] = GenerationalCache(2_000)
    for number in range(10):
        cache.add(number, "value", 100)
    cache.add(10, "value", 100)
    assert (len(cache.old), cache.young_bytes) == (11, 0)
    assert [cache.get(number) for number in range(5)] == ["value"] * 5
    assert cache.young_bytes == pytest.approx(500)
