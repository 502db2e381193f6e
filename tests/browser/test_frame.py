"""What every view has: the frame, the content policy, log-in, themes, narrow screens."""

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect

from conformance.processes import running_promcompat
from page.set_up import BUILT, SOURCES
from promcompat.http.route_roles import PAGE_PATHS
from tests.browser.conftest import Machine
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

FIRST_LOAD_LIMIT_BYTES = 400_000
CHANGES = re.compile(r"^(New( rule| silence…)?|Silence…|Import|Create|Save|Edit)$")


def test_each_address_of_a_view_is_served() -> None:
    text = (SOURCES / "src/views.ts").read_text()
    paths = {
        f"/{path}"
        for listed in re.findall(r"paths: (\[.*?\])", text, re.DOTALL)
        for path in json.loads(listed)
    }
    assert paths
    assert paths <= set(PAGE_PATHS)


def test_the_first_load_is_small(tab: Page, machine: Machine) -> None:
    """All that the start page loads until its editor can be used, as it is sent."""
    tab.goto(machine.url)
    expect(tab.get_by_role("textbox", name="Expression 1")).to_be_visible()
    loaded = tab.evaluate(
        "['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
        ".filter(({name}) => !name.includes('/api/')).map((file) => file.encodedBodySize)"
    )
    assert len(loaded) > 3
    assert 0 < sum(loaded) <= FIRST_LOAD_LIMIT_BYTES, loaded


def test_files_are_compressed_and_cached_by_their_names(machine: Machine) -> None:
    with urlopen(f"{machine.url}/graph") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert re.search(r"script-src 'self';", answer.headers["Content-Security-Policy"])
        page = answer.read().decode()
    (script,) = re.findall(r'src="\./(assets/[^"]+\.js)"', page)
    request = Request(f"{machine.url}/{script}", headers={"Accept-Encoding": "gzip"})
    with urlopen(request) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert "Accept-Encoding" in ", ".join(answer.headers.get_all("Vary"))
        assert gzip.decompress(answer.read()) == (BUILT / script).read_bytes()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_frame_follows_wcag(
    tab: Page, machine: Machine, theme: str, check_accessibility: Callable[[Page], None]
) -> None:
    tab.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    tab.goto(machine.url)
    expect(tab.get_by_role("link", name="Explore")).to_have_attribute("aria-current", "page")
    assert tab.locator("html").get_attribute("data-theme") == theme
    check_accessibility(tab)
    tab.locator("summary", has_text="Last hour").click()
    expect(tab.get_by_role("button", name="Last 6 hours")).to_be_visible()
    check_accessibility(tab)


def test_a_menu_closes_by_escape_and_by_a_press_beside_it(tab: Page, machine: Machine) -> None:
    tab.goto(machine.url)
    menu = tab.locator("summary", has_text="Last hour")
    choice = tab.get_by_role("button", name="Last 6 hours")
    menu.click()
    choice.focus()
    tab.keyboard.press("Escape")
    expect(choice).to_be_hidden()
    expect(menu).to_be_focused()
    menu.click()
    expect(choice).to_be_visible()
    tab.mouse.click(100, 880)
    expect(choice).to_be_hidden()


def test_a_narrow_screen_needs_no_sideways_scrolling(tab: Page, machine: Machine) -> None:
    tab.set_viewport_size({"width": 360, "height": 700})
    tab.goto(machine.url)
    expect(tab.get_by_role("heading", name="Explore")).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_view_that_throws_leaves_the_others(tab: Page, machine: Machine) -> None:
    wrong = {"dashboards": [{"uid": "x", "title": None, "tags": []}]}
    tab.route("**/api/v1/metrics/dashboards", lambda route: route.fulfill(json=wrong))
    tab.goto(f"{machine.url}/dashboards")
    expect(tab.get_by_role("alert")).to_contain_text("This part of the page has failed")
    tab.get_by_role("link", name="Metrics").click()
    expect(tab.get_by_role("heading", name="Metrics")).to_be_visible()
    expect(tab.get_by_role("alert")).to_have_count(0)


def test_a_gateway_that_knows_people_by_a_cookie_sees_it(tab: Page, machine: Machine) -> None:
    tab.context.add_cookies([{"name": "sso", "value": "ana", "url": machine.url}])
    with tab.expect_request("**/api/v1/query_range") as asked:
        tab.goto(f"{machine.url}/explore?g0.expr=vector(7)&g0.tab=0")
    assert asked.value.all_headers()["cookie"] == "sso=ana"


DENIED = """
for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(window, name, {get() { throw new DOMException(name, "SecurityError"); }});
}
"""


def test_the_page_works_where_the_browser_keeps_nothing(tab: Page, machine: Machine) -> None:
    tab.add_init_script(DENIED)
    tab.goto(f"{machine.url}/explore?g0.expr=vector(6)&g0.tab=0")
    expect(tab.get_by_role("img", name="vector(6)")).to_be_visible()
    tab.get_by_role("button", name="Theme").click()
    assert tab.locator("html").get_attribute("data-theme") == "light"
    tab.get_by_role("button", name="Run").click()
    tab.get_by_text("History").click()
    expect(tab.get_by_role("button", name="vector(6)")).to_be_visible()


@pytest.mark.parametrize(
    ("status", "said"), [(502, "answered 502"), (200, "a proxy before it may want a log-in")]
)
def test_a_page_of_a_proxy_is_no_message(
    tab: Page, machine: Machine, status: int, said: str
) -> None:
    page = "<html><h1>Nobody reads this</h1></html>"
    tab.route(
        "**/api/v1/query_range",
        lambda route: route.fulfill(status=status, content_type="text/html", body=page),
    )
    tab.goto(f"{machine.url}/explore?g0.expr=vector(7)&g0.tab=0")
    expect(tab.get_by_role("alert")).to_contain_text(said)
    expect(tab.get_by_text("Nobody reads this")).to_have_count(0)


def test_a_text_is_copied_where_the_browser_has_no_clipboard_for_the_page(
    tab: Page, machine: Machine
) -> None:
    # As it is for a page by HTTP of another machine.
    tab.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    tab.goto(f"{machine.url}/explore?g0.expr=vector(7)&g0.tab=explain")
    tab.get_by_role("button", name="Copy the formatted query").click()
    expect(tab.get_by_text("Copied.")).to_be_visible()
    tab.get_by_role("textbox", name="Expression 1").fill("")
    tab.keyboard.press("Control+V")
    expect(tab.get_by_role("textbox", name="Expression 1")).to_have_text("vector(7)")


def tenant_of_completed_names(tab: Page) -> str | None:
    """The tenant whose names of metrics the editor asks for when somebody writes."""
    with tab.expect_request("**/label/__name__/values*") as asked:
        tab.get_by_role("textbox", name="Expression 1").press_sequentially("ab")
    return asked.value.headers.get("x-scope-orgid")


def test_with_access_on_the_page_asks_for_a_token(
    tab: Page,
    timescaledb_server: DatabaseServer,
    tmp_path: Path,
) -> None:
    require_component("the page")
    url = timescaledb_server.create_database()
    settings = {"access": "tokens", "tenancy": "header"}
    with running_promcompat(url, tmp_path / "log", **settings) as service:
        command = [sys.executable, "-m", "promcompat", "token", "--database-url", url]
        command += ["create", "ana", "--role", "read", "--tenant", "acme", "--tenant", "beta"]
        token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        tab.goto(f"{service.url}/graph?g0.expr=vector(1)&g0.tab=0")
        log_in = tab.get_by_role("dialog", name="Log in")
        log_in.get_by_label("Token", exact=True).fill("wrong")
        log_in.get_by_role("button", name="Log in").click()
        expect(log_in.get_by_role("alert")).to_contain_text("the credential is not valid")
        # Without a token there is nothing behind it.
        for _ in range(3):
            tab.keyboard.press("Escape")
        expect(log_in).to_be_visible()
        log_in.get_by_label("Token", exact=True).fill(token)
        log_in.get_by_label("Tenant").fill("acme")
        log_in.get_by_role("button", name="Log in").click()
        expect(tab.get_by_role("img", name="vector(1)")).to_be_visible()
        assert token not in tab.evaluate("JSON.stringify(localStorage)")
        # What the role `read` may not do has no button.
        for path, seen in (
            ("alerts", "No alert was open"),
            ("alerts?tab=silences", "There are no silences."),
            ("rules", "There are no rules yet."),
            ("repairs", "Nothing was repaired"),
            ("dashboards", "There are no dashboards yet."),
        ):
            tab.goto(f"{service.url}/{path}")
            expect(tab.get_by_text(seen)).to_be_visible()
            expect(tab.locator("main").get_by_text(CHANGES)).to_have_count(0)
        tab.goto(f"{service.url}/graph?g0.expr=vector(1)&g0.tab=0")
        assert tenant_of_completed_names(tab) == "acme"
        # Who is logged in, with which roles, and for which tenant, which a switch changes.
        menu = tab.get_by_role("banner").locator("details", has_text="Log out")
        expect(menu.locator("summary")).to_have_text("ana · acme")
        menu.locator("summary").click()
        expect(menu.get_by_role("group", name="Roles")).to_have_text("read")
        menu.get_by_label("Tenant").select_option("beta")
        menu.get_by_role("button", name="Switch").click()
        expect(menu.locator("summary")).to_have_text("ana · beta")
        # The editor completes with the names of that tenant.
        assert tenant_of_completed_names(tab) == "beta"
        # What to paste has the tenant, and says where the token goes.
        tab.get_by_role("link", name="promcompat").click()
        recipe = tab.get_by_label("Settings for Prometheus")
        expect(recipe).to_contain_text("headers: {X-Scope-OrgID: beta}")
        expect(recipe).to_contain_text("authorization: {credentials_file:")
        menu.locator("summary").click()
        menu.get_by_role("button", name="Log out").click()
        expect(log_in).to_be_visible()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=nwo-6h&to=now", "“nwo-6h” is no time"),
        ("from=now-1h&to=2026-13-45", "“2026-13-45” is no time"),
        ("from=now&to=now-1h", "ends before it starts"),
    ],
)
def test_a_range_that_cannot_be_shown_is_not_another_one_silently(
    tab: Page, machine: Machine, query: str, said: str
) -> None:
    tab.goto(f"{machine.url}/explore?{query}")
    alert = tab.get_by_role("alert")
    expect(alert).to_contain_text(said)
    expect(alert).to_contain_text("This is the last hour")
    alert.get_by_role("button").click()
    expect(alert).to_have_count(0)
    assert "from=" not in tab.url
