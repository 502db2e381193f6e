"""The view of alerts, silences and rules, as a person uses it."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Machine

pytestmark = pytest.mark.e2e

ALWAYS = 'up{job="node"} > 0.5'


@pytest.fixture(scope="module")
def firing(machine: Machine) -> Iterator[str]:
    """The name of a rule whose only alert fires."""
    rule = {
        "name": "NodeIsThere",
        "group": "alerts of the page",
        "expr": ALWAYS,
        "interval": "1s",
        "severity": "critical",
        "annotations": {"summary": "{{ $labels.job }} is there"},
    }
    made = machine.send("/rules", rule)
    yield rule["name"]  # type: ignore[misc]
    machine.send(f"/rules/{made['id']}", None, "DELETE")


def test_an_alert_is_explained_and_handled(
    tab: Page, machine: Machine, firing: str, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(f"{machine.url}/alerts?refresh=1s")
    table = tab.get_by_role("region", name="Alerts", exact=True)
    expect(table.get_by_text("node is there")).to_be_visible(timeout=60_000)
    expect(tab.get_by_role("img", name=re.compile("^firing since")).first).to_be_visible()
    check_accessibility(tab)
    table.get_by_role("link", name=firing).click()
    expect(tab.get_by_role("img", name=ALWAYS)).to_be_visible()
    tab.get_by_text("Samples of the last 10m").click()
    expect(tab.get_by_role("region", name=re.compile(r'^up\{.*job="node"'))).to_be_visible()
    check_accessibility(tab)

    tab.get_by_role("button", name="Acknowledge").click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_label("Your name").fill("ana")
    dialog.get_by_label("Reason").fill("I know")
    dialog.get_by_role("button", name="Acknowledge").click()
    expect(tab.get_by_text("ana has it")).to_be_visible()
    expect(tab.get_by_text("acknowledged by ana: I know")).to_be_visible()

    tab.get_by_role("button", name="Silence…").click()
    labels = dialog.get_by_label("Labels that alerts must have")
    expect(labels).to_have_value(re.compile(f"^alertname={firing}\n"))
    labels.fill(f"alertname={firing}")
    expect(dialog.get_by_label("Your name")).to_have_value("ana")
    dialog.get_by_label("Reason").fill("maintenance")
    check_accessibility(tab)
    dialog.get_by_role("button", name="Silence").click()
    silences = tab.get_by_role("region", name="Silences")
    expect(silences.get_by_text("maintenance")).to_be_visible()
    tab.get_by_role("tab", name="Alerts").click()
    expect(table.get_by_role("row", name=firing).get_by_text("silenced")).to_be_visible()
    tab.get_by_role("tab", name="Silences").click()
    silences.get_by_role("button", name=f"End now: the silence of alertname={firing}").click()
    expect(silences.get_by_text("maintenance")).to_have_count(0)
    tab.goto(f"{machine.url}/alerts?refresh=1s&labels=alertname={firing}")
    table.get_by_role("link", name=firing).click()
    tab.get_by_role("button", name="Resolve…").click()
    dialog.get_by_label("Reason").fill("it is gone")
    dialog.get_by_role("button", name="Resolve").click()
    expect(tab.get_by_text("ended by ana: it is gone")).to_be_visible()


def test_a_silence_of_an_alert_has_its_labels_whatever_they_are(
    tab: Page, machine: Machine
) -> None:
    rule = {"name": "Odd, but ~ so", "group": "odd", "expr": "vector(1)", "interval": "1s"}
    made = machine.send("/rules", rule | {"labels": {"path": "~.*|x,y", "text": "two\nlines "}})
    tab.goto(f"{machine.url}/rules?rule={made['id']}")
    tab.get_by_role("link", name="Its alerts").click()
    tab.get_by_role("region", name="Alerts", exact=True).get_by_role("link").click()
    tab.get_by_role("button", name="Silence…").click()
    dialog = tab.get_by_role("dialog")
    expect(dialog.get_by_label("Labels that alerts must have")).to_have_value(
        "alertname=Odd, but ~ so\npath=~~\\.\\*\\|x\\x{2c}y\ntext=~two\\x{a}lines\\x{20}"
    )
    dialog.get_by_label("Your name").fill("ana")
    dialog.get_by_label("Reason").fill("odd labels")
    dialog.get_by_role("button", name="Silence").click()
    expect(tab.get_by_role("region", name="Silences").get_by_text("odd labels")).to_be_visible()
    tab.goto(f"{machine.url}/rules?rule={made['id']}")
    tab.get_by_role("link", name="Its alerts").click()
    table = tab.get_by_role("region", name="Alerts", exact=True)
    expect(table.get_by_text("silenced")).to_be_visible()
    machine.send(f"/rules/{made['id']}", None, "DELETE")


def test_a_rule_is_tested_before_it_is_saved(
    tab: Page, machine: Machine, check_accessibility: Callable[[Page], None]
) -> None:
    tab.goto(f"{machine.url}/rules")
    tab.get_by_role("link", name="New rule").click()
    tab.get_by_label("Name of the alert").fill("LongQueue")
    expression = tab.get_by_role("textbox", name="Expression")
    expression.press_sequentially("queue_length >")
    test = tab.get_by_role("button", name="Test with the last day")
    test.click()
    expect(tab.get_by_role("alert")).to_contain_text("unexpected end of input")
    expect(tab.locator(".cm-lintRange-error")).not_to_have_count(0)
    expression.fill('queue_length{shop="rome"} > 45')
    tab.get_by_label("Must hold for").fill("1m")
    test.click()
    expect(tab.get_by_role("status").filter(has_text="It would have fired")).to_be_visible()
    expect(tab.get_by_role("img", name='queue_length{shop="rome"} > 45')).to_be_visible()
    tested = tab.get_by_role("region", name="Alerts of the test")
    expect(tested.get_by_text("shop=rome").first).to_be_visible()
    check_accessibility(tab)
    assert machine.ask("rules", type="alert", **{"rule_name[]": "LongQueue"})["groups"] == []

    tab.get_by_role("button", name="Create").click()
    state = tab.get_by_role("region", name="State of the rule")
    expect(state.get_by_role("heading", name="LongQueue")).to_be_visible()
    tab.get_by_label("Severity").fill("page")
    # Not what the page says, as it may still say so of the creation.
    with tab.expect_response(lambda answer: answer.request.method == "PUT" and answer.ok):
        tab.get_by_role("button", name="Save").click()
    (group,) = machine.ask("rules", type="alert", **{"rule_name[]": "LongQueue"})["groups"]
    assert [rule["labels"] for rule in group["rules"]] == [{"severity": "page"}]

    tab.goto(f"{machine.url}/rules?q=LongQueue")
    tab.get_by_role("link", name="LongQueue").click()
    state.get_by_role("button", name="Delete…").click()
    tab.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(tab.get_by_role("link", name="New rule")).to_be_visible()
    expect(tab.get_by_role("link", name="LongQueue")).to_have_count(0)


@pytest.mark.usefixtures("firing")
@pytest.mark.parametrize("path", ["alerts?state=all", "alerts?tab=silences", "rules", "repairs"])
def test_the_page_is_accessible_on_a_narrow_dark_screen(
    tab: Page,
    machine: Machine,
    path: str,
    check_accessibility: Callable[[Page], None],
) -> None:
    tab.emulate_media(color_scheme="dark")
    tab.set_viewport_size({"width": 360, "height": 700})
    tab.goto(f"{machine.url}/{path}")
    # What other tests have left behind is a table too.
    expect(tab.locator(".table, .empty").first).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    check_accessibility(tab)
