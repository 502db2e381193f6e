"""Resolved selectors keep the label sets of their series as far as there is room."""

import numpy as np

from promcompat.core.model import LabelSets, PartialLabelSets
from sql.caching.selector_cache import LabelledSeries, LabelNames, ResolvedSelector, SelectorCache
from tests.support.factories import make_labels

KEY = (1, ())
IDS = np.arange(100)


def labelled(name: str) -> LabelledSeries:
    return LabelledSeries(IDS, LabelSets(make_labels(name, n=str(number)) for number in IDS))


def cache_for(n_lists: float) -> tuple[SelectorCache, ResolvedSelector]:
    """A cache with room for so many lists of label sets in an entry, and an entry."""
    cache = SelectorCache(4 * round(n_lists * labelled("x").n_bytes + 2_000))
    resolved = ResolvedSelector(1, IDS)
    cache.add(KEY, resolved)
    return cache, resolved


def names_kept(resolved: ResolvedSelector) -> list[LabelNames | None]:
    return [names for names in (None, ("a",), ("b",)) if resolved.labels_of(IDS, names) is not None]


def test_label_sets_for_several_names_are_kept_together() -> None:
    cache, resolved = cache_for(2)
    for names in (("a",), ("b",)):
        cache.add_labels(KEY, resolved, labelled("x"), names)
    assert names_kept(resolved) == [("a",), ("b",)]
    assert resolved.labels_of(IDS[1:], ("a",)) is None


def test_all_labels_do_for_any_names() -> None:
    cache, resolved = cache_for(1)
    cache.add_labels(KEY, resolved, labelled("x"))
    assert names_kept(resolved) == [None, ("a",), ("b",)]


def test_the_newest_label_sets_stay_if_there_is_room_for_one_list() -> None:
    cache, resolved = cache_for(1.5)
    for names in (("a",), ("b",)):
        cache.add_labels(KEY, resolved, labelled("x"), names)
        assert names_kept(resolved) == [names]
    assert cache.get(KEY, 1) is resolved


def test_the_series_stay_if_there_is_no_room_for_label_sets() -> None:
    cache, resolved = cache_for(0.5)
    cache.add_labels(KEY, resolved, labelled("x"), ("a",))
    assert names_kept(resolved) == []
    assert cache.get(KEY, 1) is resolved


def test_partial_label_sets_that_are_equal_take_little_memory() -> None:
    ids = np.arange(10_000)
    groups = [make_labels("x", job=str(number)) for number in range(4)]
    partial = PartialLabelSets.of(groups, ids % len(groups))
    full = LabelSets(make_labels("x", job="1", pod=str(number)) for number in ids)
    n_partial, n_full = (LabelledSeries(ids, labels).n_bytes for labels in (partial, full))
    assert 8 * len(ids) < n_partial < n_full / 8
