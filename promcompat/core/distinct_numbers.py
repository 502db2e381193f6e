"""The distinct numbers of columns.

`np.unique` and `np.union1d` of NumPy 2.4 look integers up in a hash table. Where nearly all differ,
as the ids of series do, that takes 100 times as long as sorting: 70 ms instead of 0.3 for 100,000.
"""

import numpy as np

from promcompat.core.model import IntArray


def distinct(*columns: IntArray) -> IntArray:
    """The numbers that are in at least one of the columns, ascending."""
    ordered = np.concatenate(columns)
    ordered.sort(kind="stable")  # Merges ascending runs.
    is_first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return np.compress(is_first, ordered)
