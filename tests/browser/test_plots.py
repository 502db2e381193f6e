"""What plots draw on their canvases, in a real browser."""

import time
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Machine

pytestmark = pytest.mark.e2e

# Each text that is drawn on a canvas: where it begins and ends, and how wide its canvas is.
_RECORD_TEXTS = """
window.drawnTexts = [];
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const width = this.measureText(text).width;
  const before = { center: width / 2, right: width, end: width }[this.textAlign] ?? 0;
  const { a: scale, e: shift } = this.getTransform();
  const from = (x - before) * scale + shift;
  drawnTexts.push({ text, from, to: from + width * scale, width: this.canvas.width });
  fillText.call(this, text, x, y);
};
"""


def drawn_texts(tab: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tab.evaluate("drawnTexts")
    return found


def cut_off(texts: list[dict[str, Any]]) -> list[str]:
    return [
        found["text"] for found in texts if found["from"] < -1 or found["to"] > found["width"] + 1
    ]


def range_with_a_tick_at_its_end() -> dict[str, int]:
    end = int(time.time() // 1800) * 1800
    return {"from": (end - 1800) * 1000, "to": end * 1000}


@pytest.mark.parametrize("width", [390, 1440])
def test_labels_of_axes_are_not_cut_off(machine: Machine, tab: Page, width: int) -> None:
    tab.add_init_script(_RECORD_TEXTS)
    tab.set_viewport_size({"width": width, "height": 900})
    ends = range_with_a_tick_at_its_end()
    clock = tab.evaluate("ms => new Date(ms).toTimeString().slice(0, 5)", ends["to"])
    # Wide texts at the left, too.
    shared = {"g0.unit": "ms", "g0.expr": "queue_length * 1000"}
    buckets = "sum by (le) (rate(order_seconds_bucket[5m]))"
    heatmap = {"g1.expr": buckets, "g1.display_mode": "heatmap", "g1.unit": "watermelons"}
    tab.goto(f"{machine.url}/explore?{urlencode(shared | heatmap | ends)}")
    expect(tab.locator(".plot canvas")).to_have_count(2)
    tab.wait_for_function(
        "clock => drawnTexts.filter(({text}) => text === clock).length >= 2", arg=clock
    )
    assert cut_off(drawn_texts(tab)) == []

    def panel(number: int, kind: str, expr: str, **fields: Any) -> dict[str, Any]:
        grid = {"x": 0, "y": number * 7, "width": 24, "height": 7}
        queries = [{"ref": "A", "expr": expr, "legend": "{{shop}}{{le}}"}]
        return {"id": number, "type": kind, "grid": grid, "queries": queries, **fields}

    # The name of a lane is shortened.
    named = f'label_replace(queue_length, "shop", "{"$0 of a long name " * 20}", "shop", ".*")'
    panels = [
        panel(1, "timeseries", "queue_length * 1000", fields={"unit": "ms"}),
        panel(2, "heatmap", buckets),
        panel(3, "state-timeline", "queue_length > bool 20"),
        panel(4, "status-history", named),
    ]
    document = {"title": "Axes", "rows": [{"panels": panels}]}
    uid = machine.send("/dashboards", {"dashboard": document})["uid"]
    tab.goto(f"{machine.url}/dashboards?{urlencode({'uid': uid} | ends)}")
    for number in range(1, 5):
        tab.locator(f"[data-panel='{number}']").scroll_into_view_if_needed()
        expect(tab.locator(f"[data-panel='{number}'] canvas")).to_be_visible()
    tab.wait_for_function(
        "clock => drawnTexts.filter(({text}) => text === clock).length >= 4", arg=clock
    )
    assert cut_off(drawn_texts(tab)) == []
    assert any(text["text"].endswith("…") for text in drawn_texts(tab))
