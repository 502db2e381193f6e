"""The short form of `make chaos`: one sudden death of each kind while senders write.

The service has two workers; `make chaos` has a second service as well.
"""

import random
from pathlib import Path

import pytest

from sql.embedded.distributions import PostgresDistribution
from tests.chaos.kills import TARGETS, running_system, write_through_kills
from tests.chaos.stores import SHORT

pytestmark = pytest.mark.e2e

N_SERIES = 20


async def test_nothing_acknowledged_is_lost_or_doubled(
    timescaledb_distribution: PostgresDistribution, tmp_path: Path
) -> None:
    rng = random.Random(11)
    targets = rng.sample(TARGETS, len(TARGETS))
    with running_system(timescaledb_distribution, tmp_path, {"store": SHORT}, ()) as system:
        verdict = await write_through_kills(system, targets, rng, N_SERIES, lambda _line: None)
    assert verdict.by_api.n_compared > 0
    assert verdict.is_good, str(verdict)
