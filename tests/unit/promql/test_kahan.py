"""Compensated sums: the quick way for whole numbers is the slow way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promql.numbers.kahan import kahan_add, kahan_add_all, kahan_result

WHOLE = st.one_of(
    st.integers(-(2**54), 2**54).map(float), st.integers(-9, 9).map(float), st.just(-0.0)
)
ANY = st.one_of(WHOLE, st.floats(width=64), st.floats(-1, 1))


@given(
    st.one_of(arrays(np.float64, (3, 2), elements=WHOLE), arrays(np.float64, (3, 2), elements=ANY)),
    arrays(np.float64, (2,), elements=ANY),
    arrays(np.float64, (2,), elements=st.floats(-1, 1)),
)
def test_all_terms_at_once_are_one_after_the_other(
    terms: np.ndarray, total: np.ndarray, compensation: np.ndarray
) -> None:
    with np.errstate(all="ignore"):
        for begin in (total, np.full(2, -0.0)):
            expected = begin, compensation
            for term in terms:
                expected = kahan_add(*expected, term)
            found = kahan_add_all(begin, compensation, terms)
            np.testing.assert_array_equal(kahan_result(*found), kahan_result(*expected))
            np.testing.assert_array_equal(found, expected)


def test_whole_numbers_that_round_are_compensated() -> None:
    terms = np.array([[2.0**53], [1.0], [1.0], [-(2.0**53)]])
    with np.errstate(all="ignore"):
        total, compensation = kahan_add_all(np.full(1, -0.0), np.zeros(1), terms)
    assert kahan_result(total, compensation).tolist() == [2.0]
