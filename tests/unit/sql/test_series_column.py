"""A number for each of many series, as a dictionary would have it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sql.caching import series_column
from sql.caching.series_column import SeriesColumn

STEPS = st.lists(
    st.tuples(st.booleans(), st.dictionaries(st.integers(-20, 20), st.integers(0, 9), max_size=12)),
    max_size=12,
)


@given(steps=STEPS, max_recent=st.integers(0, 8))
def test_numbers_are_those_of_a_dictionary(
    steps: list[tuple[bool, dict[int, int]]], max_recent: int
) -> None:
    column, model = SeriesColumn(1_000), dict[int, int]()
    before, series_column._MAX_RECENT = series_column._MAX_RECENT, max_recent
    try:
        for raises, numbers in steps:
            ids = np.array(sorted(numbers), np.int64)
            new = np.array([numbers[one] for one in ids.tolist()], np.int64)
            if raises:
                earlier = column.raise_to(ids, new, -1)
                assert earlier.tolist() == [model.get(one, -1) for one in ids.tolist()]
                model |= {one: max(number, model.get(one, -1)) for one, number in numbers.items()}
            else:
                column.put(ids, new)
                model |= numbers
            wanted = np.arange(-25, 25)
            assert column.get(wanted, -1).tolist() == [model.get(one, -1) for one in wanted]
            assert len(column) == len(model)
    finally:
        series_column._MAX_RECENT = before


def test_too_many_series_are_forgotten() -> None:
    column = SeriesColumn(100_000)
    for first in range(0, 400_000, 50_000):
        column.put(np.arange(first, first + 50_000), np.arange(50_000))
        assert len(column) <= 100_000 + 50_000 + 65_536
    assert column.get(np.array([399_999]), -1).tolist() == [49_999]
