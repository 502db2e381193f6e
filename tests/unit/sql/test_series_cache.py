"""The caches of series: exact, bounded, apart by tenant."""

import numpy as np

from sql.caching.series_cache import UNKNOWN_ID, LabelsCache, SeriesCache
from tests.factories import make_labels


def test_resolve_gives_ids_and_marks_unknown_keys() -> None:
    cache = SeriesCache(10_000)
    cache.add("a", [(b"x", 1), (b"y", 2)])
    ids = cache.tenant("a").resolve([b"y", b"z", b"x", b"y"])
    assert ids.dtype == np.int64
    assert ids.tolist() == [2, UNKNOWN_ID, 1, 2]
    assert cache.tenant("a").resolve([]).tolist() == []


def test_tenants_do_not_share_keys() -> None:
    cache = SeriesCache(10_000)
    cache.add("a", [(b"x", 1)])
    cache.add("b", [(b"x", 2)])
    assert cache.tenant("a").resolve([b"x"]).tolist() == [1]
    assert cache.tenant("b").resolve([b"x"]).tolist() == [2]
    assert b"x" not in cache.tenant("c")


def test_container_is_live() -> None:
    cache = SeriesCache(10_000)
    cache.add("a", [(b"x", 1)])
    known = cache.tenant("a")
    assert b"y" not in known
    cache.add("a", [(b"y", 2)])
    assert b"y" in known
    assert "y" not in known


def test_cache_stays_within_its_bound() -> None:
    cache = SeriesCache(20_000)
    for number in range(10_000):
        cache.add(f"tenant {number % 7}", [(str(number).encode(), number)])
        assert len(cache) <= 20_000 // 150 + 1
    assert str(9_999).encode() in cache.tenant(f"tenant {9_999 % 7}")


def test_used_entries_outlive_unused_ones() -> None:
    cache = SeriesCache(20 * 152)
    cache.add("a", [(b"used", 1), (b"unused", 2)])
    for number in range(100):
        cache.add("a", [(str(number).encode(), number)])
        assert b"used" in cache.tenant("a")
    assert b"unused" not in cache.tenant("a")


def test_key_seen_by_the_decoder_survives_one_turn_of_generations() -> None:
    cache = SeriesCache(20 * 152)
    cache.add("a", [(b"seen", 7)])
    cache.add("a", [(str(number).encode(), number) for number in range(11)])
    known = cache.tenant("a")
    assert b"seen" in known
    cache.add("a", [(str(number).encode(), number) for number in range(11, 22)])
    assert cache.tenant("a").resolve([b"seen"]).tolist() == [7]


def test_long_keys_fill_the_cache_sooner() -> None:
    cache = SeriesCache(10_000_000)
    for number in range(400):
        cache.add("a", [(str(number).encode() + bytes(1_000_000), number)])
        assert len(cache) <= 12


def test_labels_cache_is_bounded_and_keeps_what_is_used() -> None:
    wanted = make_labels("wanted")
    cache = LabelsCache(20 * (wanted.n_bytes() + 110))
    cache.add(-1, wanted)
    for number in range(1000):
        cache.add(number, make_labels(f"m{number}"))
        assert cache.get(-1) is wanted
        assert len(cache) <= 24
    assert cache.get(0) is None


def test_long_labels_fill_the_cache_sooner() -> None:
    cache = LabelsCache(10_000_000)
    for number in range(400):
        cache.add(number, make_labels("m", value=f"{number:1000000}"))
        assert len(cache) <= 12
    assert cache.get(399) is not None
