"""Which series share blocks, and by which key each of them is found."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.samples.codec.page_decoding import decode_joined
from sql.samples.codec.page_encoding import MAX_PAGE_SAMPLES
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.tables.block_groups import (
    SAMPLES_TOGETHER,
    SERIES_TOGETHER,
    block_keys,
    group_of,
    groups_of,
)
from sql.samples.tables.block_table import Origin, block_rows
from sql.samples.tables.slots import FAR_SLOT, slot_of
from tests.support.storage.sample_columns import samples_of

DAY = 19_000
T0 = DAY * 86_400_000
NEAR = Origin(1, slot_of(DAY), 0, False, 1, 1, 1)
FAR = Origin(1, FAR_SLOT, 0, False, 1, 1, 1)


def evenly(ids: range, n_samples: int, step_ms: int = 1_000) -> SeriesSamples:
    """Series with the same times."""
    return samples_of([(k, [(T0 + step_ms * n, k + n) for n in range(n_samples)]) for k in ids])


def test_series_with_neighbouring_ids_are_in_one_block() -> None:
    rows = block_rows(NEAR, evenly(range(14, 40), 10))
    assert [(row.page.first_series, row.page.last_series) for row in rows] == [
        (14, 15),
        (16, 31),
        (32, 39),
    ]
    assert [row.key for row in rows] == [0, 16, 32]


def test_a_series_alone_is_found_by_its_id_and_has_full_blocks() -> None:
    rows = block_rows(NEAR, evenly(range(21, 22), 2 * MAX_PAGE_SAMPLES, step_ms=1))
    assert [(row.key, row.page.n_samples) for row in rows] == [(21, MAX_PAGE_SAMPLES)] * 2


def test_far_blocks_have_one_series_each() -> None:
    for rows in (
        block_rows(FAR, evenly(range(1, 4), 10)),
        block_rows(NEAR, evenly(range(1, 4), 10), is_apart=True),
    ):
        assert [row.key for row in rows] == [1, 2, 3]


def test_long_blocks_are_cut_by_time_so_that_their_series_share_the_times() -> None:
    rows = block_rows(NEAR, evenly(range(16, 32), 3 * SAMPLES_TOGETHER))
    assert [row.page.n_samples for row in rows] == [SERIES_TOGETHER * SAMPLES_TOGETHER] * 3
    bounds = [(row.page.first_ms, row.page.last_ms) for row in rows]
    assert all(before[1] < after[0] for before, after in pairwise(bounds))


_SERIES = st.dictionaries(
    st.integers(1, 40),
    st.dictionaries(st.integers(0, 60), st.integers(0, 3), min_size=1),
    min_size=1,
)


@given(_SERIES, st.sampled_from([NEAR, FAR]), st.booleans())
def test_every_sample_is_in_a_block_that_its_series_is_found_by(
    values: dict[int, dict[int, int]], origin: Origin, is_apart: bool
) -> None:
    samples = samples_of(
        [(k, [(T0 + ms, bits) for ms, bits in sorted(values[k].items())]) for k in sorted(values)]
    )
    rows = block_rows(origin, samples, is_apart=is_apart)
    for series_id in values:
        keys = set(block_keys(np.array([series_id])).tolist())
        found = decode_joined(
            [row.page.payload for row in rows if row.key in keys], np.array([series_id])
        )
        assert found.timestamps.tolist() == [T0 + ms for ms in sorted(values[series_id])]
    joined = decode_joined([row.page.payload for row in rows])
    np.testing.assert_array_equal(joined.ids, samples.ids)
    np.testing.assert_array_equal(joined.timestamps, samples.timestamps)
    np.testing.assert_array_equal(joined.values.view(np.int64), samples.values.view(np.int64))
    assert all(group_of(row.page.first_series) == group_of(row.page.last_series) for row in rows)


def test_groups_and_keys_of_series() -> None:
    ids = np.array([3, 15, 16, 40, 47])
    assert groups_of(ids).tolist() == [0, 16, 32]
    assert block_keys(ids).tolist() == [0, 3, 15, 16, 32, 40, 47]
    assert block_keys(ids[:0]).tolist() == groups_of(ids[:0]).tolist() == []
