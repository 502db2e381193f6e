"""The bits of what `anchored` and `smoothed` compute; scripts compare with a tolerance."""

import numpy as np

from promql.functions.extended_ranges import extended_windows
from promql.values.range_vectors import RangeVector
from tests.support.factories import make_block, make_labels


def test_values_at_the_ends_are_computed_in_the_order_of_prometheus() -> None:
    points = [(0, 0.2), (10_000, 1.7), (20_000, 0.9), (50_000, 1.3)]
    block = make_block({make_labels("m"): points})
    vector = RangeVector.of(block, np.array([27_000]), 24_000)
    found = extended_windows("smoothed", vector, 300_000).block
    left = 0.2 + (1.7 - 0.2) * 3_000.0 / 10_000.0
    right = 0.9 + (1.3 - 0.9) * 7_000.0 / 30_000.0
    assert found.timestamps.tolist() == [3_000, 10_000, 20_000, 27_000]
    assert found.values.tolist() == [left, 1.7, 0.9, right]
    assert left != np.interp(3_000, [0, 10_000], [0.2, 1.7])
