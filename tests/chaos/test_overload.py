"""The short form of an overload: many senders at once, and little memory for their requests."""

from pathlib import Path

import pytest

from sql.embedded.distributions import PostgresDistribution
from tests.chaos.crashing_database import crashing_database
from tests.chaos.overload import make_load, overload
from tests.chaos.stores import SHORT
from tests.chaos.survival import scene

pytestmark = pytest.mark.e2e

N_SENDERS = 40
N_SERIES = 500
SECONDS = 4.0
HELD_BYTES = 2 << 20
MEMORY_BYTES = 900 << 20
"""Of a service with its libraries, caches of 20,000 series and what it may hold."""


async def test_overload_is_refused_for_now_and_what_is_taken_is_stored(
    wheel_distribution: PostgresDistribution, tmp_path: Path
) -> None:
    settings = {"store": SHORT, "max_held_body_bytes": str(HELD_BYTES)}
    load = make_load(N_SENDERS, N_SERIES)
    with crashing_database(wheel_distribution, tmp_path / "database") as database:
        async with scene(database, tmp_path, settings, seed=6) as there:
            seen = await overload(there.replica, there.api, load, SECONDS)
    assert seen.n_stored == seen.load.n_samples > 0, str(seen)
    assert set(seen.load.refused) == {"503"}, str(seen)
    assert set(seen.query_answers) <= {200, 503}, str(seen)
    assert seen.query_answers.get(200), str(seen)
    assert seen.peak_bytes < MEMORY_BYTES, str(seen)
