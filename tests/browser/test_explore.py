"""Explore: expressions of a real service as plots, tables, samples and explanations."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Machine

pytestmark = pytest.mark.e2e

RATE = "sum by (shop) (rate(orders_total[5m]))"
BUCKETS = "sum by (le) (rate(order_seconds_bucket[5m]))"


def address(machine: Machine, path: str = "explore", **parameters: str) -> str:
    """The address of Explore; `g0_expr` is the parameter `g0.expr`."""
    query = urlencode({name.replace("_", ".", 1): value for name, value in parameters.items()})
    return f"{machine.url}/{path}?{query}"


def test_an_expression_is_written_with_completion_and_drawn(
    tab: Page, machine: Machine, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(machine.url)
    editor = tab.get_by_role("textbox", name="Expression 1")
    editor.click()
    editor.press_sequentially("queue_le")
    expect(tab.get_by_role("option", name="queue_length", exact=True)).to_be_visible()
    editor.press_sequentially("ngth")
    tab.get_by_role("button", name="Run").click()
    expect(tab.get_by_role("img", name="queue_length")).to_be_visible()
    expect(tab.get_by_role("region", name="Legend")).to_contain_text('shop="oslo"')
    assert "g0.expr=queue_length" in tab.url
    check_accessibility(tab)


def test_the_start_page_shows_what_is_stored(
    tab: Page, machine: Machine, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(machine.url)
    tab.get_by_label("Find a metric").fill("ORDERS")
    check_accessibility(tab)
    tab.get_by_role("button", name="orders_total").click()
    expect(tab.get_by_role("img", name="rate(orders_total[5m])")).to_be_visible()


def test_a_fault_is_shown_at_its_place(tab: Page, machine: Machine) -> None:
    tab.goto(address(machine, g0_expr="up + foo(", g0_tab="1"))
    expect(tab.get_by_role("alert")).to_contain_text("unclosed left parenthesis")
    expect(tab.locator(".cm-lintRange-error")).to_have_count(1)


def test_links_of_prometheus_show_what_they_mean(tab: Page, machine: Machine) -> None:
    end = {"g0_end_input": "2026-01-02 03:04:05", "g0_range_input": "2h"}
    tab.goto(address(machine, "graph", g0_expr="vector(7)", g0_tab="0", **end))
    expect(tab).to_have_url(re.compile(r"from=1767315845000&to=1767323045000"))
    expect(tab.get_by_role("img", name="vector(7)")).to_be_visible()
    tab.goto(address(machine, "graph", g0_expr="orders_total > 1", g0_tab="1"))
    table = tab.get_by_role("region", name="orders_total > 1")
    expect(table.locator("tbody tr")).to_have_count(3)
    expect(table.get_by_role("columnheader")).to_have_text(["name", "job", "shop", "Value"])
    table.get_by_role("button", name="Value").click()
    table.get_by_role("button", name="Value").click()
    expect(table.locator("tbody tr").first).to_contain_text("rome")


SLOW = """
const ask = window.fetch;
window.fetch = async (url, init = {}) => {
  if (/query_range|active_queries/.test(url)) {
    await new Promise((resolve, reject) => {
      setTimeout(resolve, 2500);
      init.signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    });
  }
  return ask(url, init);
};
"""


def matrix(*shops: str) -> dict[str, Any]:
    now = time.time() // 60 * 60
    result = [{"metric": {"shop": shop}, "values": [[now - 600, "1"]]} for shop in shops]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def test_a_line_that_is_shown_alone_stays_so_when_there_are_others(
    tab: Page, machine: Machine
) -> None:
    answers = [matrix("berlin", "rome"), matrix("amsterdam", "berlin", "rome")]
    tab.route("**/api/v1/query_range", lambda route: route.fulfill(json=answers.pop(0)))
    tab.goto(address(machine, g0_expr="shops", g0_tab="0"))
    legend = tab.get_by_role("region", name="Legend")
    legend.get_by_role("button", name="rome").click()
    expect(legend.get_by_role("button", name="berlin")).to_have_attribute("aria-pressed", "false")
    tab.get_by_role("button", name="Ask again now").click()
    expect(legend.get_by_role("button", name="amsterdam")).to_be_visible()
    expect(legend.get_by_role("button", name="berlin")).to_have_attribute("aria-pressed", "false")
    expect(legend.get_by_role("button", name="rome")).to_have_attribute("aria-pressed", "true")


def test_what_failed_is_asked_again(tab: Page, machine: Machine) -> None:
    asked = "**/api/v1/query_range"
    tab.route(asked, lambda route: route.fulfill(status=503, body="the database restarts"))
    # In a time that no refresh moves.
    end = int(time.time() * 1000)
    times = {"from": str(end - 3_600_000), "to": str(end)}
    tab.goto(address(machine, g0_expr="vector(7)", g0_tab="0", **times))
    expect(tab.get_by_role("alert")).to_contain_text("the database restarts")
    tab.unroute(asked)
    tab.get_by_role("button", name="Run").click()
    expect(tab.get_by_role("img", name="vector(7)")).to_be_visible()
    tab.route(asked, lambda route: route.fulfill(status=503, body="it restarts again"))
    tab.get_by_role("button", name="Ask again now").click()
    expect(tab.get_by_role("alert")).to_contain_text("it restarts again")
    tab.unroute(asked)
    tab.get_by_label("Refresh").select_option("5s")
    expect(tab.get_by_role("img", name="vector(7)")).to_be_visible()


def test_a_refresh_waits_for_slow_answers(tab: Page, machine: Machine) -> None:
    tab.add_init_script(SLOW)
    each_second = {"from": "now-5m", "refresh": "1s"}
    tab.goto(address(machine, g0_expr="vector(7)", g0_tab="0", **each_second))
    expect(tab.get_by_role("img", name="vector(7)")).to_be_visible()
    tab.goto(f"{machine.url}/status?tab=queries")
    expect(tab.get_by_text("No query runs in the process that answered.")).to_be_visible()


def test_a_range_that_is_zoomed_out_or_linked_is_as_long_as_it_says(
    tab: Page, machine: Machine
) -> None:
    custom = {"g0_res_type": "custom", "g0_res_step": "60", "g0_range_input": "1h30m"}
    tab.goto(address(machine, "graph", g0_expr="vector(7)", g0_tab="0", **custom))
    expect(tab).to_have_url(re.compile(r"from=now-90m&to=now"))
    expect(tab).to_have_url(re.compile(r"g0.step_input=60"))
    out = tab.get_by_role("button", name="Zoom out")
    out.click()
    expect(tab.get_by_role("group", name="Time range")).to_contain_text("Last 3 hours")
    tab.goto(address(machine, g0_expr="vector(7)", g0_tab="explain", **{"from": "now-40m"}))
    expect(tab.get_by_role("list", name="Tree of the query")).to_be_visible()
    with tab.expect_request("**/api/v1/explain*") as asked:
        out.click()
    form = parse_qs(asked.value.post_data or "")
    assert 4790 <= float(form["end"][0]) - float(form["start"][0]) <= 4810


def test_labels_that_are_called_as_other_columns_are_sorted_by_themselves(
    tab: Page, machine: Machine
) -> None:
    names = 'label_replace(orders_total, "name", "$1", "shop", ".(.*)")'
    tab.goto(address(machine, g0_expr=names, g0_tab="1"))
    table = tab.get_by_role("region", name="orders_total")
    headings = ["__name__", "job", "name", "shop", "Value"]
    expect(table.get_by_role("columnheader")).to_have_text(headings)
    table.get_by_role("button", name="name", exact=True).click()
    expect(table.locator("tbody tr td:nth-child(3)")).to_have_text(["erlin", "ome", "slo"])


def test_a_month_before_its_31st_day_is_the_month_before(tab: Page, machine: Machine) -> None:
    tab.clock.set_fixed_time("2026-03-31T12:00:00Z")
    asked: list[str] = []
    tab.on("request", lambda sent: "query_range" in sent.url and asked.append(sent.post_data or ""))
    month = {"from": "now-1M/M", "to": "now-1M/M"}
    tab.goto(address(machine, g0_expr="vector(7)", g0_tab="0", **month))
    expect(tab.get_by_role("img", name="vector(7)")).to_be_visible()
    (start,) = re.findall(r"start=(\d+)", asked[-1])
    (end,) = re.findall(r"end=(\d+)", asked[-1])
    # In whatever zone the browser is.
    assert abs(int(start) - datetime(2026, 2, 1, tzinfo=UTC).timestamp()) < 86_400
    assert abs(int(end) - datetime(2026, 3, 1, tzinfo=UTC).timestamp()) < 86_400


def test_a_refresh_in_weeks_does_not_ask_all_the_time(tab: Page, machine: Machine) -> None:
    asked: list[str] = []
    tab.on("request", lambda sent: sent.url.endswith("/query") and asked.append(sent.url))
    tab.goto(address(machine, g0_expr="vector(7)", g0_tab="1", refresh="5w"))
    expect(tab.get_by_role("region", name="vector(7)")).to_be_visible()
    tab.wait_for_timeout(500)
    assert 1 <= len(asked) <= 2


def test_large_answers_are_refused_where_their_reader_cannot_be_loaded(
    tab: Page, machine: Machine
) -> None:
    long = "orders_total"
    for source in ("shop", *["long"] * 6):
        long = f'label_replace({long}, "long", "{"$1" * 8}", "{source}", "(.*)")'
    tab.route("**/assets/range_worker*", lambda route: route.abort())
    tab.goto(address(machine, g0_expr=long, g0_tab="0"))
    expect(tab.get_by_role("alert")).to_contain_text("could not be loaded")


def test_a_drag_zooms_every_plot_and_the_address_keeps_it(tab: Page, machine: Machine) -> None:
    tab.goto(address(machine, g0_expr="queue_length", g1_expr=RATE, g1_display_mode="stacked"))
    plots = tab.get_by_role("img")
    expect(plots).to_have_count(2)
    canvas = plots.first.locator(".u-over")
    box = canvas.bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + 200, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 400, box["y"] + 60, steps=4)
    tab.mouse.up()
    expect(tab).to_have_url(re.compile(r"from=\d+&to=\d+"))
    zoomed = tab.url
    tab.go_back()
    expect(tab).not_to_have_url(re.compile("from="))
    tab.goto(zoomed)
    expect(plots).to_have_count(2)
    expect(tab.get_by_role("button", name="stacked").nth(1)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_histograms_are_a_heatmap(
    tab: Page, machine: Machine, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(address(machine, g0_expr=BUCKETS))
    tab.get_by_role("button", name="heatmap").click()
    canvas = tab.get_by_role("img", name=BUCKETS).locator("canvas")
    expect(canvas).to_be_visible()
    canvas.hover(position={"x": 400, "y": 200})
    expect(tab.locator(".plot-tooltip")).to_contain_text(re.compile(r"\d m?s"))
    check_accessibility(tab)
    native = "rate(order_size[5m])"
    tab.goto(address(machine, g0_expr=native, g0_display_mode="heatmap"))
    tab.get_by_role("img", name=native).locator("canvas").hover(position={"x": 600, "y": 150})
    # The middle one of the three buckets has half of the ten observations a minute.
    expect(tab.locator(".plot-tooltip")).to_contain_text(re.compile(r"1 . 2.*0\.083"))
    tab.goto(address(machine, g0_expr="order_size", g0_tab="table"))
    expect(tab.get_by_role("region", name="order_size")).to_contain_text("mean 2.5")
    tab.goto(address(machine, g0_expr="queue_length", g0_display_mode="heatmap"))
    expect(tab.get_by_text("There are no histograms here.")).to_be_visible()


def send_with_exemplar(machine: Machine, now: int) -> None:
    """A counter `paid`, of which one observation, of 1,000,000, has a trace."""
    ns = now * 10**9
    exemplar = {"timeUnixNano": str(ns), "asDouble": 1e6, "traceId": "ab" * 16, "spanId": "cd" * 8}
    point = {"timeUnixNano": str(ns), "asDouble": 3, "exemplars": [exemplar]}
    counter = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}
    metrics = [{"scopeMetrics": [{"metrics": [{"name": "paid", "sum": counter}]}]}]
    body = json.dumps({"resourceMetrics": metrics}).encode()
    request = Request(f"{machine.url}/otlp/v1/metrics", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def hover_until(tab: Page, over: Locator, shown: Locator) -> None:
    """Move the mouse near the upper end of a plot's middle; until it is drawn, nothing happens."""
    for attempt in range(100):
        box = over.bounding_box()
        if box is not None:
            over.hover(position={"x": box["width"] / 2, "y": 3 + attempt % 2})
            if shown.is_visible():
                return
        tab.wait_for_timeout(100)
    expect(shown).to_be_visible()


def test_exemplars_lead_to_their_traces(
    tab: Page, machine: Machine, check_accessibility: Callable[[Page], None]
) -> None:
    now = int(time.time())
    send_with_exemplar(machine, now)
    middle = {"from": str((now - 60) * 1000), "to": str((now + 60) * 1000)}
    tab.goto(address(machine, g0_expr="paid_total", g0_show_exemplars="1", **middle))
    tab.get_by_text("Exemplars: 1").click()
    expect(tab.get_by_role("region", name="Exemplars")).to_contain_text("ab" * 16)
    check_accessibility(tab)
    # A value that is beyond the axis is drawn at its end.
    plot = {"title": "Paid", "type": "timeseries", "id": 1}
    plot["grid"] = {"x": 0, "y": 0, "width": 24, "height": 8}
    plot["queries"] = [{"ref": "A", "expr": "paid_total", "exemplars": True}]
    document = {"title": "Exemplars", "rows": [{"panels": [plot]}]}
    machine.send("/dashboards/exemplars", {"dashboard": document}, "PUT")
    board = f"{machine.url}/dashboards?{urlencode(middle)}&uid=exemplars"
    for url, name in ((tab.url, "paid_total"), (board, "Paid")):
        tab.goto(url)
        over = tab.get_by_role("img", name=name).locator(".u-over")
        with tab.expect_response(lambda answer: "query_exemplars" in answer.url):
            tab.reload()
        tooltip = tab.locator(".plot-tooltip", has_text="trace_id=" + "ab" * 16)
        hover_until(tab, over, tooltip)


def test_samples_are_those_that_were_sent(tab: Page, machine: Machine) -> None:
    tab.goto(address(machine, g0_expr=RATE, g0_tab="samples", **{"from": "now-1h", "to": "now"}))
    # Some of the 723 are older than an hour, the later the more.
    expect(tab.get_by_text(re.compile(r"\d\d\d samples of orders_total in 1h"))).to_be_visible()


def test_explain_says_what_is_read_and_how_long_it_takes(
    tab: Page, machine: Machine, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(address(machine, g0_expr=f'{RATE} / 2 + count(up{{job!="x"}})', g0_tab="explain"))
    tree = tab.get_by_role("list", name="Tree of the query")
    expect(tree).to_contain_text("leaf 0: 3 series")
    tab.get_by_label("run the query and measure it").check()
    expect(tree).to_contain_text(re.compile(r"samples, [\d.]+ (m|µ)?s, head"))
    expect(tab.get_by_role("region", name="Time of each stage")).to_contain_text("execTotalTime")
    leaf = tab.get_by_role("region", name="Leaf 1", exact=True)
    leaf.get_by_text("SQL for the same samples").click()
    expect(leaf).to_contain_text("FROM samples('up'")
    expect(leaf).to_contain_text("coalesce(labels ->> 'job', '') <> 'x'")
    check_accessibility(tab)
