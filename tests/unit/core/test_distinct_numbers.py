"""The distinct numbers of columns."""

import numpy as np
import pytest

from promcompat.core.distinct_numbers import distinct


@pytest.mark.parametrize(
    "columns",
    [
        [[]],
        [[7]],
        [[3, 1, 3, -(1 << 63), (1 << 63) - 1, 1]],
        [[1, 2, 5], [], [2, 3, 5, 9]],
    ],
)
def test_each_number_is_there_once_in_ascending_order(columns: list[list[int]]) -> None:
    found = distinct(*(np.array(column, np.int64) for column in columns))
    assert found.dtype == np.int64
    assert found.tolist() == sorted({number for column in columns for number in column})
