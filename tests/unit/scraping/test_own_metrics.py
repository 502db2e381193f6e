"""The service scrapes its own metrics by default, where nobody is disturbed by them."""

from typing import Any

import pytest

from promcompat.composition.network import ServiceAddress
from promcompat.composition.scraping import own_jobs
from promcompat.scraping.targets import targets_of
from promcompat.telemetry.telemetry import Telemetry
from tests.support.services.http_service import GivenSettings


@pytest.mark.parametrize(
    ("settings", "is_scraped"),
    [
        ({}, True),
        ({"scrape_self": False}, False),
        ({"tenancy": "header"}, False),
        ({"tenancy": "header", "scrape_self": True}, True),
    ],
)
def test_own_metrics_are_scraped_unless_they_would_disturb(
    settings: dict[str, Any], is_scraped: bool
) -> None:
    address = ServiceAddress(
        own_url="http://127.0.0.1:9201", external_url="https://replica-2:9201/x"
    )
    jobs = own_jobs(GivenSettings(**settings), address)
    targets = [target for job in jobs for target in targets_of(job, job.static).active]
    assert [target.url for target in targets] == ["http://127.0.0.1:9201/metrics"] * is_scraped
    # Replicas are told apart, although each reaches itself at the same address.
    assert [t.labels.get("instance") for t in targets] == ["replica-2:9201"] * is_scraped


def test_gauges_are_of_the_workers_that_there_are() -> None:
    metrics = Telemetry().scrapes
    gauges = [metrics.targets, metrics.waiting_samples, metrics.reload_successful]
    modes = [gauge._multiprocess_mode for gauge in gauges]
    assert modes == ["livemax", "livemax", "livemin"]
