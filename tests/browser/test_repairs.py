"""The view of repairs: a person approves one, and sees its steps and that it helped."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from conformance.processes import running_promcompat, start_program
from tests.browser.conftest import Machine, import_samples
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer
from tests.support.programs.temporal import TemporalServer

pytestmark = pytest.mark.e2e

QUEUE = "repairs-of-the-page"


@contextmanager
def repairing_server(url: str) -> Iterator[str]:
    """The address of a server that repairs what it is called for by a good sample."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            write_depth(url, 1)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"restarted")

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/restart"
    server.shutdown()
    server.server_close()


def write_depth(url: str, depth: int) -> None:
    line = f'depth{{queue="mail"}} {depth} {int(time.time() * 1000)}'
    import_samples(url, "import/prometheus", line)


@pytest.fixture
def healing(
    timescaledb_server: DatabaseServer, temporal_server: TemporalServer, tmp_path: Path
) -> Iterator[Machine]:
    """A service with a worker, and a rule whose repair waits for approval."""
    require_component("the page")
    url = timescaledb_server.create_database()
    settings = {
        "temporal_address": temporal_server.address,
        "temporal_ui_url": "http://temporal.example",
    }
    with running_promcompat(url, tmp_path / "service.log", **settings) as service:
        environment = {
            "PROMCOMPAT_DATABASE_URL": url,
            "PROMCOMPAT_TEMPORAL_ADDRESS": temporal_server.address,
            "PROMCOMPAT_TASK_QUEUE": QUEUE,
            "PROMCOMPAT_SHUTDOWN_TIMEOUT": "1s",
        }
        command: list[str | Path] = [sys.executable, "-m", "promcompat", "worker"]
        worker = start_program(command, 0, tmp_path / "worker.log", environment)
        try:
            with repairing_server(service.url) as restart:
                machine = Machine(service)
                write_depth(service.url, 90)
                action = {"type": "http", "url": restart}
                verify = {"wait": "1s", "checks": 20, "interval": "1s"}
                remediation = {
                    "workflow_type": "RemediationWorkflow",
                    "task_queue": QUEUE,
                    "needs_approval": True,
                    "input": {"action": action, "verify": verify},
                }
                rule = {"name": "Deep", "expr": "depth > 50", "interval": "1s"}
                machine.send("/rules", rule | {"remediation": remediation})
                yield machine
        finally:
            worker.stop()


def test_a_repair_is_approved_and_helps(
    tab: Page, healing: Machine, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(f"{healing.url}/repairs?refresh=1s")
    open_repairs = tab.get_by_role("region", name="Open repairs")
    approve = open_repairs.get_by_role("button", name="Approve: Deep")
    expect(approve).to_be_visible()
    check_accessibility(tab)
    open_repairs.get_by_role("link", name="Deep: RemediationWorkflow").click()
    steps = tab.get_by_role("region", name="Steps")
    expect(steps.get_by_text("No step has begun yet.")).to_be_visible()
    tab.get_by_role("button", name="Approve: Deep").click()
    dialog = tab.get_by_role("dialog", name="Approve the repair")
    dialog.get_by_label("Your name").fill("ana")
    dialog.get_by_label("Reason").fill("looks right")
    dialog.get_by_role("button", name="Approve").click()
    expect(tab.get_by_text("approved by ana: looks right")).to_be_visible()
    # The page asks again by itself.
    expect(steps.get_by_role("listitem").filter(has_text="action")).to_contain_text("succeeded")
    expect(steps.get_by_text("restarted")).to_be_visible()
    repair = tab.get_by_role("region", name="The repair")
    expect(repair.get_by_text("repaired", exact=True)).to_be_visible()
    run = repair.get_by_role("link", name="promcompat-default-rule-")
    assert (run.get_attribute("href") or "").startswith("http://temporal.example/namespaces/")
    expect(tab.get_by_role("img", name="depth > 50")).to_be_visible()
    check_accessibility(tab)
    tab.get_by_role("link", name="← All repairs").click()
    effect = tab.get_by_role("region", name="Effect by rule")
    expect(effect.get_by_role("row", name="Deep")).to_contain_text("110000")


def test_without_temporal_a_repair_waits_and_can_be_cancelled(tab: Page, machine: Machine) -> None:
    remediation = {"workflow_type": "Any", "task_queue": "other"}
    rule = {"name": "Unserved", "expr": "vector(1)", "interval": "1s"}
    made = machine.send("/rules", rule | {"remediation": remediation})
    try:
        tab.goto(f"{machine.url}/repairs?refresh=1s&rule=Unserved")
        expect(tab.get_by_text("remediation is not configured")).to_be_visible()
        tab.get_by_role("button", name="Cancel repair: Unserved").click()
        dialog = tab.get_by_role("dialog")
        dialog.get_by_label("Your name").fill("ana")
        dialog.get_by_label("Reason").fill("not needed")
        dialog.get_by_role("button", name="Cancel repair").click()
        table = tab.get_by_role("region", name="Repairs", exact=True)
        expect(table.get_by_role("row").filter(has_text="Unserved")).to_contain_text("cancelled")
        expect(table.get_by_role("row").filter(has_text="Unserved")).to_contain_text("ana")
    finally:
        machine.send(f"/rules/{made['id']}", None, "DELETE")
