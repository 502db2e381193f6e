"""The service's own metrics."""

from dataclasses import fields

import pytest

from promcompat.telemetry.telemetry import Telemetry
from sql.database.storage_stats import StorageStats
from sql.samples.draining.drainer import DrainStats
from sql.samples.head.memory import HeadStats
from sql.samples.reading.drained_cache import DrainedCacheStats


def test_storage_totals_come_over_as_differences() -> None:
    telemetry = Telemetry()
    sample = telemetry.registry.get_sample_value
    telemetry.storage.update({"commits": 3, "rows_waiting": 7})
    telemetry.storage.update({"commits": 5, "rows_waiting": 2})
    assert sample("promcompat_storage_commits_total") == 5
    assert sample("promcompat_storage_rows_waiting") == 2


def test_every_storage_total_is_published() -> None:
    telemetry = Telemetry()
    telemetry.storage.update({field.name: 1.0 for field in fields(StorageStats)})
    text = telemetry.render().decode()
    for field in fields(StorageStats):
        assert f"\npromcompat_storage_{field.name}" in text


def test_every_total_of_the_store_is_published() -> None:
    telemetry = Telemetry()
    head = {field.name: 1.0 for field in fields(HeadStats)} | {"lag_seconds": 2.0}
    head |= {f"cache_{field.name}": 1.0 for field in fields(DrainedCacheStats)}
    telemetry.sample_store.update_head(head)
    telemetry.sample_store.update_drains({field.name: 1.0 for field in fields(DrainStats)})
    text = telemetry.render().decode()
    for name in head:
        assert f"\npromcompat_head_{name}" in text
    for field in fields(DrainStats):
        assert f"\npromcompat_blocks_{field.name}" in text
    assert telemetry.registry.get_sample_value("promcompat_head_lag_seconds") == 2.0


def test_queries_are_observed() -> None:
    telemetry = Telemetry()
    telemetry.query.observe({"evalTotalTime": 0.5}, 7)
    name = "promcompat_query_stage_duration_seconds_sum"
    assert telemetry.registry.get_sample_value(name, {"stage": "evalTotalTime"}) == 0.5
    assert telemetry.registry.get_sample_value("promcompat_query_samples_total") == 7


def test_creation_times_are_left_out() -> None:
    assert "_created" not in Telemetry().render().decode()


@pytest.mark.parametrize("what", ["limits_file_last", "scrape_config_last", "tls_certificate"])
def test_nothing_has_failed_before_it_was_read(what: str) -> None:
    """An alert on 0 would fire in each service without such a file, and at each start."""
    name = f"promcompat_{what}_reload_successful"
    assert Telemetry().registry.get_sample_value(name) == 1
