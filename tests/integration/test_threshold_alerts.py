"""Thresholds on ingest: from a sample to one alert, one notification, one remediation."""

import asyncio
import time

import pytest

from promcompat.core.alerts import AlertFilter, AlertState
from promcompat.core.errors import StorageUnavailableError, WriteRejectedError
from promcompat.core.model import Labels
from promcompat.core.thresholds import ThresholdOverride
from tests.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    make_remediation,
    make_threshold,
    running_alerting,
)
from tests.factories import STALE_NAN, make_labels
from tests.native_service import running_native_service
from tests.repositories import connected, locked_samples

pytestmark = pytest.mark.integration

HOST = make_labels("queue", host="a")


async def outbox(url: str) -> int:
    async with connected(url) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM breach_outbox")
        return count


async def states(one: AlertingFixture) -> list[tuple[str, str]]:
    """State and severity of all alerts, oldest first."""
    found = await one.alerts.list_alerts(TENANT, AlertFilter())
    return [(alert.state.value, alert.severity) for alert in reversed(found)]


async def test_a_breach_becomes_one_alert_and_one_of_everything(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold(remediation=make_remediation()))
        await one.write(HOST, (0, 1.0))
        assert await outbox(database_url) == 0
        for at_ms in range(1, 1001, 50):
            await one.write(HOST, *((at_ms + step, 9.0) for step in range(50)))
        assert await outbox(database_url) == 1
        await one.settle()
        assert await states(one) == [("firing", "critical")]
        assert one.notifier.states == ["firing"]
        (request,) = one.launcher.started.values()
        assert request.workflow_input == {"host": "a", "n": 1, "deep": [{"v": "9"}]}
        assert (request.query, request.series_labels) == ("queue >= 5.0", {"host": "a"})
        # A new database counts alerts from 1 again, and Temporal may remember an older one's.
        assert request.workflow_id.endswith(f"-alert-{request.alert_id}-{NOW_MS + 1}")
        await one.write(HOST, (2000, 1.0))
        await one.settle()
        assert await states(one) == [("resolved", "critical")]
        assert one.notifier.states == ["firing", "resolved"]
        assert one.launcher.n_calls == 1


async def test_threshold_holds_for_the_first_sample_after_its_definition(
    plain_database_url: str,
) -> None:
    async with running_native_service(plain_database_url) as one:
        threshold = {"alert_threshold": {"critical": 8}}
        await one.send("PUT", "/definitions/queue", status=201, body=threshold)
        await one.ingest({"name": "queue", "value": 9})
        assert await outbox(plain_database_url) == 1
        await one.send("DELETE", "/definitions/queue", status=200)
        await one.ingest({"name": "queue", "value": 1}, {"name": "other", "value": 9})
        assert await outbox(plain_database_url) == 1


async def test_levels_change_within_one_alert(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold())
        await one.write(HOST, (0, 6.0), (10, 9.0), (20, 6.0))
        await one.settle()
        (alert,) = await one.alerts.active(TENANT)
        assert (alert.severity, alert.labels.get("severity")) == ("warning", "warning")
        notes = [step.note for step in await one.alerts.history(TENANT, alert.id)]
        assert notes == ["", "", "severity: warning → critical", "severity: critical → warning"]
        await one.write(HOST, (30, 0.0), (40, 9.0))
        await one.settle()
        assert await states(one) == [("resolved", "warning"), ("firing", "critical")]


async def test_for_is_waited_for(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold(for_ms=60_000))
        await one.write(HOST, (0, 9.0))
        await one.settle()
        assert await states(one) == [("pending", "critical")]
        await one.write(HOST, (59_000, 9.0))
        await one.settle()
        assert await states(one) == [("pending", "critical")]
        await one.write(HOST, (61_000, 9.0))
        await one.settle()
        assert await states(one) == [("firing", "critical")]
        other = make_labels("queue", host="b")
        await one.write(other, (0, 9.0), (30_000, 0.0))
        await one.settle()
        assert await states(one) == [("firing", "critical"), ("inactive", "critical")]


async def test_late_and_stale_samples(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold())
        await one.write(HOST, (10_000, 1.0))
        await one.write(HOST, (5_000, 9.0))
        with pytest.raises(WriteRejectedError):
            await one.write(HOST, (10_000, 9.0))
        assert await outbox(database_url) == 0
        await one.write(HOST, (20_000, 9.0))
        await one.write(HOST, (15_000, 0.0))
        await one.settle()
        assert await states(one) == [("firing", "critical")]
        await one.write(HOST, (30_000, STALE_NAN))
        await one.settle()
        assert await states(one) == [("resolved", "critical")]


async def test_overrides_and_changed_definitions(database_url: str) -> None:
    override = ThresholdOverride(Labels.of({"host": "big"}), 100.0, None)
    big = make_labels("queue", host="big")
    async with running_alerting(database_url) as one:
        await one.write(big, (0, 50.0))
        await one.define("queue", make_threshold(overrides=(override,)))
        await one.write(big, (1, 50.0))
        await one.write(HOST, (1, 6.0))
        await one.settle()
        assert await states(one) == [("firing", "warning")]
        await one.define("queue", None)
        await one.settle()
        assert await states(one) == [("resolved", "warning")]


async def test_nothing_is_recorded_of_what_was_not_stored(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold())
        await one.write(HOST, (0, 1.0))
        async with locked_samples(database_url):
            writing = asyncio.create_task(one.write(HOST, (1, 9.0)))
            await asyncio.wait({writing}, timeout=0.2)
            async with connected(database_url) as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'promcompat write' AND state <> 'idle'"
                )
            with pytest.raises(StorageUnavailableError):
                await writing
        assert await outbox(database_url) == 0
        await one.write(HOST, (1, 9.0))
        assert await outbox(database_url) == 1


async def test_a_breach_survives_the_process(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold(remediation=make_remediation()))
        await one.write(HOST, (0, 9.0))
    async with running_alerting(database_url) as two:
        await two.write(HOST, (1, 9.0))
        assert await outbox(database_url) == 1
        await two.settle()
        assert two.notifier.states == ["firing"]
        assert two.launcher.n_calls == 1
    async with running_alerting(database_url) as three:
        await three.write(HOST, (2, 9.0))
        assert await outbox(database_url) == 0
        await three.write(HOST, (3, 1.0))
        await three.settle()
        assert three.notifier.states == ["resolved"]


async def test_two_processes_that_know_little_of_each_other(database_url: str) -> None:
    async with running_alerting(database_url) as one, running_alerting(database_url) as two:
        await one.define("queue", make_threshold(remediation=make_remediation()))
        await two.metrics_repository.threshold_watch.refresh()
        await one.write(HOST, (0, 9.0))
        await two.write(HOST, (1, 9.0))
        await asyncio.gather(one.settle(), two.settle())
        await one.settle()
        assert await states(one) == [("firing", "critical")]
        # The second knows no breach and tells nothing of its end; the look at samples finds it.
        await two.write(HOST, (2, 9.0))
        async with connected(database_url) as connection:
            await connection.execute("DELETE FROM breach_outbox")
        await one.write(HOST, (3, 0.0))
        async with connected(database_url) as connection:
            await connection.execute("DELETE FROM breach_outbox")
        await asyncio.gather(one.settle(), two.settle())
        await one.settle()
        assert await states(one) == [("resolved", "critical")]
        told = sorted(one.notifier.states + two.notifier.states)
        assert told == ["firing", "resolved"]
        assert len({*one.launcher.started, *two.launcher.started}) == 1
        assert one.launcher.n_calls + two.launcher.n_calls == 1


async def test_what_fails_is_done_later(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold(remediation=make_remediation()))
        one.notifier.is_down = one.launcher.is_down = True
        await one.write(HOST, (0, 9.0), (1, 0.0))
        await one.settle()
        assert one.notifier.told == []
        assert one.stats.notifications_failed == 1
        one.notifier.is_down = one.launcher.is_down = False
        await one.settle()
        assert one.notifier.told == [], "it waits"
        async with connected(database_url) as connection:
            await connection.execute("UPDATE alert_delivery SET next_attempt_at = now()")
        await one.settle()
        assert one.notifier.states == ["firing", "resolved"]
        assert len(one.launcher.started) == 1
        states_left, depths = await one.repository.counts()
        assert (states_left, depths) == ({}, {"breaches": 0, "deliveries": 0})


async def test_cooldown_and_broken_templates_start_nothing(database_url: str) -> None:
    spec = make_remediation(cooldown_ms=60_000)
    broken = make_remediation(input_template={"x": "{{ nope }}"})
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold(remediation=spec))
        await one.define("other", make_threshold(remediation=broken))
        for at_ms in range(0, 30, 10):
            await one.write(HOST, (at_ms, 9.0), (at_ms + 1, 0.0))
            await one.settle()
        await one.write(make_labels("other"), (0, 9.0))
        await one.settle()
        assert one.launcher.n_calls == 1
        one.clock.now_ms = NOW_MS + 61_000
        await one.write(HOST, (61_000, 9.0))
        await one.settle()
        assert one.launcher.n_calls == 2
        found = await one.alerts.list_alerts(TENANT, AlertFilter(rule_name="other"))
        notes = [step.note for step in await one.alerts.history(TENANT, found[0].id)]
        assert 'function "nope" not defined' in notes[-1]


async def test_alerts_are_listed_in_pages(database_url: str) -> None:
    async with running_alerting(database_url) as one:
        await one.define("queue", make_threshold())
        for number in range(5):
            await one.write(make_labels("queue", host=f"h{number}"), (number, 9.0))
        await one.settle()
        first = await one.alerts.list_alerts(TENANT, AlertFilter(limit=3))
        rest = await one.alerts.list_alerts(
            TENANT, AlertFilter(limit=3, before_id=first[-1].id, states=(AlertState.FIRING,))
        )
        hosts = [alert.labels.get("host") for alert in (*first, *rest)]
        assert hosts == ["h4", "h3", "h2", "h1", "h0"]
        assert await one.alerts.list_alerts(TENANT, AlertFilter(severity="warning")) == []
        assert await one.repository.prune(NOW_MS + 10**9, []) == 0


async def test_new_threshold_is_held_against_samples_written_before_it_was_known(
    database_url: str,
) -> None:
    now_ms = time.time_ns() // 1_000_000 - NOW_MS
    async with running_alerting(database_url) as one, running_alerting(database_url) as other:
        await one.define("queue", make_threshold())
        await other.write(HOST, (now_ms, 9.0))
        assert await outbox(database_url) == 0
        await other.metrics_repository.threshold_watch.refresh()
        assert await outbox(database_url) == 1
        await one.settle()
        assert await states(one) == [("firing", "critical")]


async def test_new_threshold_says_nothing_of_the_past(database_url: str) -> None:
    long_ago_ms = time.time_ns() // 1_000_000 - NOW_MS - 3_600_000
    async with running_alerting(database_url) as one:
        await one.write(HOST, (long_ago_ms, 9.0))
        await one.define("queue", make_threshold())
        assert await outbox(database_url) == 0
