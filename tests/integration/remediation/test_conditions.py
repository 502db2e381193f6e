"""A repair is verified by its alert's own condition: cleared means that the alert would end."""

from collections.abc import AsyncIterator

import pytest

from promcompat.composition.remediation import build_condition_checker
from promcompat.core.alerting.alerts import Alert
from promcompat.core.alerting.thresholds import ThresholdOverride
from promcompat.core.model import Labels
from promcompat.remediation.conditions import ConditionChecker
from tests.support.factories import STALE_NAN, make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    make_rule,
    make_threshold,
    running_alerting,
)

pytestmark = pytest.mark.integration

HOST = make_labels("m", host="a")
HOUR = 3_600_000


@pytest.fixture
async def alerting(plain_database_url: str) -> AsyncIterator[AlertingFixture]:
    async with running_alerting(plain_database_url) as alerting:
        yield alerting


@pytest.fixture
def checker(alerting: AlertingFixture) -> ConditionChecker:
    return build_condition_checker(alerting.queries, alerting.storage)


async def only_alert(alerting: AlertingFixture) -> Alert:
    (alert,) = await alerting.alerts.active(TENANT)
    return alert


async def holds(checker: ConditionChecker, alert: Alert) -> bool:
    condition = await checker.of_alert(TENANT, alert.id)
    assert condition is not None
    return condition.holds


async def test_threshold_holds_until_the_next_sample_however_late(
    alerting: AlertingFixture, checker: ConditionChecker
) -> None:
    await alerting.define("m", make_threshold())
    await alerting.write(HOST, (0, 9.0))
    await alerting.settle()
    alert = await only_alert(alerting)
    alerting.clock.now_ms = NOW_MS + HOUR
    found = await checker.of_alert(TENANT, alert.id)
    assert found is not None
    assert found.holds
    assert found.detail == {"value": "9", "timestamp_ms": NOW_MS, "level": "critical"}
    # The expression has no result by now, which is no sign of a repair.
    assert not (await checker.of_query(TENANT, alert.expr, {"host": "a"})).holds
    await alerting.write(HOST, (HOUR, 6.0))
    assert await holds(checker, alert), "the alert goes on as a warning"
    await alerting.write(HOST, (HOUR + 1, 1.0))
    assert not await holds(checker, alert), "before the alert itself has ended"
    await alerting.settle()
    assert await alerting.alerts.active(TENANT) == []


async def test_threshold_of_now_decides(
    alerting: AlertingFixture, checker: ConditionChecker
) -> None:
    await alerting.define("m", make_threshold())
    await alerting.write(HOST, (0, 9.0))
    await alerting.settle()
    alert = await only_alert(alerting)
    override = ThresholdOverride(Labels.of({"host": "a"}), 50.0, 90.0)
    await alerting.define("m", make_threshold(overrides=(override,)))
    assert not await holds(checker, alert)
    await alerting.define("m", make_threshold())
    await alerting.write(HOST, (1, STALE_NAN))
    assert not await holds(checker, alert)
    await alerting.write(HOST, (2, 9.0))
    assert await holds(checker, alert)
    await alerting.define("m", None)
    assert not await holds(checker, alert)


async def test_rule_is_asked_as_its_evaluator_asks(
    alerting: AlertingFixture, checker: ConditionChecker
) -> None:
    rule = await alerting.rules.create(TENANT, make_rule(labels={"team": "x"}))
    await alerting.write(HOST, (0, 9.0))
    await alerting.write(make_labels("m", host="b"), (0, 1.0))
    await alerting.evaluate(5_000)
    alert = await only_alert(alerting)
    alerting.clock.now_ms = NOW_MS + 299_000
    assert await holds(checker, alert), "within the lookback of the evaluator"
    await alerting.write(make_labels("m", host="b"), (299_000, 9.0))
    alerting.clock.now_ms = NOW_MS + 301_000
    assert not await holds(checker, alert), "another host's element is not this alert's"
    await alerting.write(HOST, (301_000, 9.0))
    assert await holds(checker, alert)
    await alerting.write(HOST, (302_000, STALE_NAN))
    alerting.clock.now_ms = NOW_MS + 302_000
    assert not await holds(checker, alert)
    await alerting.write(HOST, (303_000, 9.0))
    alerting.clock.now_ms = NOW_MS + 303_000
    assert await holds(checker, alert)
    await alerting.rules.delete(TENANT, rule.id, rule.version)
    assert not await holds(checker, alert)


async def test_rule_is_asked_about_the_time_before_its_offset(
    alerting: AlertingFixture, checker: ConditionChecker
) -> None:
    """What a rule with an offset asks about may not have arrived yet for the time since then."""
    await alerting.rules.create(TENANT, make_rule("R", "sum(m) > 5", query_offset_ms=60_000))
    await alerting.write(HOST, (0, 9.0))
    await alerting.evaluate(65_000)
    alert = await only_alert(alerting)
    await alerting.write(HOST, (70_000, 1.0))
    alerting.clock.now_ms = NOW_MS + 80_000
    assert await holds(checker, alert)
    alerting.clock.now_ms = NOW_MS + 130_000
    assert not await holds(checker, alert)


async def test_alert_that_is_kept_firing_has_not_cleared(
    alerting: AlertingFixture, checker: ConditionChecker
) -> None:
    await alerting.rules.create(TENANT, make_rule(keep_firing_for_ms=60_000))
    await alerting.write(HOST, (0, 9.0))
    await alerting.evaluate(5_000)
    alert = await only_alert(alerting)
    await alerting.write(HOST, (6_000, 1.0))
    await alerting.evaluate(20_000)
    found = await checker.of_alert(TENANT, alert.id)
    assert found is not None
    assert (found.holds, found.detail["elements"]) == (True, 0)
    alerting.clock.now_ms = NOW_MS + 100_000
    assert not await holds(checker, alert)


async def test_alerts_of_others_and_unknown_ones_have_no_condition(
    alerting: AlertingFixture, checker: ConditionChecker
) -> None:
    await alerting.define("m", make_threshold())
    await alerting.write(HOST, (0, 9.0))
    await alerting.settle()
    alert = await only_alert(alerting)
    assert await checker.of_alert("other", alert.id) is None
    assert await checker.of_alert(TENANT, alert.id + 1) is None
