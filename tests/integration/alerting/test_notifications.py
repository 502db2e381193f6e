"""What receivers are told of alerts, on real databases: once, in order, and nothing outdated."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from promcompat.alerting.deliveries import Notification, NotificationError
from promcompat.core.alerting.alerts import Silence
from promcompat.core.alerting.ports import Repetition
from promcompat.core.model import Labels
from promcompat.loops import receiver_loops, running
from promcompat.services import Receivers
from promcompat.telemetry.telemetry import Telemetry
from tests.support.factories import make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    RememberingNotifier,
    make_rule,
    make_threshold,
    running_alerting,
)

pytestmark = pytest.mark.integration

HOST = make_labels("m", host="a")
MINUTE = 60_000


async def evaluate(alerting: AlertingFixture, at_ms: int, value: float) -> None:
    """Write a value and evaluate rules a moment later, at whole ten seconds after NOW_MS."""
    await alerting.write(HOST, (at_ms, value))
    await alerting.evaluate(at_ms + 5_000)


def label_values(alerting: AlertingFixture, name: str) -> list[tuple[str, str]]:
    """State and a label of everything the Alertmanager was told."""
    return [(n.alert.state.value, n.alert.labels.get(name)) for n in alerting.alertmanager.told]


async def fire_resolve_and_fire_again(alerting: AlertingFixture) -> None:
    """The gauge is 10, then 1, then 10 again; receivers hear of each step."""
    for at_ms, value in ((10_000, 10.0), (20_000, 1.0), (40_000, 10.0)):
        await evaluate(alerting, at_ms, value)
        await alerting.deliver()


async def test_an_alertmanager_is_told_again_each_minute_and_of_the_end_for_15_minutes(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        await evaluate(alerting, 10_000, 10.0)
        told = []
        for at_ms in (15_000, 30_000, 76_000, 80_000, 137_000):
            alerting.clock.now_ms = NOW_MS + at_ms
            await alerting.deliver()
            told.append(len(alerting.alertmanager.told))
        assert told == [1, 1, 2, 2, 3]
        await evaluate(alerting, 140_000, 1.0)
        await alerting.deliver()
        assert alerting.alertmanager.states == ["firing"] * 3 + ["resolved"]
        for number in range(30):
            alerting.clock.now_ms = NOW_MS + 160_000 + number * 61_000
            await alerting.deliver()
        assert 14 <= alerting.alertmanager.states.count("resolved") <= 16
        assert alerting.alertmanager.states.count("firing") == 3
        assert len({n.alert.resolved_at_ms for n in alerting.alertmanager.told[3:]}) == 1


async def test_an_alertmanager_is_told_of_the_end_with_the_last_annotations(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(annotations={"value": "{{ $value }}"}))
        for at_ms, value in ((10_000, 10.0), (20_000, 12.0), (30_000, 1.0)):
            await evaluate(alerting, at_ms, value)
            if value != 12.0:
                await alerting.deliver()
        alerting.clock.now_ms += 61_000
        await alerting.deliver()
        texts = [n.alert.annotations["value"] for n in alerting.alertmanager.told]
        assert alerting.alertmanager.states == ["firing", "resolved", "resolved"]
        assert texts == ["10", "12", "12"]


async def test_an_alert_is_sent_on_while_the_query_of_its_rule_fails(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        # Two series that differ by `id` alone are an error.
        rule = make_rule(expr='label_replace(m, "id", "", "", "") > 5')
        rule = await alerting.rules.create(TENANT, rule)
        await evaluate(alerting, 10_000, 10.0)
        await alerting.deliver()
        for number in range(1, 4):
            at_ms = 10_000 + number * 70_000
            await alerting.write(make_labels("m", host="a", id="2"), (at_ms, 10.0))
            await evaluate(alerting, at_ms, 10.0)
            await alerting.deliver()
            evaluation = (await alerting.rules.evaluations(TENANT))[rule.id]
            assert "same labelset" in evaluation.error
        assert alerting.alertmanager.states == ["firing"] * 4


async def test_alert_that_fires_again_is_never_told_as_resolved(plain_database_url: str) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        await fire_resolve_and_fire_again(alerting)
        assert alerting.alertmanager.states == ["firing", "resolved", "firing"]
        for number in range(1, 6):
            await evaluate(alerting, 40_000 + number * MINUTE, 10.0)
            await alerting.deliver()
        assert alerting.alertmanager.states == ["firing", "resolved"] + ["firing"] * 6
        assert alerting.notifier.states == ["firing", "resolved", "firing"]


async def test_resolved_alert_is_not_told_again_once_it_is_pending_again(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        rule = make_rule(for_ms=30 * MINUTE)
        rule = await alerting.rules.create(TENANT, replace(rule, for_ms=0))
        await evaluate(alerting, 10_000, 10.0)
        await alerting.deliver()
        await evaluate(alerting, 20_000, 1.0)
        await alerting.deliver()
        await alerting.rules.replace(TENANT, replace(rule, for_ms=30 * MINUTE))
        for number in range(1, 5):
            await evaluate(alerting, 20_000 + number * MINUTE, 10.0)
            await alerting.deliver()
        assert alerting.alertmanager.states == ["firing", "resolved"]


async def test_equal_label_sets_of_two_rules_fire_until_the_last_of_them_ends(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        for group, limit in (("low", 5), ("high", 50)):
            await alerting.rules.create(TENANT, make_rule(group=group, expr=f"m > {limit}"))
        for at_ms, value in ((10_000, 100.0), (20_000, 10.0), (90_000, 10.0), (100_000, 1.0)):
            await evaluate(alerting, at_ms, value)
            await alerting.deliver()
        assert alerting.alertmanager.states == ["firing", "firing", "resolved"]
        assert alerting.notifier.states.count("resolved") == 2


async def test_rule_and_threshold_with_one_label_set_are_one_alert_to_an_alertmanager(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("m", make_threshold(warning=None, critical=8.0))
        await alerting.rules.create(TENANT, make_rule("m", severity="critical"))
        await evaluate(alerting, 10_000, 10.0)
        await alerting.settle()
        await evaluate(alerting, 20_000, 6.0)  # Below the threshold, above the rule's limit.
        await alerting.settle()
        assert alerting.alertmanager.states == ["firing"]
        await evaluate(alerting, 30_000, 1.0)
        await alerting.settle()
        assert alerting.alertmanager.states == ["firing", "resolved"]


async def test_changed_labels_end_the_alert_under_its_old_labels(plain_database_url: str) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("m", make_threshold())
        await alerting.write(HOST, (0, 6.0))
        await alerting.settle()
        await alerting.write(HOST, (10, 9.0))
        await alerting.settle()
        told = [
            (n.alert.state.value, n.alert.labels.get("severity"))
            for n in alerting.alertmanager.told
        ]
        assert told[0] == ("firing", "warning")
        assert sorted(told[1:]) == [("firing", "critical"), ("resolved", "warning")]
        rule = await alerting.rules.create(TENANT, make_rule(labels={"team": "x"}))
        await evaluate(alerting, 10_000, 10.0)
        await alerting.deliver()
        await alerting.rules.replace(TENANT, replace(rule, labels={"team": "y"}))
        await evaluate(alerting, 20_000, 10.0)
        alerting.alertmanager.told.clear()
        await alerting.deliver()
        told = label_values(alerting, "team")
        assert sorted(told) == [("firing", "y"), ("resolved", "x")]


async def test_restart_after_sending_repeats_one_equal_request(plain_database_url: str) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        await evaluate(alerting, 10_000, 10.0)
        now_ms = alerting.clock.now_ms
        # The process dies after the requests and before it has recorded them.
        (claimed,) = await alerting.deliveries.claim("webhook-test", 8, now_ms, now_ms + 20_000)
        (state,) = await alerting.label_sets.claim(
            "alertmanager-test",
            8,
            now_ms,
            now_ms + 20_000,
            Repetition(every_ms=MINUTE, resolved_for_ms=MINUTE),
        )
    async with running_alerting(plain_database_url) as other:
        other.clock.now_ms = now_ms
        await other.deliver()
        assert (other.notifier.told, other.alertmanager.told) == ([], []), "the lease holds"
        other.clock.now_ms = now_ms + 20_000
        await other.deliver()
        await other.deliver()
        (step,), (again,) = other.notifier.told, other.alertmanager.told
        assert (step.key, step.alert) == (f"{claimed.alert.id}-{claimed.id}", claimed.alert)
        assert again.alert == state.alert


async def test_replicas_tell_each_thing_once(database_url: str) -> None:
    async with running_alerting(database_url) as alerting, running_alerting(database_url) as other:
        await alerting.rules.create(TENANT, make_rule())
        rows = {make_labels("m", host=f"h{number}"): 9.0 for number in range(40)}
        for labels, value in rows.items():
            await alerting.write(labels, (0, value))
        await alerting.evaluate(10_000)
        other.clock.now_ms = alerting.clock.now_ms
        await asyncio.gather(*(each.deliver() for each in (alerting, other) * 3))
        for told in (
            alerting.notifier.told + other.notifier.told,
            alerting.alertmanager.told + other.alertmanager.told,
        ):
            assert len(told) == 40
            assert len({n.alert.id for n in told}) == 40


async def test_refused_alert_keeps_nobody_elses_from_being_told(plain_database_url: str) -> None:
    def is_bad(notification: Notification) -> bool:
        return notification.alert.labels.get("host") == "bad"

    async with running_alerting(
        plain_database_url,
        notifier=RememberingNotifier(refused=is_bad),
        alertmanager=RememberingNotifier("alertmanager-test", refused=is_bad),
    ) as alerting:
        for tenant in (TENANT, "other"):
            await alerting.rules.create(tenant, make_rule())
        await alerting.write(make_labels("m", host="bad"), (0, 9.0))
        for number in range(20):
            await alerting.write(make_labels("m", host=f"h{number}"), (0, 9.0), tenant=TENANT)
        await alerting.write(HOST, (0, 9.0), tenant="other")
        await alerting.evaluate(10_000)
        await alerting.deliver()
        for receiver in (alerting.notifier, alerting.alertmanager):
            assert len(receiver.told) == 21
            assert {n.tenant for n in receiver.told} == {TENANT, "other"}
        assert alerting.stats.notifications_failed == 2
        depths = await alerting.receiver_depths(TENANT)
        for name in ("webhook-test", "alertmanager-test"):
            assert (depths[name].n_waiting, depths[name].n_failing) == (1, 1)
            assert depths[name].last_error == "answered 400: no"
        assert await alerting.receiver_depths("other") == {}


@dataclass
class OddNotifier(RememberingNotifier):
    """A receiver whose answers PostgreSQL cannot store as they are."""

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        raise NotificationError("answered 500: \0 \ud800")


async def test_answer_that_cannot_be_stored_stops_nothing(plain_database_url: str) -> None:
    async with running_alerting(
        plain_database_url,
        notifier=OddNotifier(),
        alertmanager=OddNotifier("alertmanager-test"),
    ) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        await evaluate(alerting, 10_000, 10.0)
        await alerting.deliver()
        depths = await alerting.receiver_depths(TENANT)
        assert {depth.last_error for depth in depths.values()} == {"answered 500: \ufffd \ufffd"}
        for _ in range(40):
            alerting.clock.now_ms += 5 * MINUTE
            await alerting.deliver()
        assert alerting.stats.notifications_given_up == 1


async def test_alert_that_ended_while_its_receiver_was_down_is_never_told_as_firing(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        alerting.notifier.is_down = alerting.alertmanager.is_down = True
        await fire_resolve_and_fire_again(alerting)
        await evaluate(alerting, 50_000, 1.0)
        alerting.notifier.is_down = alerting.alertmanager.is_down = False
        for _ in range(3):
            alerting.clock.now_ms += 5 * MINUTE
            await alerting.deliver()
        assert alerting.notifier.states == ["resolved", "resolved"]
        assert alerting.alertmanager.told == [], "it never knew of the alert"


async def test_alert_that_fires_when_its_receiver_is_back_is_told_in_order(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        alerting.notifier.is_down = alerting.alertmanager.is_down = True
        await fire_resolve_and_fire_again(alerting)
        alerting.notifier.is_down = alerting.alertmanager.is_down = False
        alerting.clock.now_ms += 5 * MINUTE
        await alerting.deliver()
        assert alerting.notifier.states == ["resolved", "firing"]
        assert alerting.alertmanager.states == ["firing"]


async def test_step_that_is_never_taken_is_given_up_and_the_history_says_why(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        await evaluate(alerting, 10_000, 10.0)
        alerting.notifier.is_down = True
        for _ in range(40):
            await alerting.deliver()
            alerting.clock.now_ms += 5 * MINUTE
        assert alerting.stats.notifications_given_up == 1
        (alert,) = await alerting.listed()
        notes = [step.note for step in await alerting.alerts.history(TENANT, alert.id)]
        assert notes[-1] == "notification to webhook-test given up after 1h: down"
        assert "webhook-test" not in await alerting.receiver_depths(TENANT)


async def test_queue_of_a_receiver_is_bounded_and_the_newest_steps_stay(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        for number in range(104):
            await alerting.write(make_labels("m", host=f"h{number}"), (0, 9.0))
        await alerting.evaluate(10_000)
        await alerting.steps.bound(alerting.notifier)
        assert (await alerting.receiver_depths(TENANT))["webhook-test"].n_waiting == 100
        assert alerting.stats.notifications_given_up == 4
        found = await alerting.listed()
        oldest = await alerting.alerts.history(TENANT, min(alert.id for alert in found))
        assert oldest[-1].note == "notification to webhook-test given up: more than 100 are waiting"


async def test_a_tenant_with_many_notifications_displaces_only_its_own(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        for tenant in ("few", TENANT):
            await alerting.rules.create(tenant, make_rule())
        await alerting.write(HOST, (0, 9.0), tenant="few")
        await alerting.evaluate(10_000)
        for number in range(104):
            await alerting.write(make_labels("m", host=f"h{number}"), (10_000, 9.0))
        await alerting.evaluate(20_000)
        await alerting.steps.bound(alerting.notifier)
        waiting = [await alerting.receiver_depths(tenant) for tenant in ("few", TENANT)]
        assert [depths["webhook-test"].n_waiting for depths in waiting] == [1, 99]


async def test_silences_hold_exactly_while_they_are_active(plain_database_url: str) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        silence = Silence(
            id=0,
            labels=Labels.of({"host": "a"}),
            reason="work",
            created_by="ana",
            starts_at_ms=NOW_MS + 20_000,
            ends_at_ms=NOW_MS + 100_000,
        )
        await alerting.silences.create(TENANT, silence)
        await fire_resolve_and_fire_again(alerting)
        assert alerting.notifier.states == ["firing"], "told before the silence began"
        alerting.clock.now_ms = NOW_MS + 99_999
        await alerting.deliver()
        assert alerting.notifier.states == alerting.alertmanager.states == ["firing"]
        for _ in range(2):
            alerting.clock.now_ms += 5_000
            await alerting.deliver()
        assert alerting.notifier.states == ["firing", "resolved", "firing"]
        assert alerting.alertmanager.states == ["firing", "firing"]


async def test_alert_that_ends_silenced_is_told_to_those_only_who_heard_of_it(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule())
        silence = Silence(
            id=0,
            labels=Labels.of({"host": "a"}),
            reason="work",
            created_by="ana",
            starts_at_ms=NOW_MS,
            ends_at_ms=NOW_MS + MINUTE,
        )
        await alerting.silences.create(TENANT, silence)
        for at_ms, value in ((10_000, 10.0), (20_000, 1.0)):
            await evaluate(alerting, at_ms, value)
            await alerting.deliver()
        for _ in range(3):
            alerting.clock.now_ms += 2 * MINUTE
            await alerting.deliver()
        assert (alerting.notifier.told, alerting.alertmanager.told) == ([], [])


@dataclass
class HangingNotifier(RememberingNotifier):
    """A receiver that never answers."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        self.asked.set()
        await asyncio.sleep(3600)


async def test_receiver_that_never_answers_delays_nobody_else(plain_database_url: str) -> None:
    hanging = [HangingNotifier("webhook-hangs"), HangingNotifier("alertmanager-hangs")]
    async with running_alerting(plain_database_url, webhooks=[hanging[0].name]) as alerting:
        receivers = Receivers(
            alertmanagers=[hanging[1], alerting.alertmanager],
            webhooks=[hanging[0], alerting.notifier],
            states=alerting.state_changes,
            steps=alerting.steps,
        )
        await alerting.rules.create(TENANT, make_rule())
        async with running(list(receiver_loops(receivers)), Telemetry().loops):
            await evaluate(alerting, 10_000, 10.0)
            for receiver in hanging:
                await asyncio.wait_for(receiver.asked.wait(), 60)
            await told(alerting, ["firing"])
            await evaluate(alerting, 20_000, 1.0)
            await told(alerting, ["firing", "resolved"])


async def told(alerting: AlertingFixture, states: list[str]) -> None:
    """Wait until both receivers that answer were told these states."""
    async with asyncio.timeout(60):
        while not alerting.notifier.states == alerting.alertmanager.states == states:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
