"""Dashboards in a real browser: drawn as their documents say, changed, imported."""

import json
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from playwright.sync_api import Dialog, Page, Route, expect

from tests.browser.conftest import Machine, import_samples

pytestmark = pytest.mark.e2e


def query(expr: str, **fields: Any) -> dict[str, Any]:
    return {"ref": "A", "expr": expr, **fields}


def panel(
    number: int, kind: str, x: int, y: int, width: int = 8, height: int = 7, **fields: Any
) -> dict[str, Any]:
    grid = {"x": x, "y": y, "width": width, "height": height}
    return {"id": number, "type": kind, "title": f"{kind} {number}", "grid": grid, **fields}


SHOPS = {
    "title": "Shops",
    "tags": ["shop"],
    "time": {"start": "now-1h", "end": "now"},
    "variables": [
        {
            "name": "shop",
            "kind": "query",
            "query": "label_values(orders_total, shop)",
            "sort": "asc",
            "multi": True,
            "include_all": True,
            "current": "$__all",
        }
    ],
    "annotations": [{"name": "long queue", "expr": "queue_length > 45", "step": "60s"}],
    "rows": [
        {
            "panels": [
                panel(
                    1,
                    "timeseries",
                    0,
                    0,
                    12,
                    9,
                    queries=[
                        query(
                            'sum by (shop) (rate(orders_total{shop=~"$shop"}[$__rate_interval]))',
                            legend="{{shop}}",
                        )
                    ],
                    fields={"unit": "reqps", "stacking": {"mode": "normal"}, "fill_opacity": 20},
                    options={"legend": {"mode": "table", "calcs": ["mean", "lastNotNull"]}},
                ),
                panel(
                    2,
                    "stat",
                    12,
                    0,
                    6,
                    queries=[query('sum(queue_length{shop=~"$shop"})', instant=True, range=False)],
                    fields={
                        "mappings": [{"kind": "range", "start": 0, "end": 500, "text": "fine"}]
                    },
                ),
                panel(3, "gauge", 18, 0, 6, queries=[query("avg(queue_length)")]),
                panel(
                    4,
                    "table",
                    12,
                    9,
                    12,
                    8,
                    queries=[query("orders_total", format="table", instant=True, range=False)],
                    transformations=[
                        {
                            "id": "organize",
                            "options": {
                                "excludeByName": {"Time": True, "__name__": True, "job": True},
                                "renameByName": {"Value": "Orders"},
                            },
                        }
                    ],
                ),
                panel(
                    5,
                    "heatmap",
                    0,
                    9,
                    12,
                    queries=[
                        query(
                            "sum by (le) (increase(order_seconds_bucket[$__rate_interval]))",
                            format="heatmap",
                            legend="{{le}}",
                        )
                    ],
                ),
                panel(6, "bargauge", 0, 16, queries=[query("queue_length", legend="{{shop}}")]),
                panel(7, "piechart", 8, 17, queries=[query("orders_total", legend="{{shop}}")]),
                panel(
                    8,
                    "text",
                    16,
                    17,
                    options={
                        "text": {
                            "content": "# For $shop\n**bold** <script>alert(1)</script>"
                            "<img src=x onerror=alert(2)> [bad](javascript:alert(3))"
                        }
                    },
                ),
            ]
        },
        {
            "title": "Each of $shop",
            "collapsed": True,
            "repeat": "shop",
            "panels": [
                panel(
                    20,
                    "state-timeline",
                    0,
                    0,
                    12,
                    queries=[query('queue_length{shop="$shop"} > bool 20', legend="$shop")],
                )
            ],
        },
    ],
}


@pytest.fixture
def shops(machine: Machine) -> str:
    """The uid of a dashboard of the generated series."""
    machine.send("/dashboards/shops", {"dashboard": SHOPS}, "PUT")
    return "shops"


def panel_of(tab: Page, number: int) -> Any:
    return tab.locator(f'[data-panel="{number}"]')


def test_every_panel_shows_what_it_asks(
    machine: Machine, tab: Page, shops: str, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(f"{machine.url}/dashboards?uid={shops}")
    graph = panel_of(tab, 1)
    expect(graph.locator("tbody tr")).to_have_count(3)
    expect(graph.locator("tbody tr").first).to_contain_text(re.compile(r"berlin.* req/s"))
    expect(panel_of(tab, 2)).to_contain_text("fine")
    expect(panel_of(tab, 3).locator("svg")).to_have_attribute(
        "aria-label", re.compile(r"avg\(queue_length\): \d+\.\d")
    )
    expect(panel_of(tab, 4).locator("th")).to_have_text(["shop", "Orders"])
    expect(panel_of(tab, 4).locator("tbody tr")).to_have_count(3)
    expect(panel_of(tab, 5).locator("canvas")).to_be_visible()
    panel_of(tab, 8).scroll_into_view_if_needed()
    expect(panel_of(tab, 6).locator(".bar")).to_have_count(3)
    expect(panel_of(tab, 7).locator("path")).to_have_count(3)
    text = panel_of(tab, 8).locator(".text-panel")
    expect(text.locator("strong")).to_have_text("bold")
    expect(text.locator("h1")).to_have_text("For All")
    expect(text.locator("script, img, a[href]")).to_have_count(0)
    tab.evaluate("window.scrollTo(0, 0)")
    check_accessibility(tab)
    tab.set_viewport_size({"width": 360, "height": 700})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_variables_are_in_the_address_and_rows_repeat(
    machine: Machine, tab: Page, shops: str
) -> None:
    tab.goto(f"{machine.url}/dashboards?uid={shops}&var-shop=oslo")
    expect(panel_of(tab, 1).locator("tbody tr")).to_have_count(1)
    tab.get_by_label("shop: oslo").click()
    tab.get_by_role("option", name="rome").click()
    tab.get_by_role("button", name="Apply").click()
    expect(panel_of(tab, 1).locator("tbody tr")).to_have_count(2)
    assert "var-shop=oslo&var-shop=rome" in tab.url
    rows = tab.get_by_role("button", name=re.compile("Each of"))
    expect(rows).to_have_count(2)
    # A closed row asks nothing.
    expect(panel_of(tab, 20)).to_have_count(0)
    rows.nth(1).click()
    asked = panel_of(tab, 20).get_attribute("data-queries") or ""
    assert "Each of rome" in (rows.nth(1).text_content() or "")
    expect(panel_of(tab, 20).locator("canvas")).to_be_visible()
    assert json.loads(panel_of(tab, 20).get_attribute("data-queries") or asked)[0]["expr"] == (
        'queue_length{shop="rome"} > bool 20'
    )


def test_times_and_filters_of_a_dashboard(machine: Machine, tab: Page) -> None:
    document = {
        "title": "Times",
        "timezone": "Asia/Tokyo",
        "now_delay": "10m",
        "refresh_choices": ["7s"],
        "variables": [{"name": "by", "kind": "adhoc"}],
        "rows": [
            {
                "panels": [
                    panel(1, "table", 0, 0, queries=[query("queue_length", format="table")]),
                    panel(
                        2,
                        "stat",
                        8,
                        0,
                        queries=[query("sum(queue_length)")],
                        options={"percent_change": True},
                    ),
                ]
            }
        ],
    }
    machine.send("/dashboards/times", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=times")
    expect(tab.get_by_label("Refresh").locator("option")).to_have_text(["no refresh", "every 7s"])
    expect(tab.get_by_role("group", name="Time range")).to_contain_text("Asia/Tokyo")
    expect(panel_of(tab, 2)).to_contain_text(re.compile(r"[▲▼] \d+(\.\d)?%"))
    expect(panel_of(tab, 1)).to_contain_text("rome")
    (asked,) = json.loads(panel_of(tab, 1).get_attribute("data-queries") or "")
    assert 600 <= time.time() - asked["end"] < 700
    first = panel_of(tab, 1).locator("tbody td").first.inner_text()
    tokyo = timezone(timedelta(hours=9))
    shown = datetime.fromisoformat(first).replace(tzinfo=tokyo).timestamp()
    assert asked["start"] <= shown <= asked["end"]
    tab.get_by_label("Add a filter to by").click()
    tab.get_by_label("Label", exact=True).fill("shop")
    tab.get_by_label("Value", exact=True).fill("oslo")
    tab.get_by_role("button", name="Add", exact=True).click()
    expect(panel_of(tab, 1)).not_to_contain_text("rome")
    assert "var-by=shop|=|oslo" in unquote(tab.url)
    tab.get_by_role("button", name="Remove shop=oslo").click()
    expect(panel_of(tab, 1)).to_contain_text("rome")
    machine.send("/dashboards/times", {"dashboard": document | {"hide_time_picker": True}}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=times")
    expect(panel_of(tab, 1)).to_contain_text("rome")
    expect(tab.get_by_role("group", name="Time range")).to_have_count(0)
    # The next view has the browser's zone and its own picker again.
    tab.get_by_role("link", name="Explore").click()
    expect(tab.get_by_role("group", name="Time range")).not_to_contain_text("Tokyo")


def test_a_panel_is_explored_and_shown_alone_as_it_is(machine: Machine, tab: Page) -> None:
    rate = 'rate(orders_total{shop="$shop"}[$__rate_interval])'
    repeat = {"variable": "shop", "direction": "horizontal"}
    graph = panel(1, "timeseries", 0, 0, repeat=repeat, queries=[query(rate, legend="of $shop")])
    document = SHOPS | {"time": {"start": "now-30m", "end": "now"}, "rows": [{"panels": [graph]}]}
    machine.send("/dashboards/alone", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=alone")
    rome = panel_of(tab, 1).nth(2)
    expect(rome).to_contain_text("of rome")
    rome.get_by_label("Menu of").click()
    rome.get_by_role("link", name="Show alone").click()
    expect(panel_of(tab, 1)).to_have_count(1)
    expect(panel_of(tab, 1)).to_contain_text("of rome")
    panel_of(tab, 1).get_by_label("Menu of").click()
    panel_of(tab, 1).get_by_role("link", name="Explore").click()
    expect(tab.get_by_role("group", name="Time range")).to_contain_text("Last 30 minutes")
    expect(tab.get_by_role("img", name='rate(orders_total{shop="rome"}[1m0s])')).to_be_visible()


def test_variables_are_asked_for_the_time_of_the_dashboard(
    machine: Machine, tab: Page, shops: str
) -> None:
    document = SHOPS | {"time": {"start": "now-6h", "end": "now"}, "rows": []}
    machine.send("/dashboards/long", {"dashboard": document}, "PUT")
    with tab.expect_request("**/label/shop/values*") as asked:
        tab.goto(f"{machine.url}/dashboards?uid=long")
    values = parse_qs(asked.value.url.partition("?")[2])
    assert float(values["end"][0]) - float(values["start"][0]) == pytest.approx(6 * 3600)
    expect(tab.get_by_role("group", name="Time range")).to_contain_text("Last 6 hours")
    # The same dashboard, changed and looked at again, keeps its time.
    tab.get_by_role("button", name="Edit").click()
    tab.get_by_role("button", name="Discard").click()
    expect(tab.get_by_role("button", name="Edit")).to_be_visible()
    expect(tab.get_by_role("group", name="Time range")).to_contain_text("Last 6 hours")
    tab.get_by_role("link", name="Explore").click()
    expect(tab.get_by_role("group", name="Time range")).to_contain_text("Last hour")


def test_a_value_that_another_one_does_not_have_is_not_kept(machine: Machine, tab: Page) -> None:
    of_job = 'label_values({job="$job"}, __name__)'
    document = {
        "title": "Chain",
        "variables": [
            {"name": "job", "kind": "custom", "options": [{"value": "shop"}, {"value": "node"}]},
            {"name": "metric", "kind": "query", "query": of_job, "sort": "asc"},
            {"name": "some", "kind": "query", "query": of_job, "multi": True},
        ],
    }
    for option in document["variables"][0]["options"]:  # type: ignore[index]
        option["text"] = option["value"]
    machine.send("/dashboards/chain", {"dashboard": document}, "PUT")
    chosen = "var-job=shop&var-metric=queue_length&var-some=queue_length&var-some=linked"
    tab.goto(f"{machine.url}/dashboards?uid=chain&{chosen}")
    expect(tab.get_by_label("some: queue_length + linked", exact=True)).to_be_visible()
    tab.get_by_label("job: shop").click()
    tab.get_by_role("option", name="node", exact=True).click()
    expect(tab.get_by_label("job: node")).to_be_visible()
    expect(tab).to_have_url(
        re.compile(r"var-job=node&var-metric=(?!queue)\w+&var-some=(?!queue)\w+$")
    )
    expect(tab.get_by_label(re.compile(r"^metric: (?!queue)\w+$"))).to_be_visible()
    tab.go_back()
    expect(tab.get_by_label("some: queue_length + linked", exact=True)).to_be_visible()
    expect(tab.get_by_label("metric: queue_length")).to_be_visible()


def test_a_table_with_fewer_rows_shows_its_last_page(machine: Machine, tab: Page) -> None:
    sizes = [150, 5]

    def answer(route: Route) -> None:
        now = time.time()
        rows = [{"metric": {"row": str(n)}, "value": [now, "1"]} for n in range(sizes.pop(0))]
        data = {"resultType": "vector", "result": rows}
        route.fulfill(json={"status": "success", "data": data})

    asked = query("up", format="table", instant=True, range=False)
    document = {
        "title": "Many",
        "rows": [{"panels": [panel(1, "table", 0, 0, queries=[asked])]}],
    }
    machine.send("/dashboards/many", {"dashboard": document}, "PUT")
    tab.route("**/api/v1/query", answer)
    tab.goto(f"{machine.url}/dashboards?uid=many")
    panel_of(tab, 1).get_by_role("button", name="Next").click()
    expect(panel_of(tab, 1)).to_contain_text("2 of 2")
    tab.get_by_role("button", name="Ask again now").click()
    expect(panel_of(tab, 1).locator("tbody tr")).to_have_count(5)


def test_a_panel_passes_on_what_the_service_warns_of(machine: Machine, tab: Page) -> None:
    quantile = query("histogram_quantile(0.9, queue_length)")
    panels = [
        panel(1, "timeseries", 0, 0, queries=[quantile]),
        panel(2, "heatmap", 8, 0, queries=[query("increase(order_size[5m])")]),
    ]
    document = {"title": "W", "rows": [{"panels": panels}]}
    machine.send("/dashboards/warn", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=warn")
    warning = panel_of(tab, 1).get_by_role("img", name=re.compile('^Warning: .*label "le"'))
    expect(warning).to_be_visible()
    # Native histograms are the cells of a heatmap.
    expect(panel_of(tab, 2).get_by_role("img", name="heatmap 2")).to_be_visible()
    expect(panel_of(tab, 2)).not_to_contain_text("No data")


def test_variables_that_could_not_be_asked_are_asked_again(
    machine: Machine, tab: Page, shops: str
) -> None:
    hidden = SHOPS["variables"][0] | {"name": "unseen", "hide": "variable"}  # type: ignore[index]
    document = SHOPS | {"variables": [*SHOPS["variables"], hidden]}  # type: ignore[misc]
    machine.send("/dashboards/again", {"dashboard": document}, "PUT")
    asked = "**/label/shop/values*"
    tab.route(asked, lambda route: route.fulfill(status=503, body="the database restarts"))
    tab.goto(f"{machine.url}/dashboards?uid=again&refresh=5s")
    faults = tab.get_by_role("group", name="Variables").get_by_role("alert")
    expect(faults).to_have_text(["⚠ the database restarts", "⚠ unseen: the database restarts"])
    tab.unroute(asked)
    expect(faults).to_have_count(0)
    expect(panel_of(tab, 1).locator("tbody tr")).to_have_count(3)


def test_the_refresh_of_a_dashboard_can_be_switched_off(machine: Machine, tab: Page) -> None:
    machine.send("/dashboards/fresh", {"dashboard": {"title": "F", "refresh": "30s"}}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=fresh")
    refresh = tab.get_by_label("Refresh")
    expect(refresh).to_have_value("30s")
    refresh.select_option("")
    expect(refresh).to_have_value("")
    tab.reload()
    expect(refresh).to_have_value("")
    refresh.select_option("10s")
    expect(refresh).to_have_value("10s")


def test_a_panel_that_cannot_be_drawn_as_it_says_leaves_the_others(
    machine: Machine, tab: Page
) -> None:
    document = {
        "title": "Faults",
        "variables": [{"name": "span", "kind": "textbox", "current": "5m"}],
        "rows": [
            {
                "panels": [
                    panel(1, "stat", 0, 0, time_from="for ever", queries=[query("vector(7)")]),
                    panel(2, "stat", 8, 0, time_from="$span", queries=[query("vector(8)")]),
                    panel(3, "alertlist", 16, 0, options={"alerts": {"labels": 'shop=~"("'}}),
                ]
            }
        ],
    }
    machine.send("/dashboards/faults", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=faults")
    expect(panel_of(tab, 1)).to_contain_text("7")
    expect(panel_of(tab, 2)).to_contain_text("8")
    (asked,) = json.loads(panel_of(tab, 2).get_attribute("data-queries") or "")
    assert asked["end"] - asked["start"] <= 330
    expect(panel_of(tab, 3).get_by_role("alert")).to_contain_text("Invalid regular expression")


def test_what_throws_in_a_panel_is_shown_there_alone(machine: Machine, tab: Page) -> None:
    wrong = {"id": "sortBy", "options": {"sort": 5}}
    document = {
        "title": "Thrown",
        "rows": [
            {
                "panels": [
                    panel(1, "table", 0, 0, queries=[query("up")], transformations=[wrong]),
                    panel(2, "stat", 8, 0, queries=[query("vector(7)")]),
                ]
            }
        ],
    }
    machine.send("/dashboards/thrown", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=thrown&edit=1")
    expect(panel_of(tab, 1).get_by_role("alert")).to_contain_text("The panel cannot be shown")
    expect(panel_of(tab, 2)).to_contain_text("7")
    # Whoever edits it can make it right.
    panel_of(tab, 1).get_by_role("button", name="Edit").click()
    tab.get_by_role("button", name="Edit as JSON").click()
    text = tab.get_by_label("The panel as JSON")
    right = json.loads(text.input_value()) | {"transformations": []}
    text.fill("[]")
    tab.get_by_role("button", name="Apply").click()
    expect(tab.get_by_text("This is no JSON object")).to_be_visible()
    text.fill(json.dumps(right))
    tab.get_by_role("button", name="Apply").click()
    expect(panel_of(tab, 1).locator("tbody tr")).not_to_have_count(0)


def test_an_annotation_that_cannot_be_asked_says_why(
    machine: Machine, tab: Page, check_accessibility: Callable[[Page], None]
) -> None:
    document = {
        "title": "Marks",
        "annotations": [
            {"name": "good", "expr": "vector(1)"},
            {"name": "broken", "expr": "vector("},
            {"name": "unseen", "expr": "sum(", "hidden": True},
        ],
        "rows": [{"panels": [panel(1, "timeseries", 0, 0, queries=[query("vector(7)")])]}],
    }
    machine.send("/dashboards/marks", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=marks")
    bar = tab.get_by_role("group", name="Annotations")
    expect(bar.get_by_role("alert")).to_have_text(
        [re.compile("broken: .*parse error"), re.compile("unseen: .*parse error")]
    )
    check_accessibility(tab)
    bar.get_by_label("broken").uncheck()
    expect(bar.get_by_role("alert")).to_have_text([re.compile("unseen: ")])
    expect(panel_of(tab, 1).get_by_role("img")).to_be_visible()


def test_a_panel_is_added_moved_and_saved(machine: Machine, tab: Page) -> None:
    machine.send("/dashboards/draft", {"dashboard": {"title": "Draft"}}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=draft&edit=1")
    tab.get_by_role("button", name="Add a panel").click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_label("Title").fill("Queues")
    dialog.get_by_label("A", exact=True).fill("queue_length")
    dialog.get_by_label("width").fill("6")
    dialog.get_by_role("button", name="Apply").click()
    header = panel_of(tab, 1).locator("header")
    box = header.bounding_box()
    assert box is not None
    start = (box["x"] + 40, box["y"] + 10)
    tab.mouse.move(*start)
    tab.mouse.down()
    tab.mouse.move(start[0] + 620, start[1] + 5, steps=4)
    tab.mouse.up()
    # What is not saved is not left without a question.
    questions: list[str] = []

    def stay(dialog: Dialog) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    tab.once("dialog", stay)
    tab.get_by_role("link", name="Explore").click()
    assert questions == ["Discard the changes?"]
    tab.get_by_role("button", name="Save").click()
    tab.get_by_text("The dashboard is saved.").wait_for()
    tab.goto(f"{machine.url}/dashboards?uid=draft&kiosk=1")
    shown = panel_of(tab, 1)
    expect(shown.get_by_role("heading", name="Queues")).to_be_visible()
    assert shown.evaluate("element => element.style.gridColumn") == "13 / span 6"
    expect(tab.get_by_role("navigation")).to_have_count(0)


def test_an_import_shows_what_is_not_supported_before_it_is_stored(
    machine: Machine, tab: Page, tmp_path: Path
) -> None:
    grafana = {
        "title": "From Grafana",
        "uid": "from-grafana",
        "schemaVersion": 16,
        "panels": [
            {
                "id": 1,
                "type": "graph",
                "title": "Load",
                "gridPos": {"x": 0, "y": 0, "w": 24, "h": 8},
                "targets": [{"expr": "queue_length", "legendFormat": "length in {{shop}}"}],
            },
            {"id": 2, "type": "nodeGraph", "title": "Nodes", "gridPos": {"x": 0, "y": 8}},
        ],
    }
    file = tmp_path / "grafana.json"
    file.write_text(json.dumps(grafana))
    tab.goto(f"{machine.url}/dashboards")
    tab.get_by_role("button", name="Import", exact=True).click()
    dialog = tab.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(file)
    dialog.get_by_role("button", name="Check").click()
    expect(dialog.locator(".findings li")).to_have_text(
        re.compile(r"Nodes: a panel of type nodeGraph")
    )
    dialog.get_by_role("button", name="Import").click()
    expect(panel_of(tab, 1).locator(".graph-legend")).to_contain_text("length in oslo")


def test_a_panel_shows_so_many_series_and_says_that_there_are_more(
    machine: Machine, tab: Page
) -> None:
    now = int(time.time()) * 1000
    lines = [f'crowd{{member="{n}"}} {n} {now}' for n in range(1100)]
    import_samples(machine.url, "import/prometheus", "\n".join(lines))
    panels = [panel(1, "timeseries", 0, 0, 24, queries=[query("last_over_time(crowd[1h])")])]
    machine.send(
        "/dashboards/crowd", {"dashboard": {"title": "C", "rows": [{"panels": panels}]}}, "PUT"
    )
    # The reader of large answers runs beside the page.
    with tab.expect_worker():
        tab.goto(f"{machine.url}/dashboards?uid=crowd&from=now-1h&to=now%2B1h")
    crowd = panel_of(tab, 1)
    expect(crowd).to_contain_text("The first 1,000 series; there are more.")
    expect(crowd).to_have_attribute("data-series", "1000")
    crowd.get_by_role("button", name="Show up to 10,000").click()
    expect(crowd).to_have_attribute("data-series", "1100")
    expect(crowd).not_to_contain_text("there are more")
    expect(crowd.get_by_role("img", name="Warning")).to_have_count(0)


def test_a_query_that_fails_leaves_the_others_of_its_panel(machine: Machine, tab: Page) -> None:
    good = query("queue_length", legend="{{shop}}")
    bad = query("rate(queue_length)") | {"ref": "B"}
    panels = [
        panel(1, "timeseries", 0, 0, queries=[good, bad]),
        panel(2, "stat", 8, 0, queries=[bad, good | {"instant": True, "range": False}]),
        panel(3, "table", 16, 0, queries=[bad, bad | {"ref": "C", "expr": "queue_length +"}]),
    ]
    machine.send(
        "/dashboards/part", {"dashboard": {"title": "P", "rows": [{"panels": panels}]}}, "PUT"
    )
    tab.goto(f"{machine.url}/dashboards?uid=part")
    for number in (1, 2):
        alert = panel_of(tab, number).get_by_role("alert")
        expect(alert).to_contain_text("B: ")
        expect(alert).to_contain_text("expected type range vector")
    expect(panel_of(tab, 1).get_by_role("button", name="oslo")).to_be_visible()
    expect(panel_of(tab, 2)).to_contain_text("oslo")
    faults = panel_of(tab, 3).get_by_role("alert")
    expect(faults).to_have_count(2)
    expect(faults.nth(0)).to_contain_text("Query B")
    expect(faults.nth(1)).to_contain_text("Query C")


def test_a_query_that_has_failed_is_asked_again_with_the_others(
    machine: Machine, tab: Page
) -> None:
    fails = [True]

    def answer(route: Route) -> None:
        if fails[0] and "oslo" in unquote(route.request.post_data or ""):
            route.fulfill(
                status=503, json={"status": "error", "errorType": "timeout", "error": "too slow"}
            )
        else:
            route.continue_()

    tab.route("**/api/v1/query_range", answer)
    queries = [
        query('queue_length{shop="rome"}', legend="{{shop}}"),
        query('queue_length{shop="oslo"}', legend="{{shop}}") | {"ref": "B"},
    ]
    panels = [panel(1, "timeseries", 0, 0, queries=queries)]
    machine.send(
        "/dashboards/again", {"dashboard": {"title": "A", "rows": [{"panels": panels}]}}, "PUT"
    )
    end = int(time.time() * 1000)
    # What is asked does not change with the time.
    tab.goto(f"{machine.url}/dashboards?uid=again&from={end - 3_600_000}&to={end}&refresh=1s")
    expect(panel_of(tab, 1).get_by_role("alert")).to_have_text("B: too slow")
    expect(panel_of(tab, 1).get_by_role("button", name="rome")).to_be_visible()
    fails[0] = False
    expect(panel_of(tab, 1).get_by_role("button", name="oslo")).to_be_visible()
    expect(panel_of(tab, 1).get_by_role("alert")).to_have_count(0)


def test_panels_say_why_they_are_empty(machine: Machine, tab: Page) -> None:
    kinds = ["timeseries", "stat", "gauge", "bargauge", "table", "piechart", "state-timeline"]
    empty = [
        panel(n + 1, kind, 0, n * 7, 24, queries=[query("no_such_metric")])
        for n, kind in enumerate(kinds)
    ]
    native = [
        panel(n + 11, kind, 0, 49 + n * 7, 24, queries=[query("increase(order_size[5m])")])
        for n, kind in enumerate(["timeseries", "stat", "bargauge"])
    ]
    document = {"title": "E", "rows": [{"panels": empty + native}]}
    machine.send("/dashboards/empty", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=empty")
    for number in range(1, len(kinds) + 1):
        panel_of(tab, number).scroll_into_view_if_needed()
        expect(panel_of(tab, number)).to_contain_text("No data")
    for number in (11, 12, 13):
        panel_of(tab, number).scroll_into_view_if_needed()
        expect(panel_of(tab, number)).to_contain_text("These are native histograms")


def test_many_and_infinite_values_can_be_read(machine: Machine, tab: Page) -> None:
    now = int(time.time()) * 1000
    values = ["+Inf", "NaN", "1e-300", "1.7e308", *map(str, range(400))]
    lines = [f'varied{{n="{n}"}} {value} {now}' for n, value in enumerate(values)]
    import_samples(machine.url, "import/prometheus", "\n".join(lines))
    asked = query("varied", legend="{{n}}", instant=True, range=False)
    kinds = ["stat", "gauge", "bargauge", "piechart"]
    panels = [panel(n + 1, kind, 0, n * 7, 12, queries=[asked]) for n, kind in enumerate(kinds)]
    document = {"title": "V", "rows": [{"panels": panels}]}
    machine.send("/dashboards/varied", {"dashboard": document}, "PUT")
    tab.goto(f"{machine.url}/dashboards?uid=varied")
    for number, block in ((1, ".block"), (2, ".block svg"), (3, ".bar"), (4, "svg path")):
        panel_of(tab, number).scroll_into_view_if_needed()
        first = panel_of(tab, number).locator(block).first
        expect(first).to_be_visible()
        box = first.bounding_box()
        # The logged faults of paths without a number fail the test as well.
        assert box is not None
        assert min(box["width"] - 15, box["height"]) >= 15
        expect(panel_of(tab, number)).to_contain_text(re.compile(r"and \d+ more"))
    expect(panel_of(tab, 1)).to_contain_text("1e-300")


def test_a_narrow_screen_has_each_panel_in_its_full_width(machine: Machine, tab: Page) -> None:
    kinds = ["timeseries", "heatmap", "state-timeline"]
    panels = [
        panel(n + 1, kind, n * 8, 0, 8, queries=[query("queue_length")])
        for n, kind in enumerate(kinds)
    ]
    document = {"title": "N", "rows": [{"panels": panels}]}
    machine.send("/dashboards/narrow", {"dashboard": document}, "PUT")
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(f"{machine.url}/dashboards?uid=narrow")
    for number in (1, 2, 3):
        canvas = panel_of(tab, number).locator("canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        assert box["width"] > 300
    # The head is left behind.
    tab.evaluate("window.scrollTo(0, 1000)")
    expect(tab.get_by_role("navigation", name="Views")).not_to_be_in_viewport()


def test_short_values_of_a_table_are_not_broken(machine: Machine, tab: Page) -> None:
    now = int(time.time()) * 1000
    long = "word-of-a-long-path-" * 20
    line = f'worded{{job="long",path="{long}"}} 1 {now}'
    import_samples(machine.url, "import/prometheus", line)
    tab.set_viewport_size({"width": 700, "height": 844})
    tab.goto(f"{machine.url}/explore?g0.expr=worded&g0.tab=1")
    short = tab.get_by_role("cell", name="long", exact=True)
    lines = """cell => {
      const text = document.createRange();
      text.selectNodeContents(cell);
      return text.getClientRects().length;
    }"""
    assert short.evaluate(lines) == 1
    assert tab.get_by_role("cell", name=long).evaluate(lines) > 1
