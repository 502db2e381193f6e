"""What a serving process logs and counts of its maintenance."""

import logging
from typing import Any

import pytest

from promcompat.core.maintenance import RetainedMetric
from promcompat.metrics.maintenance_service import MaintenanceFailure, MaintenanceReport
from promcompat.metrics.periodic_maintenance import PeriodicMaintenance
from promcompat.telemetry import Telemetry

METRIC = RetainedMetric(1, "red", "m", 90)


class Runs:
    """A service whose runs end with given reports."""

    def __init__(self, *reports: MaintenanceReport) -> None:
        self._reports = list(reports)

    async def run_once(self) -> MaintenanceReport:
        return self._reports.pop(0)


async def test_what_fails_every_hour_is_logged_once_and_counted_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = MaintenanceReport(
        failures=[MaintenanceFailure("retention", "metric m", "too slow")] * 2, ignored=[METRIC]
    )
    telemetry = Telemetry()
    works = MaintenanceReport(deleted=[(METRIC, 5)], n_chunks_dropped=2)
    runs: Any = Runs(failing, failing, works, failing)
    maintenance = PeriodicMaintenance(runs, telemetry.maintenance)
    with caplog.at_level(logging.WARNING):
        await maintenance.run_once()
        assert len(caplog.records) == 2
        await maintenance.run_once()
        await maintenance.run_once()
        assert len(caplog.records) == 2
        await maintenance.run_once()
        assert len(caplog.records) == 4
    text = telemetry.render().decode()
    assert 'promcompat_maintenance_failures_total{task="retention"} 6.0' in text
    assert 'promcompat_maintenance_failures_total{task="metrics_hourly"} 0.0' in text
    assert "promcompat_maintenance_samples_deleted_total 5.0" in text
    assert "promcompat_maintenance_chunks_dropped_total 2.0" in text
