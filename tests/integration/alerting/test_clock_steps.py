"""A wall clock that was ahead and is set back: alerts neither stop nor stay as they were."""

from dataclasses import dataclass

import pytest

from promcompat.core.alerting.alerts import AlertState, RuleKind
from tests.support.factories import make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    make_rule,
    make_threshold,
    running_alerting,
)

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
HOST = make_labels("m", host="a")


@dataclass
class Seconds:
    """A monotonic clock, which no step of the wall clock changes."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


async def pass_seconds(alerting: AlertingFixture, monotonic: Seconds, value: float) -> None:
    """Let ten seconds pass, in which a sample comes and everything runs."""
    alerting.clock.now_ms += 10_000
    monotonic.now += 10
    await alerting.write(HOST, (alerting.clock.now_ms - NOW_MS - 10_000, value))
    await alerting.evaluator.run_due()
    await alerting.deliver()


async def test_rules_are_evaluated_again_two_intervals_after_the_clock_was_set_back(
    plain_database_url: str,
) -> None:
    monotonic = Seconds()
    async with running_alerting(plain_database_url, monotonic=monotonic) as alerting:
        await alerting.rules.create(TENANT, make_rule("Fires"))
        await alerting.rules.create(TENANT, make_rule("Waits", for_ms=20_000))
        await alerting.rules.create(TENANT, make_rule("records", kind=RuleKind.RECORD))
        alerting.clock.now_ms += DAY_MS
        alerting.notifier.is_down = True
        await pass_seconds(alerting, monotonic, 9.0)
        assert alerting.alertmanager.states == ["firing"]
        alerting.clock.now_ms -= DAY_MS
        alerting.notifier.is_down = False
        await alerting.rules.create(TENANT, make_rule("Later"))
        for _ in range(5):
            await pass_seconds(alerting, monotonic, 9.0)
        states = {one.rule_name: one.state for one in await alerting.alerts.active(TENANT)}
        assert states == dict.fromkeys(("Fires", "Waits", "Later"), AlertState.FIRING)
        at_ms = alerting.clock.now_ms - NOW_MS
        assert len(await alerting.series("records", at_ms)) == 1
        for _ in range(2):
            await pass_seconds(alerting, monotonic, 1.0)
        assert await alerting.alerts.active(TENANT) == []
        for receiver in (alerting.notifier, alerting.alertmanager):
            told = [(one.alert.rule_name, one.alert.state.value) for one in receiver.told]
            assert sorted({name for name, state in told if state == "resolved"}) == sorted(states)
            assert len([name for name, state in told if state == "firing"]) >= 3


async def test_a_process_whose_clock_is_behind_leaves_groups_to_the_others(
    plain_database_url: str,
) -> None:
    monotonic = Seconds()
    async with (
        running_alerting(plain_database_url, monotonic=monotonic) as ahead,
        running_alerting(plain_database_url, monotonic=monotonic) as behind,
    ):
        await ahead.rules.create(TENANT, make_rule())
        ahead.clock.now_ms += 60_000
        for _ in range(8):
            await pass_seconds(ahead, monotonic, 9.0)
            behind.clock.now_ms += 10_000
            await behind.evaluator.run_due()
        assert ahead.stats.rule_evaluations == 8
        assert behind.stats.rule_evaluations == 0


async def test_promql_sees_alerts_of_thresholds_after_the_clock_was_set_back(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("m", make_threshold())
        alerting.clock.now_ms += DAY_MS
        await alerting.write(make_labels("m", host="early"), (DAY_MS, 9.0))
        await alerting.settle()
        alerting.clock.now_ms -= DAY_MS
        await alerting.write(HOST, (0, 9.0))
        await alerting.settle()
        assert {labels["host"] for labels in await alerting.series("ALERTS", 0)} >= {"a"}
        alerting.clock.now_ms += 60_000
        await alerting.settle()
        seen = {labels["host"] for labels in await alerting.series("ALERTS", 60_000)}
        assert seen == {"a", "early"}
