"""Rollups in memory are found by question and periods, and take a bounded amount of memory."""

from dataclasses import replace

import numpy as np
import pytest

from sql.pushdown.window_grid import WindowGrid
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.reading.rollups.cache import (
    KnownRollups,
    RollupCache,
    RollupKey,
    RollupVersion,
)
from sql.samples.reading.rollups.choice import RollupUse, Stand
from sql.samples.reading.rollups.days import RollupQuestion
from sql.samples.reading.rollups.rolled_samples import Rolled
from sql.samples.rollups.rollup_pages import FIVE_MINUTES, HOUR

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
QUESTION = RollupQuestion(1, np.array([3, 5]), 0, 24 * HOUR_MS)
USE = RollupUse(FIVE_MINUTES, Stand.RESETS, WindowGrid(HOUR_MS, HOUR_MS, 24, 5 * MINUTE_MS))


def known(n_samples: int = 10, periods: tuple[int, int] = (2, 5)) -> KnownRollups:
    times = np.arange(n_samples)
    samples = SeriesSamples(np.array([3]), np.array([0, n_samples]), times, np.ones(n_samples))
    return KnownRollups(RollupVersion("epoch", 7), periods, Rolled(samples))


def test_a_part_of_the_periods_that_are_known_is_found() -> None:
    cache, key = RollupCache(10_000), RollupKey.of(QUESTION, USE)
    cache.add(key, known())
    assert cache.find(key, (2, 5)) is cache.find(key, (3, 4)) is not None
    assert cache.find(key, (1, 4)) is cache.find(key, (4, 6)) is None


@pytest.mark.parametrize(
    ("use", "is_same"),
    [
        (replace(USE, stand=Stand.ENDS), True),
        (replace(USE, grid=replace(USE.grid, first_ms=5 * HOUR_MS, n_steps=3)), True),
        (replace(USE, grid=replace(USE.grid, first_ms=HOUR_MS + MINUTE_MS)), False),
        (replace(USE, grid=replace(USE.grid, reach_ms=10 * MINUTE_MS)), False),
        (replace(USE, grid=replace(USE.grid, step_ms=2 * HOUR_MS)), False),
        (replace(USE, level=HOUR), False),
        (replace(USE, stand=Stand.MAXIMUM), False),
    ],
)
def test_windows_and_what_is_read_tell_questions_apart(use: RollupUse, is_same: bool) -> None:
    assert (RollupKey.of(QUESTION, use) == RollupKey.of(QUESTION, USE)) == is_same
    other = RollupQuestion(2, QUESTION.wanted, QUESTION.start_ms, QUESTION.end_ms)
    assert RollupKey.of(other, USE) != RollupKey.of(QUESTION, USE)


def test_the_answers_that_were_used_last_stay() -> None:
    cache = RollupCache(10_000)
    keys = [replace(RollupKey.of(QUESTION, USE), tenant_id=number) for number in range(4)]
    for key in keys[:3]:
        cache.add(key, known(50))
    assert cache.find(keys[0], (2, 5)) is not None
    cache.add(keys[3], known(50))
    kept = [key.tenant_id for key in keys if cache.find(key, (2, 5)) is not None]
    assert kept == [0, 2, 3]
    cache.add(keys[0], known(1_000))
    assert cache.find(keys[0], (2, 5)) is None
    cache.add(keys[2], known(60))
    cache.add(keys[1], known(50))
    assert all(cache.find(key, (2, 5)) is not None for key in keys[1:])
