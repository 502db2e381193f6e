"""The service scrapes its own metrics by default, where nobody is disturbed by them."""

from typing import Any

import pytest

from promcompat.composition.scraping import own_jobs
from promcompat.scraping.targets import targets_of
from tests.http_service import GivenSettings


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
    jobs = own_jobs(GivenSettings(**settings), "http://127.0.0.1:9201")
    urls = [target.url for job in jobs for target in targets_of(job, job.static).active]
    assert urls == ["http://127.0.0.1:9201/metrics"] * is_scraped
