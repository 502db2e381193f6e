"""What people do about alerts over HTTP: acknowledge, end by hand, silence now or later."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from promcompat.core.alerting.alerts import AlertChange, AlertFilter, AlertState
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import WriteBatch
from tests.support.factories import make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    make_rule,
    make_threshold,
    running_alerting,
)
from tests.support.services.native_service import NativeClient, running_native_service, unix_time

pytestmark = pytest.mark.integration

ANA = {"actor": "ana", "reason": "the host is gone"}
HOST = make_labels("queue", host="a")
DAY = 86_400_000


@pytest.fixture
async def service(plain_database_url: str) -> AsyncIterator[NativeClient]:
    """A service with a threshold whose only series breaches it."""
    async with running_native_service(plain_database_url, max_silences=3) as client:
        threshold = {"alert_threshold": {"critical": 8}}
        await client.send("PUT", "/definitions/queue", status=201, body=threshold)
        await client.ingest({"name": "queue", "value": 9, "labels": {"host": "a"}})
        await settle(client)
        yield client


async def settle(client: NativeClient) -> None:
    """Handle breaches and look at levels, as the loops do."""
    while await client.services.thresholds.dispatch_breaches():
        pass
    await client.services.thresholds.verify()


async def only_alert(client: NativeClient) -> dict[str, Any]:
    (alert,) = (await client.get("/alerts", state="firing"))["alerts"]
    found: dict[str, Any] = alert
    return found


async def test_actor_and_reason_are_the_words_of_every_request(service: NativeClient) -> None:
    alert = await only_alert(service)
    assert (alert["acknowledgement"], alert["silenced_by"]) == (None, [])
    path = f"/alerts/{alert['id']}/acknowledge"
    problem = await service.send("POST", path, status=400, body={"by": "ana"})
    assert {fault["field"] for fault in problem["errors"]} == {"by"}
    problem = await service.send("POST", path, status=400, body={"reason": "mine"})
    assert {fault["field"] for fault in problem["errors"]} == {"actor"}
    answer = await service.send("POST", path, status=200, body={"actor": "ana", "reason": "mine"})
    assert answer["acknowledgement"]["actor"] == "ana"
    history = await service.get(f"/alerts/{alert['id']}/history")
    last = history["transitions"][-1]
    assert (last["actor"], last["note"]) == ("ana", "acknowledged by ana: mine")
    silence = {"labels": {"host": "b"}, **ANA}
    made = await service.send("POST", "/silences", status=201, body=silence)
    assert (made["actor"], made["reason"]) == ("ana", "the host is gone")
    assert not [name for name in made if name.endswith("_by")]


async def test_alert_of_something_that_is_gone_is_ended_by_hand(service: NativeClient) -> None:
    alert = await only_alert(service)
    path = f"/alerts/{alert['id']}/resolve"
    await service.send("POST", path, status=400, body={"actor": "ana"})
    ended = await service.send("POST", path, status=200, body=ANA)
    assert ended["state"] == "resolved"
    await service.send("POST", path, status=409, body=ANA)
    last = (await service.get(f"/alerts/{alert['id']}/history"))["transitions"][-1]
    assert (last["from_state"], last["to_state"]) == ("firing", "resolved")
    assert (last["actor"], last["note"]) == ("ana", "ended by ana: the host is gone")
    assert (await service.prometheus("query", query="ALERTS"))["result"] == []
    await settle(service)
    assert (await service.get("/alerts", state="firing"))["alerts"] == []


async def test_alert_that_was_ended_by_hand_fires_anew_with_the_next_bad_sample(
    service: NativeClient,
) -> None:
    alert = await only_alert(service)
    await service.send("POST", f"/alerts/{alert['id']}/resolve", status=200, body=ANA)
    await service.ingest({"name": "queue", "value": 9.5, "labels": {"host": "a"}})
    await settle(service)
    again = await only_alert(service)
    assert again["id"] != alert["id"]


async def test_silenced_is_shown_and_silences_may_start_later(service: NativeClient) -> None:
    alert = await only_alert(service)
    now = datetime.now(UTC)
    later = {"starts_at": (now + timedelta(hours=1)).isoformat(), "labels": {"host": "a"}, **ANA}
    future = await service.send("POST", "/silences", status=201, body=later)
    assert not future["is_active"]
    assert (await only_alert(service))["silenced_by"] == []
    assert unix_time(future["ends_at"]) - unix_time(future["starts_at"]) == 3600
    until = {"ends_at": (now + timedelta(hours=2)).isoformat(), "labels": {"host": "a"}, **ANA}
    active = await service.send("POST", "/silences", status=201, body=until)
    assert abs(unix_time(active["ends_at"]) - now.timestamp() - 7200) < 0.01
    assert (await only_alert(service))["silenced_by"] == [active["id"]]
    alerting = await service.get(f"/alerts/{alert['id']}")
    assert alerting["silenced_by"] == [active["id"]]
    (shown,) = (await service.prometheus("alerts"))["alerts"]
    assert shown["silencedBy"] == [str(active["id"])]
    await service.send("DELETE", f"/silences/{active['id']}", status=200)
    (shown,) = (await service.prometheus("alerts"))["alerts"]
    assert "silencedBy" not in shown


@pytest.mark.parametrize(
    "times",
    [
        {"ends_at": "2020-01-01T00:00:00Z"},
        {"starts_at": "2099-01-01T00:00:00Z", "ends_at": "2098-01-01T00:00:00Z"},
        {"ends_at": "2099-01-01T00:00:00Z", "duration": "1h"},
        {"starts_at": "tomorrow"},
        {"starts_at": "9999-12-31T23:00:00Z", "duration": "2h"},
    ],
)
async def test_impossible_times_of_a_silence_are_refused_by_field(
    service: NativeClient, times: dict[str, str]
) -> None:
    body = {"labels": {"host": "a"}, **ANA, **times}
    problem = await service.send("POST", "/silences", status=400, body=body)
    assert {fault["field"] for fault in problem["errors"]} <= {*times}
    assert problem["errors"]
    assert (await service.get("/silences"))["silences"] == []


async def test_texts_of_a_silence_are_bounded(service: NativeClient) -> None:
    body = {"labels": {"host": "a" * 16_000}, "matchers": ["job=" + "b" * 376], **ANA}
    await service.send("POST", "/silences", status=201, body=body)
    body["matchers"] = ["job=" + "b" * 377]
    problem = await service.send("POST", "/silences", status=400, body=body)
    assert "16385 characters of labels and matchers" in str(problem["errors"])


async def test_silences_of_a_tenant_are_bounded(service: NativeClient) -> None:
    body = {"labels": {"host": "a"}, **ANA}
    made = [await service.send("POST", "/silences", status=201, body=body) for _ in range(3)]
    problem = await service.send("POST", "/silences", status=409, body=body)
    assert "PROMCOMPAT_MAX_SILENCES" in problem["detail"]
    await service.send("DELETE", f"/silences/{made[0]['id']}", status=200)
    await service.send("POST", "/silences", status=201, body=body)


async def test_rule_alert_that_was_ended_by_hand_stays_ended_beside_an_evaluation(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(expr="queue > 5"))
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        (alert,) = await alerting.alerts.active(TENANT)
        async with alerting.repository.evaluating(TENANT, "rules", "g") as session:
            assert session is not None
            ((rule, _),) = session.rules
            known = await session.open_alerts(rule.id)
            await alerting.alerts.resolve(TENANT, alert.id, "ana", "gone")
            evaluation = (await alerting.rules.groups(TENANT))[0].rules[0].evaluation
            assert evaluation is not None
            await session.record(rule.id, evaluation, [AlertChange(alert=known[0])])
        found = await alerting.alerts.get(TENANT, alert.id)
        assert found.state is AlertState.RESOLVED
        assert await alerting.series("ALERTS", 5_001) == []
        await alerting.deliver()
        assert alerting.notifier.states == ["firing", "resolved"]
        await alerting.evaluate(15_000)
        (again,) = await alerting.alerts.active(TENANT)
        assert again.id != alert.id


async def test_ending_by_hand_can_be_repeated_when_its_series_could_not_be_written(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(tenant: str, batch: WriteBatch) -> None:
        raise StorageUnavailableError("down")

    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(expr="queue > 5"))
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        (alert,) = await alerting.alerts.active(TENANT)
        with monkeypatch.context() as patched:
            patched.setattr(alerting.metrics, "write", away)
            with pytest.raises(StorageUnavailableError):
                await alerting.alerts.resolve(TENANT, alert.id, "ana", "gone")
        ended = await alerting.alerts.resolve(TENANT, alert.id, "ana", "gone")
        assert ended.state is AlertState.RESOLVED
        assert await alerting.series("ALERTS", 5_001) == []


async def test_threshold_alert_of_a_series_that_sends_nothing_expires(
    plain_database_url: str,
) -> None:
    async with running_alerting(plain_database_url, expiry_ms=DAY) as alerting:
        await alerting.define("queue", make_threshold())
        other = make_labels("queue", host="b")
        await alerting.write(HOST, (0, 9.0))
        await alerting.write(other, (0, 9.0))
        await alerting.settle()
        alerting.clock.now_ms = NOW_MS + DAY
        await alerting.write(other, (DAY, 9.0))
        await alerting.settle()
        assert len(await alerting.alerts.active(TENANT)) == 2
        alerting.clock.now_ms += 1
        await alerting.settle()
        (left,) = await alerting.alerts.active(TENANT)
        assert left.labels.get("host") == "b"
        (ended,) = await alerting.listed(AlertFilter(states=(AlertState.RESOLVED,)))
        assert (await alerting.alerts.history(TENANT, ended.id))[
            -1
        ].note == "expired: no sample for 1d"
        await alerting.write(HOST, (DAY + 1, 9.0))
        await alerting.settle()
        assert len(await alerting.alerts.active(TENANT)) == 2


async def test_alerts_are_listed_by_when_they_were_active(service: NativeClient) -> None:
    alert = await only_alert(service)
    await service.send("POST", f"/alerts/{alert['id']}/resolve", status=200, body=ANA)
    ended = await service.get(f"/alerts/{alert['id']}")
    active, resolved = unix_time(ended["active_at"]), unix_time(ended["resolved_at"])

    async def found(**times: float) -> list[int]:
        return [each["id"] for each in (await service.get("/alerts", **times))["alerts"]]

    assert await found(start=active - 9, end=active + 1) == [alert["id"]]
    assert await found(start=resolved, end=resolved + 9) == [alert["id"]]
    assert await found(start=resolved + 1) == []
    assert await found(end=active - 1) == []
    assert await found(end=0) == []
