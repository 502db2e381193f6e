"""A tenant far above its limits is refused, and its neighbour goes on; a small form of
`make bench-fairness`, without a look at the clock."""

import pytest

from tests.benchmarks.fairness_load import Load, compare
from tests.support.services.native_service import running_native_service

pytestmark = pytest.mark.integration


async def test_a_noisy_tenant_is_refused_and_its_neighbour_is_not(plain_database_url: str) -> None:
    load = Load(
        rate=500,
        series=200,
        queries=1,
        rules=2,
        rule_terms=20,
        samples_per_write=100,
        quiet_series=20,
    )
    async with running_native_service(plain_database_url, tenancy="header") as service:
        found = await compare(str(service.client.make_url("")).rstrip("/"), load, 1.0, 1)
    # Every write of the quiet tenant was accepted, which the load checks, beside what was refused.
    assert found.beside.write
    assert found.beside.query
    told = found.noisy_statuses
    assert told["rule", 201] == load.rules
    assert told["rule", 409] == 4 * load.rules
    assert told["write", 400] + told["write", 429] > 0
    assert not any(status == 500 for _, status in told)
