"""What receivers get: of an Alertmanager with external labels and relabelling, as by Prometheus."""

import json
from typing import Any

from promcompat.alerting.deliveries import Notification
from promcompat.alerting.senders import AlertmanagerNotifier, OutgoingLabels, WebhookNotifier
from promcompat.core.model import Labels
from promcompat.core.relabelling import parse_relabel_rules
from tests.support.documented_examples import read_blocks
from tests.support.services.alerting import make_alert


class RememberingSender:
    """Keeps the bodies that would be posted."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    async def post(self, target: Any, body: Any, headers: dict[str, str]) -> None:
        self.bodies.append(body)


def notification(**labels: str) -> Notification:
    return Notification(key="1", tenant="t", alert=make_alert(Labels.of(labels)))


async def test_alerts_get_external_labels_and_are_relabelled_or_dropped() -> None:
    sender: Any = RememberingSender()
    rules = parse_relabel_rules(
        "[{source_labels: [severity], regex: info, action: drop}, "
        "{regex: replica, action: labeldrop}]"
    )
    labels = OutgoingLabels(Labels.of({"cluster": "eu", "replica": "a", "own": "x"}), rules)
    manager = AlertmanagerNotifier(sender, "http://am", "http://here", labels, has_tenants=True)
    given = [notification(alertname="A", own="mine"), notification(alertname="B", severity="info")]
    await manager.send(given, 1)
    assert [[item["labels"] for item in body] for body in sender.bodies] == [
        [{"alertname": "A", "cluster": "eu", "own": "mine", "promcompat_tenant": "t"}]
    ]
    await manager.send(given[1:], 1)
    assert len(sender.bodies) == 1


async def test_a_webhook_gets_the_fields_that_the_page_shows() -> None:
    (documented,) = [
        json.loads(block.text)
        for block in read_blocks()
        if block.page == "docs/alerting.md" and block.language == "json"
    ]
    sender: Any = RememberingSender()
    await WebhookNotifier(sender, "http://hook", "http://here").send([notification(q="a")], 1)
    (sent,) = sender.bodies
    assert list(sent) == list(documented)
    assert list(sent["alert"]) == list(documented["alert"])
    assert type(sent["alert"]["value"]) is type(documented["alert"]["value"])
