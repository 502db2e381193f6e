"""A real Chromium that opens the page of a real service with real samples.

`machine` is a service that scrapes a node_exporter and has an hour of generated series besides;
it lasts for the session, so tests that change what it stores make names of their own. `browser` is
a Chromium, and `tab` a new tab of it, whose test fails if the page logged an error.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_program,
    running_promcompat,
)
from page.set_up import SOURCES
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer
from tests.support.waiting import wait_for

_SCRAPE_CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
_STEP_SECONDS = 15
_HISTORY_SECONDS = 3600
_WAIT_SECONDS = 30.0
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")


@dataclass(frozen=True, slots=True)
class Machine:
    """A service with series of a node_exporter (job `node`) and generated ones (job `shop`)."""

    service: RunningProgram

    @property
    def url(self) -> str:
        return self.service.url

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the Prometheus API."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def send(self, path: str, body: Any, method: str = "POST") -> Any:
        """The answer of the native API to JSON."""
        request = Request(f"{self.url}/api/v1/metrics{path}", json.dumps(body).encode())
        request.method = method
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)


def generated_lines(end: float) -> Iterator[str]:
    """An hour of a counter, a gauge with a hole and a classic histogram, as exposition text."""
    start = end - _HISTORY_SECONDS
    for step in range(_HISTORY_SECONDS // _STEP_SECONDS + 1):
        ms = int((start + step * _STEP_SECONDS) * 1000)
        for index, shop in enumerate(("berlin", "oslo", "rome")):
            labels = f'job="shop",shop="{shop}"'
            yield f"orders_total{{{labels}}} {step * (index + 1) * 3} {ms}"
            if not 100 < step < 140:
                queue = 20 + 10 * index + 8 * math.sin(step / 12 + index)
                yield f"queue_length{{{labels}}} {queue:.3f} {ms}"
            for bound, share in (("0.1", 0.5), ("0.5", 0.9), ("+Inf", 1.0)):
                count = int(step * 10 * share)
                yield f'order_seconds_bucket{{{labels},le="{bound}"}} {count} {ms}'


def native_histogram_line(end: float) -> str:
    """An hour of a native histogram, as a JSON line of imports."""
    times = [int((end - _HISTORY_SECONDS + n * 60) * 1000) for n in range(_HISTORY_SECONDS // 60)]
    histograms = [
        {
            "schema": 0,
            "count": 10 * n,
            "sum": 25.0 * n,
            "positive_spans": [[0, 3]],
            "positive_counts": [2 * n, 5 * n, 3 * n],
        }
        for n in range(len(times))
    ]
    labels = {"__name__": "order_size", "job": "shop"}
    return json.dumps({"metric": labels, "timestamps": times, "values": histograms})


def import_samples(url: str, path: str, body: str) -> None:
    with urlopen(Request(f"{url}/api/v1/{path}", body.encode()), timeout=60) as answer:
        assert answer.status == 204


@pytest.fixture(scope="session")
def machine(
    timescaledb_server: DatabaseServer,
    node_exporter_binary: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    require_component("the page")
    folder = tmp_path_factory.mktemp("page")
    port = find_free_port()
    config = folder / "prometheus.yml"
    config.write_text(_SCRAPE_CONFIG.format(port=port))
    url = timescaledb_server.create_database()
    with ExitStack() as stack:
        command: list[str | Path] = [
            node_exporter_binary,
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        stack.enter_context(running_program(command, port, folder / "node_exporter.log", "/"))
        service = stack.enter_context(
            running_promcompat(url, folder / "log", scrape_config=str(config))
        )
        end = time.time() // _STEP_SECONDS * _STEP_SECONDS
        import_samples(service.url, "import/prometheus", "\n".join(generated_lines(end)))
        import_samples(service.url, "import", native_histogram_line(end))
        found = Machine(service)
        wait_for(lambda: found.ask("query", query="node_load1")["result"])
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Ends with the file: while it runs, no other test of the process can have an event loop."""
    chromium = require_component("Chromium")
    cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("browser"))}
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium.program,
            env=chromium.environment | cache,
            args=list(_OPTIONS),
        )
        yield launched
        launched.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab without stored data. Errors in its log fail the test: also of the content policy."""
    expect.set_options(timeout=_WAIT_SECONDS * 1000)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(_WAIT_SECONDS * 1000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda entry: entry.type == "error" and faults.append(entry.text))
    yield page
    context.close()
    # The browser itself logs answers that are no success; views show those.
    assert [text for text in faults if "Failed to load resource" not in text] == []


@pytest.fixture(scope="session")
def check_accessibility() -> Callable[[Page], None]:
    """Fails for what axe finds to break WCAG 2.2 at the levels A and AA in a tab."""
    axe = (SOURCES / "node_modules/axe-core/axe.min.js").read_text()

    def check(page: Page) -> None:
        # Evaluated by the debugger, which the content policy does not bind.
        page.evaluate(axe)
        found = page.evaluate(
            "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
        )
        faults = {
            rule["id"]: [f"{node['target']} {node['failureSummary']}" for node in rule["nodes"]]
            for rule in found["violations"]
        }
        assert faults == {}

    return check
