"""Metrics: what a service has, one metric with its chart, labels and definition."""

from collections.abc import Callable
from contextlib import suppress
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Machine

pytestmark = pytest.mark.e2e


def address(machine: Machine, **parameters: str) -> str:
    return f"{machine.url}/metrics-explorer?{urlencode(parameters)}"


def test_the_start_page_shows_what_is_measured(tab: Page, machine: Machine) -> None:
    tab.goto(machine.url)
    expect(tab.get_by_role("link", name="node: 1 of 1 up")).to_be_visible()
    card = tab.get_by_role("region", name="Metrics of queue_").get_by_role("link").last
    expect(card).to_contain_text("queue_length")
    card.scroll_into_view_if_needed()
    # A value, not only a name: the mean of the newest samples of three shops.
    expect(card).to_contain_text("mean")
    card.click()
    expect(tab.get_by_role("heading", name="queue_length")).to_be_visible()
    expect(tab.get_by_role("img", name="queue_length over time")).to_be_visible()


def test_metrics_are_found_by_words_of_their_help(tab: Page, machine: Machine) -> None:
    tab.goto(address(machine))
    tab.get_by_label("Search in names, help and units").fill("load average 15m")
    rows = tab.get_by_role("region", name="Metrics", exact=True).get_by_role("row")
    # The heading and one metric.
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text("node_load15")
    expect(rows.last).to_contain_text("gauge")
    assert "search=load+average+15m" in tab.url
    value = machine.ask("query", query="count(orders_total)")["result"][0]["value"][1]
    tab.get_by_label("Search in names, help and units").fill("orders_total")
    expect(rows.last.get_by_role("cell").nth(3)).to_have_text(value)
    # The rate of all series together.
    expect(rows.last.get_by_role("cell").last).to_contain_text("/s rate")


def test_the_cardinality_of_labels(tab: Page, machine: Machine) -> None:
    tab.goto(address(machine, tab="cardinality"))
    labels = tab.get_by_role("region", name="Values of each label")
    labels.get_by_role("link", name="shop", exact=True).click()
    values = tab.get_by_role("region", name="Values of shop").last
    expect(values).to_contain_text("berlin")
    shown = [row.split() for row in values.get_by_role("row").all_inner_texts()]
    expected = machine.ask("query", query='count by (shop) ({shop!=""})')["result"]
    assert {tuple(row) for row in shown[1:]} >= {
        (one["metric"]["shop"], one["value"][1]) for one in expected
    }


def test_a_chart_without_promql_leads_to_explore(tab: Page, machine: Machine) -> None:
    tab.goto(address(machine, metric="queue_length"))
    legend = tab.get_by_role("region", name="Legend").get_by_role("row")
    expect(legend).to_have_count(4)
    tab.get_by_label("Aggregation").select_option("max")
    tab.get_by_label("Lines").select_option("by")
    tab.get_by_label("shop", exact=True).check()
    tab.get_by_label("job", exact=True).uncheck()
    expect(legend.nth(1)).to_contain_text('{shop="berlin"}')
    # A value of a label becomes a filter.
    tab.get_by_role("button", name="shop", exact=True).click()
    tab.get_by_role("button", name="oslo", exact=True).click()
    expect(legend).to_have_count(2)
    expect(legend.last).to_contain_text('{shop="oslo"}')
    # A link shows the same to others.
    tab.goto(tab.url)
    expect(legend.last).to_contain_text('{shop="oslo"}')
    tab.get_by_role("link", name="Open in Explore").click()
    expression = 'max by (shop) (max_over_time(queue_length{shop="oslo"}[30s]))'
    expect(tab.get_by_role("img", name=expression)).to_be_visible()


def test_a_definition_is_edited_in_place(tab: Page, machine: Machine) -> None:
    path = "/definitions/queue_length"
    tab.goto(address(machine, metric="queue_length", tab="definition"))
    critical = tab.get_by_label("Critical", exact=True)
    tab.get_by_label("Warning", exact=True).fill("40")
    critical.fill("30")
    tab.get_by_label("Unit", exact=True).fill("jobs")
    # Limits are drawn while they are written.
    expect(tab.get_by_role("img", name="critical at 30")).to_be_visible()
    tab.get_by_label("Kept for (days)").fill("0")
    tab.get_by_role("button", name="Create the definition").click()
    # The service's own words, at the fields.
    days = tab.get_by_label("Kept for (days)")
    expect(days).to_have_attribute("aria-invalid", "true")
    tab.get_by_label("Kept for (days)").fill("7")
    tab.get_by_role("button", name="Create the definition").click()
    expect(tab.get_by_text("The threshold has critical 30")).to_be_visible()
    critical.fill("50")
    tab.get_by_role("button", name="Create the definition").click()
    expect(tab.get_by_text("kept for 7 days")).to_be_visible()
    stored = machine.send(path, {}, "PATCH")
    assert (stored["unit"], stored["type"], stored["retention_days"]) == ("jobs", "gauge", 7)
    assert stored["alert_threshold"]["critical"] == 50
    try:
        # Somebody else changes it before this form is sent.
        machine.send(path, {"display_name": "Mail queue"}, "PATCH")
        tab.get_by_label("Unit", exact=True).fill("mails")
        tab.get_by_role("button", name="Save").click()
        tab.get_by_role("button", name="Read the current definition").click()
        expect(tab.get_by_label("Display name")).to_have_value("Mail queue")
        expect(tab.get_by_label("Unit", exact=True)).to_have_value("jobs")
        tab.get_by_role("button", name="Delete the definition").click()
        tab.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(tab.get_by_text("without a definition")).to_be_visible()
    finally:
        with suppress(HTTPError):
            machine.send(path, {}, "DELETE")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_metrics_follow_wcag_and_fit_a_narrow_screen(
    tab: Page, machine: Machine, theme: str, check_accessibility: Callable[[Page], None]
) -> None:
    tab.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    tab.set_viewport_size({"width": 360, "height": 800})
    for parameters, seen in (
        ({}, "node_arp_entries"),
        ({"tab": "cardinality", "label": "shop"}, "berlin"),
        ({"metric": "queue_length", "by": "shop", "filters": "shop=oslo"}, "job"),
        ({"metric": "queue_length", "tab": "definition"}, "Threshold"),
        ({"metric": "queue_length", "tab": "series"}, "rome"),
    ):
        tab.goto(address(machine, **parameters))
        expect(tab.get_by_text(seen).last).to_be_attached()
        expect(tab.get_by_text("Loading…")).to_have_count(0)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        check_accessibility(tab)
