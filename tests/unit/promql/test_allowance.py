"""What is used comes back with time, and is each tenant's own."""

from math import inf

from promql.allowance import Allowance


def test_what_is_taken_comes_back_with_time() -> None:
    now = [100.0]
    allowance = Allowance(10, 50, lambda: now[0])
    assert not allowance.take("a", inf)
    assert allowance.take("a", 50)
    assert not allowance.take("a", 1)
    assert allowance.take("b", 1)
    now[0] += 0.5
    assert not allowance.take("a", 6)
    assert allowance.take("a", 5)
    now[0] += 3600
    assert not allowance.take("a", 51)
    assert allowance.left("a") == 50


def test_what_is_owed_is_bounded() -> None:
    now = [0.0]
    allowance = Allowance(10, 50, lambda: now[0])
    allowance.use("a", 1000)
    assert allowance.left("a") == -50
    now[0] += 6
    assert allowance.left("a") == 10


def test_tenants_that_asked_longest_ago_are_forgotten() -> None:
    allowance = Allowance(1, 1, lambda: 0.0)
    for number in range(10_001):
        allowance.use(str(number), 1)
    assert allowance.left("0") == 1
    assert allowance.left("10000") == 0
