"""Status: what the service stores and does; and its first start, before anybody sends anything."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from conformance.processes import running_promcompat
from tests.browser.conftest import Machine
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e


def test_a_first_start_says_what_to_do_and_turns_into_the_picture(
    tab: Page,
    timescaledb_server: DatabaseServer,
    tmp_path: Path,
    check_accessibility: Callable[[Page], None],
) -> None:
    require_component("the page")
    url = timescaledb_server.create_database()
    with running_promcompat(url, tmp_path / "log", scrape_self="true") as service:
        tab.goto(service.url)
        waiting = tab.get_by_role("heading", name="No data of yours yet")
        expect(waiting).to_be_visible()
        for sender, text in (
            ("Prometheus", f"- url: {service.url}/api/v1/write"),
            ("vmagent", f"-remoteWrite.url={service.url}/api/v1/write"),
            ("OpenTelemetry Collector", f"endpoint: {service.url}/otlp"),
            ("curl", f"curl {service.url}/api/v1/metrics/ingest"),
        ):
            tab.get_by_role("tab", name=sender, exact=True).click()
            expect(tab.get_by_label(f"Settings for {sender}")).to_contain_text(text)
        check_accessibility(tab)
        # What is shown is what works.
        command = tab.get_by_label("Settings for curl").inner_text()
        subprocess.run(["bash", "-c", f"{command} --fail"], check=True, capture_output=True)
        expect(waiting).to_have_count(0)
        expect(tab.get_by_role("link", name="queue_length")).to_contain_text("42")
        # What the service measures of itself.
        tab.goto(f"{service.url}/status?refresh=1s&from=now-5m")
        expect(tab.get_by_role("img", name="Head: samples in memory")).to_be_visible()
        expect(tab.get_by_text("no background task failed in the last hour")).to_be_visible()
        check_accessibility(tab)


def test_what_is_stored_and_who_is_up(tab: Page, machine: Machine) -> None:
    tab.goto(f"{machine.url}/status")
    stored = tab.get_by_role("region", name="Stored")
    expect(stored).to_contain_text("forever")
    expect(stored).to_contain_text("1 of 1 up")
    tab.get_by_role("tab", name="Targets").click()
    row = tab.get_by_role("region", name="Targets").get_by_role("row").last
    expect(row).to_contain_text("up")
    expect(row).to_contain_text("job=node")
    tab.get_by_label("Health").select_option("down")
    expect(tab.get_by_text("No target matches.")).to_be_visible()
    assert "health=down" in tab.url


def test_the_longest_queries_and_the_running_ones(tab: Page, machine: Machine) -> None:
    query = "sum(rate(orders_total[7m]))"
    # More often than the views ask anything themselves.
    for _ in range(50):
        machine.ask("query", query=query)
    tab.goto(f"{machine.url}/status?{urlencode({'tab': 'queries', 'order': 'count'})}")
    expect(tab.get_by_role("link", name=query)).to_be_visible()
    # A query that takes minutes, whatever samples there are, is seen running, and ended.
    slow = "max_over_time(quantile_over_time(0.9, vector(time())[1h:1s])[5d:1s])"
    program = (
        "import sys, urllib.request as r, urllib.error as e\n"
        "try: r.urlopen(sys.argv[1], timeout=120)\n"
        "except e.HTTPError as error: print(error.read().decode())"
    )
    address = f"{machine.url}/api/v1/query?{urlencode({'query': slow})}"
    with subprocess.Popen(
        [sys.executable, "-c", program, address], stdout=subprocess.PIPE
    ) as asked:
        tab.get_by_role("button", name=f"Cancel {slow}").click()
        expect(tab.get_by_text("The query is cancelled.")).to_be_visible()
        assert b"canceled" in asked.communicate(timeout=120)[0]


def test_limits_and_settings(tab: Page, machine: Machine) -> None:
    tab.goto(f"{machine.url}/status?tab=limits")
    name = tab.get_by_text("max_definitions", exact=True)
    row = tab.get_by_role("row").filter(has=name)
    expect(row).to_contain_text("10,000 definitions")
    expect(row).to_contain_text("PROMCOMPAT_MAX_DEFINITIONS")
    tab.get_by_role("tab", name="Settings").click()
    tab.get_by_label("Search in the settings").fill("database-url")
    rows = tab.get_by_role("region", name="Settings").get_by_role("row")
    expect(rows.filter(has_text="admin-api")).to_have_count(0)
    # The address of the database is shown without its password.
    expect(rows.nth(1)).to_contain_text("postgresql://")
    assert machine.ask("status/flags")["database-url"] in rows.nth(1).inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_status_follows_wcag_and_fits_a_narrow_screen(
    tab: Page, machine: Machine, theme: str, check_accessibility: Callable[[Page], None]
) -> None:
    tab.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    tab.set_viewport_size({"width": 360, "height": 800})
    for name, seen in (
        ("overview", "On disk"),
        ("targets", "job=node"),
        ("queries", "Running now"),
        ("limits", "ingestion_rate"),
        ("settings", "data-dir"),
    ):
        tab.goto(f"{machine.url}/status?tab={name}")
        expect(tab.get_by_text(seen).first).to_be_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        check_accessibility(tab)
