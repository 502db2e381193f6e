"""What a serving process logs and counts of its maintenance."""

import logging
from typing import Any

import pytest

from promcompat.core.maintenance import MaintenanceFailure, StepReport
from promcompat.metrics.maintenance_service import MaintenanceReport, PeriodicMaintenance
from promcompat.telemetry.telemetry import Telemetry


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
        failures=[MaintenanceFailure("retain", f"metric {name}", "too slow") for name in "ab"]
    )
    telemetry = Telemetry()
    works = MaintenanceReport(
        steps=[
            StepReport("delete expired", 5, "samples", 0.1, 0),
            StepReport("retain", 2, "chunks", 0.1, 0),
        ]
    )
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
    assert 'promcompat_maintenance_failures_total{task="retain"} 6.0' in text
    assert 'promcompat_maintenance_failures_total{task="hours"} 0.0' in text
    assert "promcompat_maintenance_samples_deleted_total 5.0" in text
    assert "promcompat_maintenance_chunks_dropped_total 2.0" in text
