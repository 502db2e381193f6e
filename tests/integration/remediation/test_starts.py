"""When remediations of alerts are started, on a real database."""

import asyncio

import pytest

from promql.query import Query
from promql.values.matrix import QueryResult
from tests.support.factories import make_labels
from tests.support.services.alerting import (
    TENANT,
    make_remediation,
    make_rule,
    running_alerting,
)

pytestmark = pytest.mark.integration


async def test_slow_templates_keep_the_remediations_of_no_other_tenant_waiting(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promcompat.remediation.starts._TEMPLATE_SECONDS", 0.2)
    slow = make_remediation(input_template={"x": '{{ query "slow" }}'})
    async with running_alerting(plain_database_url) as alerting:
        run = alerting.queries.run

        async def run_slowly(query: Query) -> QueryResult:
            if query.text == "slow":
                await asyncio.Event().wait()
            return await run(query)

        monkeypatch.setattr(alerting.queries, "run", run_slowly)
        for tenant, spec in ((TENANT, slow), ("other", make_remediation())):
            await alerting.rules.create(tenant, make_rule(remediation=spec))
            for host in "abcdefghijkl":
                labels = make_labels("m", host=host)
                await alerting.write(labels, (0, 10.0), tenant=tenant)
            await alerting.evaluate(15_000)
        await asyncio.wait_for(alerting.remediations.start_due(), 30)
        tenants = [request.tenant for request in alerting.launcher.started.values()]
        assert tenants == ["other"] * 12
        monkeypatch.undo()
        while len(alerting.launcher.started) < 24:
            alerting.clock.now_ms += 10_000
            await alerting.remediations.start_due()
