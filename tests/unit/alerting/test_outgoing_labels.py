"""What an Alertmanager gets: external labels first, then relabelling, as by Prometheus."""

from typing import Any

from promcompat.alerting.deliveries import Notification
from promcompat.alerting.senders import AlertmanagerNotifier, OutgoingLabels
from promcompat.core.alerting.alerts import Alert, AlertState
from promcompat.core.model import Labels
from promcompat.core.relabelling import parse_relabel_rules


class RememberingSender:
    """Keeps the bodies that would be posted."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    async def post(self, target: Any, body: Any, headers: dict[str, str]) -> None:
        self.bodies.append(body)


def notification(**labels: str) -> Notification:
    alert = Alert(
        id=1, rule_id=1, rule_name="R", labels=Labels.of(labels), annotations={},
        state=AlertState.FIRING, severity="", value=1.0, active_at_ms=1, fired_at_ms=1,
        resolved_at_ms=0, keep_firing_since_ms=0, acknowledged_at_ms=0, acknowledged_by="",
    )  # fmt: skip
    return Notification(key="1", tenant="t", alert=alert)


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
