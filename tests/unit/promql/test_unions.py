"""Chains of `or`: put together at once they are what each `or` by itself gives."""

import numpy as np
import pytest

from tests.support.factories import make_labels
from tests.unit.promql.queries import Series, rows, run_range, steps

N_STEPS = 6


def random_series(seed: int) -> Series:
    """Series of four metrics that share labels and are absent at half of the steps."""
    random = np.random.default_rng(seed)
    return {
        make_labels(name, job=job, host=host): steps(
            [float(value) if value > 0.5 else None for value in random.random(N_STEPS)]
        )
        for name in ("a", "b", "c", "d")
        for job in ("x", "y")
        for host in ("1", "2", "3")
        if random.random() > 0.3
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(
    ("chain", "one_by_one"),
    [
        ("a or b or c or d", "((a or b) or c) or d"),
        ("a or b or a or b", "((a or b) or a) or b"),
        ("nope or a or nope or b", "((nope or a) or nope) or b"),
        ("a or on (job) b or on (job) c", "(a or on (job) b) or on (job) c"),
        (
            "a or ignoring (host) b or ignoring (host) c or d",
            "((a or ignoring (host) b) or ignoring (host) c) or d",
        ),
        (
            "a or b or on (job) c or on (job) d or a",
            "(((a or b) or on (job) c) or on (job) d) or a",
        ),
        ("a + 0 or b or d or on () vector(1)", "(((a + 0) or b) or d) or on () vector(1)"),
        ("a @ 60 or b @ 60 or c or d", "(((a @ 60) or b @ 60) or c) or d"),
        ("sum(a or b or c or d)", "sum(((a or b) or c) or d)"),
    ],
)
async def test_chain_equals_its_parts(
    chain: str, one_by_one: str, delayed: bool, seed: int
) -> None:
    series = random_series(seed)
    options = {"lookback_delta_ms": 60_000, "delayed_name_removal": delayed}
    united = await run_range(chain, series, N_STEPS, **options)
    expected = await run_range(one_by_one, series, N_STEPS, **options)
    assert rows(united) == rows(expected)
    assert united.stats.peak_samples == expected.stats.peak_samples
    assert united.stats.total_samples == expected.stats.total_samples
    assert rows(expected)
