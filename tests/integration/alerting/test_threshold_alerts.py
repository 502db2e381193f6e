"""Thresholds on ingest: from a sample to one alert, one notification, one remediation."""

import asyncio
from collections import Counter

import pytest

from promcompat.alerting import thresholds
from promcompat.alerting.state_machine import close_change
from promcompat.core.alerting.alerts import AlertFilter, AlertPage, AlertState
from promcompat.core.alerting.thresholds import (
    NO_LIMIT,
    AlertThreshold,
    Direction,
    ThresholdOverride,
)
from promcompat.core.definitions import MetricDefinition
from promcompat.core.errors import StorageUnavailableError, WriteRejectedError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import EvalRange, Labels
from promql.query import Query
from sql.alerting import alert_repository
from sql.definitions import threshold_watch
from sql.definitions.threshold_json import decode_threshold
from tests.support.factories import STALE_NAN, make_labels, select_name
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    make_remediation,
    make_threshold,
    running_alerting,
)
from tests.support.services.native_service import running_native_service
from tests.support.storage.repositories import connected, delete_samples, locked_samples

pytestmark = pytest.mark.integration

HOST = make_labels("queue", host="a")


async def outbox(url: str) -> int:
    async with connected(url) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM breach_outbox")
        return count


async def states(alerting: AlertingFixture) -> list[tuple[str, str]]:
    """State and severity of all alerts, oldest first."""
    found = await alerting.listed()
    return [(alert.state.value, alert.severity) for alert in reversed(found)]


async def test_a_breach_becomes_one_alert_and_one_of_everything(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(remediation=make_remediation()))
        await alerting.write(HOST, (0, 1.0))
        assert await outbox(database_url) == 0
        for at_ms in range(1, 1001, 50):
            await alerting.write(HOST, *((at_ms + step, 9.0) for step in range(50)))
        assert await outbox(database_url) == 1
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical")]
        assert alerting.notifier.states == ["firing"]
        (request,) = alerting.launcher.started.values()
        assert request.workflow_input == {"host": "a", "n": 1, "deep": [{"v": "9"}]}
        assert (request.query, request.series_labels) == ("queue >= 5.0", {"host": "a"})
        # A new database counts alerts from 1 again, and Temporal may remember an older one's.
        assert request.workflow_id.endswith(f"-alert-{request.alert_id}-{NOW_MS + 1}")
        await alerting.write(HOST, (2000, 1.0))
        await alerting.settle()
        assert await states(alerting) == [("resolved", "critical")]
        assert alerting.notifier.states == ["firing", "resolved"]
        assert alerting.launcher.n_calls == 1


async def test_threshold_holds_for_the_first_sample_after_its_definition(
    plain_database_url: str,
) -> None:
    async with running_native_service(plain_database_url) as alerting:
        threshold = {"alert_threshold": {"critical": 8}}
        await alerting.send("PUT", "/definitions/queue", status=201, body=threshold)
        await alerting.ingest({"name": "queue", "value": 9})
        assert await outbox(plain_database_url) == 1
        await alerting.send("DELETE", "/definitions/queue", status=200)
        await alerting.ingest({"name": "queue", "value": 1}, {"name": "other", "value": 9})
        assert await outbox(plain_database_url) == 1


async def test_levels_change_within_one_alert(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (0, 6.0), (10, 9.0), (20, 6.0))
        await alerting.settle()
        (alert,) = await alerting.alerts.active(TENANT)
        assert (alert.severity, alert.labels.get("severity")) == ("warning", "warning")
        notes = [step.note for step in await alerting.alerts.history(TENANT, alert.id)]
        assert notes == ["", "", "severity: warning → critical", "severity: critical → warning"]
        await alerting.write(HOST, (30, 0.0), (40, 9.0))
        await alerting.settle()
        assert await states(alerting) == [("resolved", "warning"), ("firing", "critical")]


async def test_for_is_waited_for(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(for_ms=60_000))
        await alerting.write(HOST, (0, 9.0))
        await alerting.settle()
        assert await states(alerting) == [("pending", "critical")]
        await alerting.write(HOST, (59_000, 9.0))
        await alerting.settle()
        assert await states(alerting) == [("pending", "critical")]
        await alerting.write(HOST, (61_000, 9.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical")]
        other = make_labels("queue", host="b")
        await alerting.write(other, (0, 9.0), (30_000, 0.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical"), ("inactive", "critical")]


async def test_late_samples_raise_no_alert_and_stale_markers_end_one(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (10_000, 1.0))
        await alerting.write(HOST, (5_000, 9.0))
        with pytest.raises(WriteRejectedError):
            await alerting.write(HOST, (10_000, 9.0))
        assert await outbox(database_url) == 0
        await alerting.write(HOST, (20_000, 9.0))
        await alerting.write(HOST, (15_000, 0.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical")]
        await alerting.write(HOST, (30_000, STALE_NAN))
        await alerting.settle()
        assert await states(alerting) == [("resolved", "critical")]


async def test_overrides_and_changed_definitions(database_url: str) -> None:
    override = ThresholdOverride(Labels.of({"host": "big"}), 100.0, NO_LIMIT)
    big = make_labels("queue", host="big")
    async with running_alerting(database_url) as alerting:
        await alerting.write(big, (0, 50.0))
        await alerting.define("queue", make_threshold(overrides=(override,)))
        await alerting.write(big, (1, 50.0))
        await alerting.write(HOST, (1, 6.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "warning")]
        await alerting.define("queue", None)
        await alerting.settle()
        assert await states(alerting) == [("resolved", "warning")]


async def test_a_change_of_a_definition_reads_that_definition_only(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def decode(text: str | None) -> AlertThreshold | None:
        found = decode_threshold(text)
        if found is not None:
            read.append(f"{found.warning:g}")
        return found

    monkeypatch.setattr(threshold_watch, "decode_threshold", decode)
    async with running_alerting(plain_database_url) as alerting:
        for name in ("a", "b", "c"):
            await alerting.write(make_labels(name, host="old"), (0, 1.0))
        await alerting.define("a", make_threshold(warning=1.0))
        await alerting.define("b", make_threshold(warning=2.0))
        await alerting.write(make_labels("a", host="new"), (0, 1.0))
        watch = alerting.storage.threshold_watch
        assert watch.n_series == 3
        read.clear()
        await alerting.define("c", make_threshold(warning=3.0))
        await alerting.define("b", make_threshold(warning=4.0))
        assert read == ["3", "4"]
        assert watch.n_series == 4
        await alerting.define("a", None)
        assert (watch.n_series, watch.watched_metrics(TENANT)) == (2, {"b", "c"})
        watch.forget()
        await watch.refresh()
        assert (sorted(read), watch.n_series) == (["3", "3", "4", "4"], 2)


async def test_a_series_that_crosses_its_limit_with_every_sample_delays_nobody_else(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("queue", make_threshold())
        calm = MetricDefinition(name="queue", alert_threshold=make_threshold())
        await alerting.definitions.save("calm", calm, 0)
        await alerting.storage.threshold_watch.refresh()
        await alerting.write(HOST, *((at, 9.0 * (at % 2)) for at in range(10_001)))
        await alerting.write(make_labels("queue", host="b"), (0, 9.0), (1, 1.0))
        await alerting.write(HOST, (0, 9.0), tenant="calm")
        await alerting.thresholds.dispatch_breaches()
        assert [alert.severity for alert in await alerting.alerts.active("calm")] == ["critical"]
        # Of what waits, the last change of each series is left, and all are handled.
        assert await outbox(plain_database_url) == 0
        await alerting.write(HOST, (20_000, 9.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical")]


async def test_nothing_is_recorded_of_what_was_not_stored(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (0, 1.0))
        async with locked_samples(database_url):
            writing = asyncio.create_task(alerting.write(HOST, (1, 9.0)))
            async with connected(database_url) as connection:
                while not (await asyncio.wait({writing}, timeout=0.2))[0]:
                    await connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name LIKE 'promcompat %' AND state <> 'idle'"
                    )
            with pytest.raises(StorageUnavailableError):
                await writing
        assert await outbox(database_url) == 0
        await alerting.write(HOST, (1, 9.0))
        assert await outbox(database_url) == 1


async def test_a_breach_counts_only_with_the_value_that_is_stored(
    plain_database_url: str,
) -> None:
    """Another process may commit a breach whose sample loses its place, or is deleted."""
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (0, 1.0), (1, 2.0))
        async with connected(plain_database_url) as connection:
            await connection.execute(
                "INSERT INTO breach_outbox (series_id, level, value, ts)"
                " SELECT s.id, 2, 9.0, from_unix_ms($1::bigint + n)"
                " FROM series AS s, generate_series(1, 2) AS n WHERE s.metric_name = 'queue'",
                NOW_MS,
            )
        await alerting.settle()
        assert await outbox(plain_database_url) == 0
        assert await states(alerting) == []


async def test_a_breach_survives_the_process(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(remediation=make_remediation()))
        await alerting.write(HOST, (0, 9.0))
    async with running_alerting(database_url) as other:
        await other.write(HOST, (1, 9.0))
        assert await outbox(database_url) == 1
        await other.settle()
        assert other.notifier.states == ["firing"]
        assert other.launcher.n_calls == 1
    async with running_alerting(database_url) as three:
        await three.write(HOST, (2, 9.0))
        assert await outbox(database_url) == 0
        await three.write(HOST, (3, 1.0))
        await three.settle()
        assert three.notifier.states == ["resolved"]


async def test_two_processes_that_write_one_series_make_one_alert(database_url: str) -> None:
    async with running_alerting(database_url) as alerting, running_alerting(database_url) as other:
        await alerting.define("queue", make_threshold(remediation=make_remediation()))
        await other.storage.threshold_watch.refresh()
        await alerting.write(HOST, (0, 9.0))
        await other.write(HOST, (1, 9.0))
        await asyncio.gather(alerting.settle(), other.settle())
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical")]
        # The second knows no breach and tells nothing of its end; the look at samples finds it.
        await other.write(HOST, (2, 9.0))
        async with connected(database_url) as connection:
            await connection.execute("DELETE FROM breach_outbox")
        await alerting.write(HOST, (3, 0.0))
        async with connected(database_url) as connection:
            await connection.execute("DELETE FROM breach_outbox")
        await asyncio.gather(alerting.settle(), other.settle())
        await alerting.settle()
        assert await states(alerting) == [("resolved", "critical")]
        told = sorted(alerting.notifier.states + other.notifier.states)
        assert told == ["firing", "resolved"]
        assert len({*alerting.launcher.started, *other.launcher.started}) == 1
        assert alerting.launcher.n_calls + other.launcher.n_calls == 1


async def test_notifications_and_remediations_that_fail_are_repeated(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(remediation=make_remediation()))
        alerting.notifier.is_down = alerting.launcher.is_down = True
        await alerting.write(HOST, (0, 9.0), (1, 0.0))
        await alerting.settle()
        assert alerting.notifier.told == []
        assert alerting.stats.notifications_failed == 1
        alerting.notifier.is_down = alerting.launcher.is_down = False
        await alerting.settle()
        assert alerting.notifier.told == [], "it waits"
        async with connected(database_url) as connection:
            await connection.execute("UPDATE alert_delivery SET next_attempt_at = to_timestamp(0)")
        await alerting.settle()
        assert alerting.notifier.states == ["resolved"], "it ended before it could be told"
        assert len(alerting.launcher.started) == 1
        states_left, depths = await alerting.repository.counts()
        assert (states_left, depths) == ({}, {"breaches": 0, "deliveries": 0})


@pytest.mark.parametrize("minutes", [59, 61])
async def test_an_alert_that_ended_is_repaired_within_an_hour_or_not_at_all(
    database_url: str, minutes: int
) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(remediation=make_remediation()))
        alerting.launcher.is_down = True
        still = make_labels("queue", host="still")
        await alerting.write(HOST, (0, 9.0), (1, 0.0))
        await alerting.write(still, (0, 9.0))
        await alerting.settle()
        alerting.launcher.is_down = False
        alerting.clock.now_ms += minutes * 60_000
        await alerting.settle()
        ended, firing = sorted(await alerting.listed(), key=lambda alert: alert.state.is_open)
        assert [alert.labels.get("host") for alert in (ended, firing)] == ["a", "still"]
        started = {request.alert_id for request in alerting.launcher.started.values()}
        assert started == ({ended.id, firing.id} if minutes < 60 else {firing.id})
        assert len(alerting.launcher.withdrawn) == (minutes > 60)
        notes = [step.note for step in await alerting.alerts.history(TENANT, ended.id)]
        expected = "remediation requested" if minutes < 60 else "remediation not started: its alert"
        assert notes[-1].startswith(expected)


async def test_cooldown_and_broken_templates_start_nothing(database_url: str) -> None:
    spec = make_remediation(cooldown_ms=60_000)
    broken = make_remediation(input_template={"x": "{{ nope }}"})
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(remediation=spec))
        await alerting.define("other", make_threshold(remediation=broken))
        for at_ms in range(0, 30, 10):
            await alerting.write(HOST, (at_ms, 9.0), (at_ms + 1, 0.0))
            await alerting.settle()
        await alerting.write(make_labels("other"), (0, 9.0))
        await alerting.settle()
        assert alerting.launcher.n_calls == 1
        alerting.clock.now_ms = NOW_MS + 61_000
        await alerting.write(HOST, (61_000, 9.0))
        await alerting.settle()
        assert alerting.launcher.n_calls == 2
        # The clock is set back to what is right: a cooldown does not last until it is there again.
        for back_ms, n_calls in ((300_000, 2), (3_600_000, 3)):
            alerting.clock.now_ms = NOW_MS + 61_000 - back_ms
            await alerting.write(HOST, (61_000 + back_ms, 0.0), (61_001 + back_ms, 9.0))
            await alerting.settle()
            assert alerting.launcher.n_calls == n_calls
        found = await alerting.listed(AlertFilter(rule_name="other"))
        notes = [step.note for step in await alerting.alerts.history(TENANT, found[0].id)]
        assert 'function "nope" not defined' in notes[-1]


async def test_alerts_are_listed_in_pages(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold())
        for number in range(5):
            await alerting.write(make_labels("queue", host=f"h{number}"), (number, 9.0))
        await alerting.settle()
        first = await alerting.alerts.list_alerts(TENANT, AlertFilter(limit=3))
        rest = await alerting.alerts.list_alerts(
            TENANT,
            AlertFilter(limit=3, before_id=first.next_before_id, states=(AlertState.FIRING,)),
        )
        hosts = [alert.labels.get("host") for alert in (*first.alerts, *rest.alerts)]
        assert hosts == ["h4", "h3", "h2", "h1", "h0"]
        assert rest.next_before_id == 0
        none = await alerting.alerts.list_alerts(TENANT, AlertFilter(severity="warning"))
        assert none == AlertPage([], 0)
        assert await alerting.repository.prune(NOW_MS + 10**9, [], NOW_MS) == 0


async def test_a_page_reads_a_bounded_number_of_alerts_and_the_next_page_goes_on(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_repository, "_MAX_READ", 4)
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("queue", make_threshold())
        for number in range(10):
            await alerting.write(make_labels("queue", host=f"h{number}"), (number, 9.0))
        await alerting.settle()
        matchers = (LabelMatcher("host", MatchOp.REGEX, "h[08]"),)
        hosts, sizes, before_id = [], [], 0
        while True:
            wanted = AlertFilter(matchers=matchers, limit=1, before_id=before_id)
            page = await alerting.alerts.list_alerts(TENANT, wanted)
            hosts += [alert.labels.get("host") for alert in page.alerts]
            sizes.append(len(page.alerts))
            before_id = page.next_before_id
            if not before_id:
                break
    assert hosts == ["h8", "h0"]
    assert 0 in sizes


async def test_a_page_and_a_history_are_bounded(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_repository, "_MAX_STEPS", 1)
    monkeypatch.setattr(alert_repository, "_ALERTS_AT_ONCE", 2)
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("queue", make_threshold())
        for number in range(7):
            await alerting.write(make_labels("queue", host=f"h{number}"), (number, 9.0))
        await alerting.settle()
        async with connected(plain_database_url) as connection:
            await connection.execute(
                "UPDATE alert SET annotations = jsonb_build_object('a', repeat('x', $1))", 6 << 20
            )
        hosts, sizes, before_id = [], [], 0
        while True:
            page = await alerting.alerts.list_alerts(TENANT, AlertFilter(before_id=before_id))
            hosts += [alert.labels.get("host") for alert in page.alerts]
            sizes.append(len(page.alerts))
            before_id = page.next_before_id
            if not before_id:
                break
        assert hosts == [f"h{number}" for number in range(6, -1, -1)]
        assert max(sizes) <= 4
        await alerting.write(make_labels("queue", host="h0"), (10, 1.0))
        await alerting.settle()
        [step] = await alerting.alerts.history(TENANT, page.alerts[-1].id)
        assert step.to_state is AlertState.RESOLVED


async def test_ending_an_alert_that_has_ended_leaves_the_next_one_of_its_series_alone(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (0, 9.0))
        await alerting.settle()
        (first,) = await alerting.alerts.active(TENANT)
        await alerting.write(HOST, (1, 1.0), (2, 9.0))
        await alerting.settle()
        # Somebody ends the first alert, and the breaches are dispatched sooner.
        assert not await alerting.repository.end_alert(TENANT, close_change(first, NOW_MS + 3))
        await alerting.write(HOST, (4, 1.0))
        await alerting.settle()
        assert await states(alerting) == [("resolved", "critical")] * 2


async def test_ended_alerts_are_deleted_however_many_and_the_newest_are_kept(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (0, 9.0), (1, 1.0))
        await alerting.settle()
        async with connected(plain_database_url) as connection:
            await connection.execute(
                "INSERT INTO alert OVERRIDING SYSTEM VALUE"
                " SELECT (jsonb_populate_record(a, jsonb_build_object('id', -n))).*"
                " FROM alert AS a, generate_series(1, 2500) AS n"
            )
        await alerting.write(HOST, (2, 9.0))
        await alerting.settle()
        alerting.repository.max_alerts = 400
        assert await alerting.repository.prune(NOW_MS - 1, [], NOW_MS) == 2_102
        alerting.repository.max_alerts = 1_000
        assert await alerting.repository.prune(NOW_MS + 10**9, [], NOW_MS) == 399
        assert await states(alerting) == [("firing", "critical")]


async def review_again(url: str) -> None:
    """Make the second review of a changed threshold due."""
    async with connected(url) as connection:
        await connection.execute("UPDATE threshold_review SET due_at = now()")


async def test_what_another_process_writes_before_it_knows_a_threshold_is_found(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting, running_alerting(database_url) as other:
        await alerting.define("queue", make_threshold())
        await alerting.settle()
        await other.write(HOST, (0, 9.0))
        await alerting.settle()
        assert await states(alerting) == []
        await review_again(database_url)
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical")]
        async with connected(database_url) as connection:
            assert await connection.fetchval("SELECT count(*) FROM threshold_review") == 0


CHANGES: dict[str, tuple[AlertThreshold | None, tuple[str, str]]] = {
    "raised": (make_threshold(warning=100.0, critical=500.0), ("resolved", "critical")),
    "lowered_level": (make_threshold(warning=7.0, critical=500.0), ("firing", "warning")),
    "one_limit": (make_threshold(warning=None, critical=9.5), ("resolved", "critical")),
    "other_side": (
        make_threshold(direction=Direction.BELOW, critical=1.0),
        ("resolved", "critical"),
    ),
    "overridden": (
        make_threshold(overrides=(ThresholdOverride(Labels.of({"host": "a"}), 50.0, 90.0),)),
        ("resolved", "critical"),
    ),
    "deleted": (None, ("resolved", "critical")),
}


async def test_a_changed_threshold_is_held_against_the_last_sample_at_once(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:

        async def newest(name: str) -> tuple[str, str, int]:
            alert = (await alerting.listed(AlertFilter(rule_name=name)))[0]
            return alert.state.value, alert.severity, alert.resolved_at_ms

        for name in CHANGES:
            await alerting.define(name, make_threshold())
            await alerting.write(make_labels(name, host="a"), (0, 9.0))
        await alerting.settle()
        alerting.clock.now_ms = NOW_MS + 600_000
        for name, (changed, _) in CHANGES.items():
            assert await newest(name) == ("firing", "critical", 0)
            await alerting.define(name, changed)
        await alerting.settle()
        (lowered,) = await alerting.listed(AlertFilter(rule_name="lowered_level"))
        assert lowered.expr == "lowered_level >= 7.0"
        assert "its warning limit of 7" in lowered.annotations["summary"]
        notes = [step.note for step in await alerting.alerts.history(TENANT, lowered.id)]
        assert notes[-1] == "severity: critical → warning"
        for name, (_, expected) in CHANGES.items():
            ended_ms = alerting.clock.now_ms if expected[0] == "resolved" else 0
            assert await newest(name) == (*expected, ended_ms), name
            await alerting.define(name, make_threshold())
        await alerting.settle()
        for name in CHANGES:
            assert await newest(name) == ("firing", "critical", 0), name


async def test_the_value_of_an_alert_is_that_of_its_summary(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (0, 9.0))
        await alerting.settle()
        alerting.clock.now_ms = NOW_MS + 60_000
        await alerting.write(HOST, (60_000, 12.0))
        # The level is the same, so nothing is written until the threshold is another one.
        await alerting.define("queue", make_threshold(warning=2.0))
        await alerting.settle()
        (alert,) = await alerting.alerts.active(TENANT)
        assert alert.annotations["summary"].startswith("queue is 12, at or above")
        assert alert.value == 12.0


async def test_a_new_threshold_is_held_against_the_last_sample_of_each_series(
    database_url: str,
) -> None:
    async with running_alerting(database_url, max_sample_age_ms=3_600_000) as alerting:
        await alerting.write(HOST, (0, 9.0))
        await alerting.write(make_labels("queue", host="b"), (0, 1.0))
        await alerting.write(make_labels("queue", host="old"), (-3_600_001, 9.0))
        await alerting.define("queue", make_threshold())
        await alerting.settle()
        (alert,) = await alerting.alerts.active(TENANT)
        assert (alert.labels.get("host"), alert.severity) == ("a", "critical")


async def test_old_samples_raise_no_alert_and_may_end_one(database_url: str) -> None:
    async with running_alerting(database_url, max_sample_age_ms=3_600_000) as alerting:
        await alerting.define("queue", make_threshold(remediation=make_remediation()))
        await alerting.write(HOST, (-7_200_000, 9.0))
        await alerting.settle()
        await alerting.write(HOST, (-3_600_001, 9.0))
        await alerting.settle()
        assert (await states(alerting), alerting.notifier.told) == ([], [])
        # The level of the old samples is not taken as known: the first new one alerts.
        await alerting.write(HOST, (-3_600_000, 9.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "critical")]
        alerting.clock.now_ms += 10_000_000
        await alerting.write(HOST, (-1000, 6.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "warning")]
        await alerting.write(HOST, (-500, 9.0))
        await alerting.settle()
        assert await states(alerting) == [("firing", "warning")]
        await alerting.write(HOST, (0, 1.0))
        await alerting.settle()
        assert await states(alerting) == [("resolved", "warning")]
        assert alerting.launcher.n_calls == 1


async def test_alerts_of_thresholds_are_shown_to_promql(database_url: str) -> None:
    labels = {"alertname": "queue", "host": "a"}
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(for_ms=60_000))
        await alerting.write(HOST, (0, 6.0))
        await alerting.settle()
        pending = {"__name__": "ALERTS", "alertstate": "pending", **labels, "severity": "warning"}
        assert await alerting.series("ALERTS", 1000) == [pending]
        (alert,) = await alerting.alerts.active(TENANT)
        since = alert.active_at_ms // 1000
        assert len(await alerting.series(f"ALERTS_FOR_STATE == {since}", 1000)) == 1
        alerting.clock.now_ms = NOW_MS + 61_000
        await alerting.write(HOST, (61_000, 9.0))
        await alerting.settle()
        firing = {**pending, "alertstate": "firing", "severity": "critical"}
        assert await alerting.series("ALERTS", 61_000) == [firing]
        # A threshold holds until the next sample, and so does its series.
        for at_ms in range(90_000, 900_000, 30_000):
            alerting.clock.now_ms = NOW_MS + at_ms
            await alerting.settle()
        assert await alerting.series("ALERTS", 900_000) == [firing]
        assert await alerting.series("count_over_time(ALERTS[5m]) >= 4", 880_000) != []
        alerting.clock.now_ms = NOW_MS + 901_000
        await alerting.write(HOST, (900_500, 1.0))
        await alerting.settle()
        assert await alerting.series('{__name__=~"ALERTS.*"}', 901_000) == []
        assert await alerting.series("ALERTS", 900_999) == [firing]
        at = EvalRange.instant(NOW_MS + 900_000)
        result = await alerting.queries.run(Query("other", "ALERTS", at))
        assert result.value.labels == ()  # type: ignore[union-attr]


async def test_an_override_inherits_what_it_does_not_name(database_url: str) -> None:
    overrides = (
        ThresholdOverride(Labels.of({"host": "critical"}), critical=20.0),
        ThresholdOverride(Labels.of({"host": "quiet"}), NO_LIMIT, NO_LIMIT),
        ThresholdOverride(Labels.of({"host": "no-warning"}), warning=NO_LIMIT),
    )
    async with running_alerting(database_url) as alerting:
        await alerting.define("queue", make_threshold(overrides=overrides))
        stored = await alerting.definitions.find(TENANT, "queue")
        assert stored is not None
        assert stored.alert_threshold == make_threshold(overrides=overrides)
        for host, value in (("critical", 9.0), ("quiet", 1e9), ("no-warning", 6.0)):
            await alerting.write(make_labels("queue", host=host), (0, value))
        await alerting.settle()
        found = await alerting.alerts.active(TENANT)
        assert [(a.labels.get("host"), a.severity) for a in found] == [("critical", "warning")]
        await alerting.write(make_labels("queue", host="no-warning"), (1, 8.0))
        await alerting.settle()
        assert (await states(alerting))[-1] == ("firing", "critical")


async def test_a_remediation_bound_to_a_level_starts_when_the_alert_gets_there(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:
        bound = make_remediation(levels=("critical",))
        await alerting.define("queue", make_threshold(remediation=bound))
        await alerting.write(HOST, (0, 6.0))
        await alerting.settle()
        assert (alerting.notifier.states, alerting.launcher.n_calls) == (["firing"], 0)
        await alerting.write(HOST, (10, 9.0))
        await alerting.settle()
        assert alerting.launcher.n_calls == 1
        await alerting.write(HOST, (20, 6.0), (30, 9.0), (40, 6.0))
        await alerting.settle()
        # The same alert: its workflow is known and nothing starts twice.
        assert len(alerting.launcher.started) == 1
        # Two levels in one batch: it was critical for a moment.
        other = make_labels("queue", host="b")
        await alerting.write(other, (0, 6.0), (1, 9.0), (2, 6.0))
        await alerting.settle()
        assert len(alerting.launcher.started) == 2
        await alerting.write(make_labels("queue", host="c"), (0, 6.0), (1, 1.0))
        await alerting.settle()
        assert len(alerting.launcher.started) == 2


async def test_overrides_and_levels_as_json(plain_database_url: str) -> None:
    threshold = {
        "warning": 100.0,
        "critical": 500.0,
        "overrides": [
            {"labels": {"queue": "mail"}, "critical": 900.0},
            {"labels": {"queue": "bulk"}, "warning": None, "critical": None},
        ],
        "remediation": {"workflow_type": "W", "task_queue": "q", "levels": ["critical"]},
    }
    async with running_native_service(plain_database_url) as alerting:
        body = {"alert_threshold": threshold}
        await alerting.send("PUT", "/definitions/queue", status=201, body=body)
        found = await alerting.send("GET", "/definitions/queue", status=200)
        stored = found["alert_threshold"]
        assert stored["overrides"] == threshold["overrides"]
        assert stored["remediation"]["levels"] == ["critical"]
        again = {"alert_threshold": stored}
        await alerting.send("PUT", "/definitions/queue", status=200, body=again)
        threshold["overrides"] = [{"labels": {"queue": "mail"}, "warning": 1000.0}]
        found = await alerting.send("PUT", "/definitions/queue", status=400, body=body)
        assert "has critical 500.0 below warning 1000.0 in overrides[0]" in found["detail"]
        threshold["overrides"] = [{"labels": {"queue": "mail"}}]
        found = await alerting.send("PUT", "/definitions/queue", status=400, body=body)
        assert found["errors"][0]["field"] == "alert_threshold.overrides[0]"
        threshold |= {"overrides": [], "remediation": {**stored["remediation"], "levels": ["bad"]}}
        found = await alerting.send("PUT", "/definitions/queue", status=400, body=body)
        assert found["errors"][0]["expected"] == "warning or critical"
        del threshold["critical"]
        threshold["remediation"] = {**stored["remediation"], "levels": ["critical"]}
        found = await alerting.send("PUT", "/definitions/queue", status=400, body=body)
        assert found["errors"][0]["expected"] == "warning"


async def test_an_expired_alert_does_not_come_back_with_a_changed_threshold(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url, expiry_ms=60_000) as alerting:
        await alerting.define("queue", make_threshold())
        await alerting.write(HOST, (0, 9.0))
        await alerting.settle()
        alerting.clock.now_ms = NOW_MS + 60_001
        await alerting.settle()
        assert await states(alerting) == [("resolved", "critical")]
        await alerting.define("queue", make_threshold(critical=9.0))
        await alerting.settle()
        assert await states(alerting) == [("resolved", "critical")]


async def test_a_run_verifies_a_bounded_number_of_series_and_the_next_ones_the_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "_VERIFIED_AT_ONCE", 2)
    monkeypatch.setattr(thresholds, "_REPEATED_AT_ONCE", 2)
    hosts = [make_labels("queue", host=host) for host in "abcde"]
    async with running_alerting(database_url) as alerting, connected(database_url) as owner:

        async def numbers() -> dict[str, int]:
            return dict(Counter(state for state, _ in await states(alerting)))

        await alerting.define("queue", make_threshold(for_ms=60_000))
        for host in hosts:
            await alerting.write(host, (0, 9.0))
        while await alerting.thresholds.dispatch_breaches():
            pass
        assert await numbers() == {"pending": 5}
        alerting.clock.now_ms = NOW_MS + 61_000
        for found in ({"firing": 2, "pending": 3}, {"firing": 4, "pending": 1}, {"firing": 5}):
            await alerting.thresholds.verify()
            assert await numbers() == found
        # ALERTS of all of them are written again, though not by one run.
        alerting.clock.now_ms = NOW_MS + 400_000
        assert await alerting.series("ALERTS", 400_000) == []
        n_shown = []
        for _ in range(3):
            await alerting.thresholds.verify()
            n_shown.append(len(await alerting.series("ALERTS", 400_100)))
        assert (n_shown[0], n_shown[-1]) == (2, 5)
        # No breach tells of these samples: each run finds some of them.
        for host in hosts:
            await alerting.write(host, (400_000, 1.0))
        await owner.execute("DELETE FROM breach_outbox")
        n_open = []
        for _ in range(4):
            await alerting.thresholds.verify()
            n_open.append((await numbers()).get("firing", 0))
        assert n_open[0] >= 3
        assert n_open[-1] == 0


async def test_a_correction_that_waits_for_a_review_holds_up_no_writes(database_url: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with running_alerting(database_url) as alerting:
        await alerting.write(HOST, (0, 9.0))
        await alerting.define("queue", make_threshold())
        async with alerting.repository.thresholds() as session:
            assert session is not None
            assert await session.take_review(10) is not None
            deleting = asyncio.create_task(
                delete_samples(
                    alerting.storage, TENANT, select_name("queue", NOW_MS - 1, NOW_MS + 1)
                )
            )
            async with connected(database_url) as connection, asyncio.timeout(10):
                while not await connection.fetchval(waiting):
                    await connection.execute("SELECT pg_sleep(0.01)")
            # A review writes the series of its alerts before it commits.
            await asyncio.wait_for(alerting.write(make_labels("ALERTS"), (0, 1.0)), 10)
        assert await deleting == 1
