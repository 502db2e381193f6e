"""Which series share blocks: those with neighbouring ids, which mostly come from one scrape.

They have the same times, which a page stores once. A block of several series is found by the least
id of its group, whether or not there is a series of that id.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.samples.codec.page_encoding import Page, encode_pages
from sql.samples.codec.page_kernels import MAX_SAMPLES
from sql.samples.columns.series_samples import SeriesSamples

SERIES_TOGETHER: Final = 16
"""The ids of a group; also in sql/routines (`block_keys`)."""
SAMPLES_TOGETHER: Final = 2_048
"""At most about so many samples of a series are in a block of several: a third of a day at 15 s."""
Parts = tuple[IntArray, IntArray, IntArray]
"""Ids of series, ascending, and the rows of each: the first one, and the one behind the last."""


def group_of(series_id: int) -> int:
    """The least id of the group of a series."""
    return series_id & -SERIES_TOGETHER


def groups_of(ids: IntArray) -> IntArray:
    """The least ids of the groups of series, ascending as they do."""
    return _distinct(ids & -SERIES_TOGETHER)


def block_keys(ids: IntArray) -> IntArray:
    """The keys under which blocks of series are stored, ascending: ids of series and of groups."""
    keys = np.concatenate([groups_of(ids), ids])
    keys.sort(kind="stable")  # Merges ascending runs.
    return _distinct(keys)


def _distinct(ascending: IntArray) -> IntArray:
    is_first = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=is_first[1:])
    return ascending[is_first]


def group_pages(samples: SeriesSamples, max_samples: int, max_bytes: int) -> list[Page]:
    """Pages of series of one group each, which are cut by time if these have many samples.

    A series that is alone in its group has up to `max_samples` in a page.
    """
    parts = list(_parts(samples, max_samples))
    ids, firsts, behinds = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    arranged = samples.parts(ids, firsts, behinds - firsts)
    ends = np.cumsum([len(of_page) for of_page, _, _ in parts])
    cuts = arranged.offsets[np.append(0, ends)]
    return encode_pages(arranged, MAX_SAMPLES, max_bytes, cuts=cuts)


def _parts(samples: SeriesSamples, max_samples: int) -> Iterator[Parts]:
    """What goes into each page."""
    ids, offsets, counts = samples.ids, samples.offsets, np.diff(samples.offsets)
    groups = ids & -SERIES_TOGETHER
    firsts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])).tolist()
    for first, behind in zip(firsts, [*firsts[1:], len(ids)], strict=True):
        longest = first + int(np.argmax(counts[first:behind]))
        most = max_samples if behind - first == 1 else SAMPLES_TOGETHER
        n_pages = -(-int(counts[longest]) // most)
        of_group = ids[first:behind], offsets[first:behind], offsets[first + 1 : behind + 1]
        if n_pages == 1:
            yield of_group
        else:
            times = samples.timestamps[offsets[longest] : offsets[longest + 1]]
            bounds = times[np.arange(1, n_pages) * len(times) // n_pages]
            yield from _cut_by_time(samples.timestamps, of_group, bounds)


def _cut_by_time(timestamps: IntArray, parts: Parts, bounds: IntArray) -> Iterator[Parts]:
    """The parts before, between and from some times on, without the empty ones."""
    ids, firsts, behinds = parts
    edges = np.empty((len(bounds) + 2, len(ids)), np.int64)
    edges[0], edges[-1] = firsts, behinds
    for series, (first, behind) in enumerate(zip(firsts.tolist(), behinds.tolist(), strict=True)):
        edges[1:-1, series] = first + np.searchsorted(timestamps[first:behind], bounds)
    for begins, ends in pairwise(edges):
        is_filled = ends > begins
        if is_filled.any():
            yield ids[is_filled], begins[is_filled], ends[is_filled]
