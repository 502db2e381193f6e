"""What a person reads when the service is up."""

import sys
from contextlib import suppress

import pytest

from promcompat.processes.serving.banner import print_banner, render_banner
from tests.support.services.http_service import GivenSettings


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "samples are kept for 30 days (PROMCOMPAT_RETENTION_DAYS)"),
        ({"retention_days": 400}, "samples are kept for 400 days (PROMCOMPAT_RETENTION_DAYS)"),
        ({"rollup_retention_days": 0}, "rollups forever (PROMCOMPAT_ROLLUP_RETENTION_DAYS)"),
        ({"rollup_retention_days": 9}, "rollups for 9 days (PROMCOMPAT_ROLLUP_RETENTION_DAYS)"),
        ({}, "access      off (everybody who reaches this address may do everything)"),
        ({"access": "tokens"}, "promcompat token create NAME --role admin --all-tenants"),
        ({"retention_days": 0}, "samples are kept forever (PROMCOMPAT_RETENTION_DAYS=0)"),
    ],
)
def test_banner_says_how_the_service_is_set_up(settings: dict[str, object], line: str) -> None:
    banner = render_banner(GivenSettings(**settings), "http://127.0.0.1:9201", "a database")
    assert line in banner


def test_output_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full, suppress(OSError):
        monkeypatch.setattr(sys, "stdout", full)
        print_banner(GivenSettings(), "http://127.0.0.1:9201", "a database")
        assert sys.stdout is not full
        sys.stdout.close()
        full.close()
