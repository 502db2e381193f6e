"""Rows of a commit in the order of tenant, series and time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.database.copy_format import SampleRows
from sql.samples.writing.sorted_rows import SortedRows

KEYS = st.lists(
    st.sampled_from([(1, 2), (1, 4), (2, 1), (2, 3)]).flatmap(
        lambda series: st.tuples(*map(st.just, series), st.integers(0, 4))
    ),
    max_size=12,
)
"""Tenant, series and time; a series has one tenant, whose ids are between those of the other."""


@given(KEYS | KEYS.map(sorted) | KEYS.map(lambda keys: sorted(set(keys))))
def test_rows_are_sorted_and_those_of_a_key_stay_as_they_came(
    keys: list[tuple[int, int, int]],
) -> None:
    tenants, series, times = np.array(keys, np.int64).reshape(-1, 3).T
    bits = np.arange(len(keys), dtype=np.uint64)
    found = SortedRows.of(SampleRows(series, times, bits, tenant_ids=tenants))
    expected = sorted(range(len(keys)), key=keys.__getitem__)
    assert found.order.tolist() == found.rows.bits.tolist() == expected
    assert found.rows.tenant_ids is not None
    columns = found.rows.tenant_ids, found.rows.series_ids, found.rows.timestamps
    ordered = list(zip(*(column.tolist() for column in columns), strict=True))
    assert ordered == sorted(keys)
    assert [ordered[start] for start in found.starts[:-1]] == sorted(set(keys))
    assert found.starts[-1] == len(keys)
