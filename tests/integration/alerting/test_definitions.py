"""Metric definitions in the database: compare and set, versions that never come back."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.core.alerting.thresholds import AlertThreshold, Direction, ThresholdOverride
from promcompat.core.definitions import (
    Aggregation,
    DuplicatePolicy,
    MetricDefinition,
    MetricType,
)
from promcompat.core.model import Labels
from sql.definitions.definition_repository import PostgresDefinitionRepository
from tests.support.storage.repositories import opened_storage

pytestmark = pytest.mark.integration

FULL = MetricDefinition(
    name="queue ünïcode",
    display_name="Queue",
    description="How many wait.",
    unit="items",
    type=MetricType.COUNTER,
    aggregation=Aggregation.P95,
    retention_days=30,
    duplicate_policy=DuplicatePolicy.LAST,
    alert_threshold=AlertThreshold(
        warning=1.5,
        critical=None,
        direction=Direction.BELOW,
        for_ms=60_000,
        overrides=(ThresholdOverride(Labels.of({"queue": "mail"}), 3.0, 4.0),),
        remediation=RemediationSpec(
            workflow_type="Restart",
            task_queue="repairs",
            input_template={"host": "{{ $labels.host }}", "deep": {"n": [1, None]}},
            cooldown_ms=5_000,
            max_attempts=3,
            needs_approval=True,
        ),
    ),
)


@pytest.fixture
async def definitions(database_url: str) -> AsyncIterator[PostgresDefinitionRepository]:
    async with opened_storage(database_url) as repository:
        yield PostgresDefinitionRepository(repository.database)


async def test_a_definition_comes_back_as_it_was_saved(
    definitions: PostgresDefinitionRepository,
) -> None:
    saved = await definitions.save("t", FULL, 0)
    assert saved is not None
    assert saved.version == 1
    assert 0 < saved.created_ms <= saved.updated_ms
    assert await definitions.find("t", FULL.name) == saved
    assert await definitions.list_thresholds("t") == {FULL.name: FULL.alert_threshold}
    assert replace(saved, version=0, created_ms=0, updated_ms=0) == FULL


async def test_save_and_delete_need_the_present_version(
    definitions: PostgresDefinitionRepository,
) -> None:
    first = await definitions.save("t", MetricDefinition(name="m"), 0)
    assert first is not None
    assert await definitions.save("t", MetricDefinition(name="m"), 0) is None
    assert await definitions.save("t", MetricDefinition(name="m"), first.version + 7) is None
    second = await definitions.save("t", replace(first, unit="s"), first.version)
    assert second is not None
    assert second.version > first.version
    assert await definitions.delete("t", "m", first.version) is False
    assert await definitions.delete("t", "m", second.version) is True
    assert await definitions.find("t", "m") is None
    again = await definitions.save("t", MetricDefinition(name="m"), 0)
    assert again is not None
    assert again.version > second.version


async def test_definitions_are_listed_by_name_and_tenant(
    definitions: PostgresDefinitionRepository,
) -> None:
    for name in ("b", "a_2", "a_1", "A"):
        await definitions.save("t", MetricDefinition(name=name), 0)
    await definitions.save("other", MetricDefinition(name="a_3"), 0)
    assert [definition.name for definition in await definitions.list("t")] == [
        "A",
        "a_1",
        "a_2",
        "b",
    ]
    page = await definitions.list("t", prefix="a_", after="a_1", limit=1)
    assert [definition.name for definition in page] == ["a_2"]
    assert await definitions.list("nobody") == []
    assert await definitions.list("t", prefix="\0") == []
