"""What a tenant may evaluate in threads comes back with time, and is each tenant's own."""

from math import inf

from promql.thread_allowance import CELLS_A_SECOND, MOST_CELLS, ThreadAllowance


def test_what_is_taken_comes_back_with_time() -> None:
    now = [100.0]
    allowance = ThreadAllowance(lambda: now[0])
    assert not allowance.take("a", inf)
    assert allowance.take("a", MOST_CELLS)
    assert not allowance.take("a", 1)
    assert allowance.take("b", 1)
    now[0] += 0.5
    assert not allowance.take("a", CELLS_A_SECOND)
    assert allowance.take("a", CELLS_A_SECOND / 2)
    now[0] += 3600
    assert not allowance.take("a", MOST_CELLS + 1)
    assert allowance.take("a", MOST_CELLS)


def test_tenants_that_asked_longest_ago_are_forgotten() -> None:
    allowance = ThreadAllowance(lambda: 0.0)
    for number in range(10_001):
        assert allowance.take(str(number), MOST_CELLS)
    assert allowance.take("0", MOST_CELLS)
    assert not allowance.take("10000", 1)
