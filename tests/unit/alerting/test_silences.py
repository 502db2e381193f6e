"""Which silences match an alert, and how long a tenant may take to find that out."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.alerting import silences as module
from promcompat.alerting.silences import (
    ActiveSilences,
    SilenceIndex,
    SilenceService,
    _silenced_by,
)
from promcompat.alerting.stats import AlertingStats
from promcompat.core.alerting.alerts import Alert, Silence
from promcompat.core.alerting.ports import SilenceRepository
from promcompat.core.errors import QueryTimeoutError
from promcompat.core.limits.tenant_limits import NO_LIMITS
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import Labels
from promql.budget import TimeLimit
from tests.support.services.alerting import make_alert

names = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["", "x", "y"])
label_sets = st.dictionaries(names, st.sampled_from(["x", "y"]), max_size=3).map(Labels.of)
matchers = st.builds(LabelMatcher, names, st.sampled_from(MatchOp), values)


def silence(number: int, labels: Labels, found: list[LabelMatcher]) -> Silence:
    return Silence(
        id=number,
        labels=labels,
        reason="",
        created_by="",
        starts_at_ms=0,
        ends_at_ms=1,
        matchers=tuple(found),
    )


@given(st.lists(st.tuples(label_sets, st.lists(matchers, max_size=3)), max_size=20), label_sets)
def test_the_same_silences_match(
    stated: list[tuple[Labels, list[LabelMatcher]]], labels: Labels
) -> None:
    silences = [silence(number, *one) for number, one in enumerate(stated)]
    found = {one.id for one in SilenceIndex(silences).candidates(labels) if one.matches(labels)}
    expected = [one.id for one in silences if one.matches(labels)]
    assert found == set(expected)
    alert = replace(alert_of("x"), labels=labels)
    of_alert = _silenced_by(silences, [alert], TimeLimit.after(60))
    assert of_alert == ({alert.id: expected} if expected else {})


class _Stored:
    """Silences with a regular expression, which are compared in a thread."""

    async def active(self, tenant: str, now_ms: int) -> list[Silence]:
        return [silence(1, Labels.of({}), [LabelMatcher("a", MatchOp.REGEX, "x.*")])]


STORED = cast(SilenceRepository, _Stored())


def alert_of(value: str) -> Alert:
    return make_alert(Labels.of({"a": value}), id=7)


async def test_a_tenant_whose_time_is_over_waits_and_others_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    active = ActiveSilences(STORED, lambda: 0)
    assert await active.is_silenced("costly", alert_of("xy"))
    for _ in range(2):
        active._spend("costly", 3600.0)
    assert await active.is_silenced("costly", alert_of("xy")) is None
    assert await active.is_silenced("other", alert_of("xy")) is True
    assert await active.is_silenced("other", alert_of("y")) is False
    assert [record.__dict__["tenant"] for record in caplog.records] == ["costly"]


class _Costly(_Stored):
    """A silence whose comparison takes longer than a round has."""

    async def active(self, tenant: str, now_ms: int) -> list[Silence]:
        matcher = LabelMatcher("a", MatchOp.REGEX, "x.*")
        return [silence(1, Labels.of({}), [matcher])] * 300_000


@pytest.mark.parametrize("is_told", [True, False])
async def test_an_alert_that_cannot_be_compared_is_sent_and_not_repaired(
    is_told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_SECONDS_OF_ROUND", 0.05)
    stats = AlertingStats()
    costly = cast(SilenceRepository, _Costly())
    active = ActiveSilences(costly, lambda: 0, stats if is_told else None)
    assert await active.is_silenced("costly", alert_of("y")) is (False if is_told else None)
    # Those behind it have not had their turn, and wait.
    assert await active.is_silenced("costly", alert_of("z")) is None
    assert stats.notifications_uncompared == (1 if is_told else 0)
    texts = [record.getMessage() for record in caplog.records]
    assert any("although it may be silenced" in text for text in texts) is is_told


async def test_an_alert_that_waited_for_a_thread_waits_for_another_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SECONDS_OF_ROUND", 0.05)
    stats, is_over = AlertingStats(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        pool.submit(is_over.wait, 60)
        active = ActiveSilences(STORED, lambda: 0, stats)
        assert await active.is_silenced("t", alert_of("xy")) is None
        is_over.set()
    assert stats.notifications_uncompared == 0


async def test_listing_takes_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SilenceService(STORED, NO_LIMITS, lambda: 0)
    assert await service.silenced_by("t", [alert_of("xy"), alert_of("y")]) == {7: [1]}
    monkeypatch.setattr(module, "_SECONDS_OF_LIST", 0.0)
    with pytest.raises(QueryTimeoutError):
        await service.silenced_by("t", [alert_of("xy")])
