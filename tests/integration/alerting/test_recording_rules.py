"""Recording rules on real databases: what is written, when series end, limits, replicas."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from promcompat.alerting import recording as recording_module
from promcompat.alerting.state_machine import group_slot
from promcompat.core.alerting.alerts import DEFAULT_NAMESPACE, Rule, RuleKind
from promcompat.core.model import EvalRange
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult
from sql.alerting import rule_repository
from sql.alerting.recorded_series import PackedSeries
from tests.support.factories import make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    make_rule,
    running_alerting,
)

pytestmark = pytest.mark.integration

A, B = make_labels("m", host="a"), make_labels("m", host="b")
INTERVAL_MS = 10_000
FIRST_MS = group_slot(TENANT, DEFAULT_NAMESPACE, "g", INTERVAL_MS, NOW_MS + INTERVAL_MS) - NOW_MS
"""The first evaluation of the group `g` after NOW_MS, from then on."""


def recording(name: str = "r", expr: str = "m", **changes: Any) -> Rule:
    return make_rule(name, expr, kind=RuleKind.RECORD, interval_ms=INTERVAL_MS, **changes)


def slot(number: int) -> int:
    """The time of an evaluation, relative to NOW_MS."""
    return FIRST_MS + number * INTERVAL_MS


async def found(alerting: AlertingFixture, expr: str, at_ms: int) -> dict[str, float]:
    """The result of an expression: the value of each series, by its labels as text."""
    question = Query(TENANT, expr, EvalRange.instant(NOW_MS + at_ms))
    value = (await alerting.queries.run(question)).value
    assert isinstance(value, Matrix)
    return {str(labels): float(value.values[row, 0]) for row, labels in enumerate(value.labels)}


async def errors(alerting: AlertingFixture) -> list[str]:
    """The last errors of all rules in order."""
    (group,) = await alerting.rules.groups(TENANT)
    return ["?" if rule.evaluation is None else rule.evaluation.error for rule in group.rules]


async def test_samples_have_the_time_of_the_slot_and_the_labels_of_the_rule(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:
        labels = {"team": "x", "host": "", "literal": "{{ $value }}"}
        await alerting.rules.create(TENANT, recording("r", "sum by (host) (m)", labels=labels))
        await alerting.rules.create(TENANT, recording("constant", "1 + 1"))
        await alerting.write(A, (0, 2.0))
        await alerting.evaluate(slot(1) + 1_234)
        name = '{__name__="r", literal="{{ $value }}", team="x"}'
        assert await found(alerting, "r", slot(1)) == {name: 2.0}
        assert await found(alerting, "r", slot(1) - 1) == {}
        assert await found(alerting, "timestamp(constant)", slot(1) + 1_234) == {
            "{}": (NOW_MS + slot(1)) / 1000
        }
        assert await errors(alerting) == ["", ""]


async def test_rules_of_a_group_see_what_the_rules_before_them_recorded(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        for position, (name, expr) in enumerate([("b", "m + 1"), ("a", "b * 2")], 1):
            await alerting.rules.create(TENANT, recording(name, expr, position=position))
        await alerting.rules.create(TENANT, make_rule("R", "a > 5", position=3))
        await alerting.write(A, (0, 2.0))
        await alerting.evaluate(slot(1))
        assert await found(alerting, "a", slot(1)) == {'{__name__="a", host="a"}': 6.0}
        assert [alert.value for alert in await alerting.alerts.active(TENANT)] == [6.0]


async def test_all_rules_of_a_group_are_evaluated_at_one_time_however_long_they_take(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a later rule would be evaluated at a time at which no earlier one has been yet."""
    async with running_alerting(database_url) as alerting:
        for position, (name, expr) in enumerate([("a", "m"), ("b", "a")], 1):
            await alerting.rules.create(TENANT, recording(name, expr, position=position))
        await alerting.write(A, (0, 1.0), (slot(2) - 1, 2.0))
        run = alerting.queries.run

        async def run_slowly(query: Query) -> QueryResult:
            result = await run(query)
            alerting.clock.now_ms = max(alerting.clock.now_ms, NOW_MS + slot(2) + 5)
            return result

        monkeypatch.setattr(alerting.queries, "run", run_slowly)
        await alerting.evaluate(slot(1) + 5)
        assert list((await found(alerting, "b", slot(1))).values()) == [1.0]
        await alerting.evaluate(slot(2) + 10)
        assert list((await found(alerting, "b", slot(2))).values()) == [2.0]


async def test_a_query_offset_moves_the_question_and_the_samples(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        for rule in (recording(), make_rule("R", "m > 0")):
            await alerting.rules.create(TENANT, replace(rule, query_offset_ms=7_000))
        await alerting.write(A, (0, 1.0), (slot(2) - 6_999, 2.0))
        await alerting.evaluate(slot(2))
        at_s = (NOW_MS + slot(2) - 7_000) / 1000
        assert list((await found(alerting, "timestamp(r)", slot(2))).values()) == [at_s]
        assert list((await found(alerting, "r", slot(2))).values()) == [1.0]
        assert list((await found(alerting, "timestamp(ALERTS)", slot(2))).values()) == [at_s]
        (alert,) = await alerting.alerts.active(TENANT)
        assert alert.active_at_ms == NOW_MS + slot(2)


async def test_a_series_that_is_no_longer_in_the_result_ends(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, recording("r", "m > 1"))
        await alerting.write(A, (0, 2.0), (slot(2) - 5, 1.0))
        await alerting.write(B, (0, 2.0))
        await alerting.evaluate(slot(1))
        assert len(await found(alerting, "r", slot(2) - 1)) == 2
    # Another process knows from the database what the first one wrote.
    async with running_alerting(database_url) as other:
        await other.evaluate(slot(2))
        assert list(await found(other, "r", slot(2))) == ['{__name__="r", host="b"}']


async def test_threads_work_on_the_series_of_a_rule(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            threads.append(threading.get_ident())
            return work(*arguments)

        return noted

    places = (
        (recording_module, "cells_of"),
        (recording_module, "rule_batch"),
        (rule_repository, "joined_series"),
        (PackedSeries, "of"),
    )
    for place, name in places:
        monkeypatch.setattr(place, name, noting(getattr(place, name)))
    for number in (1, 2):
        # The second process reads from the database what the first one recorded.
        async with running_alerting(plain_database_url) as alerting:
            if number == 1:
                await alerting.rules.create(TENANT, recording("r", "m > 1"))
            for host in range(30):
                labels = make_labels("m", host=str(host))
                await alerting.write(labels, (slot(number) - 1, 1.0 + host % 3 + number))
            await alerting.evaluate(slot(number))
            assert await errors(alerting) == [""]
    assert len(threads) == 2 * len(places) - 1
    assert threading.get_ident() not in threads


async def test_an_evaluation_that_fails_ends_no_series(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        rule = await alerting.rules.create(TENANT, recording(labels={"host": "x"}, max_alerts=2))
        await alerting.write(A, (0, 2.0))
        await alerting.evaluate(slot(1))
        await alerting.write(B, (slot(1) + 1, 3.0))
        await alerting.evaluate(slot(2))
        same = "vector contains metrics with the same labelset after applying rule labels"
        assert await errors(alerting) == [same]
        await alerting.rules.replace(TENANT, replace(rule, labels={}, max_alerts=1))
        await alerting.evaluate(slot(3))
        assert await errors(alerting) == ["exceeded limit of 1 with 2 series"]
        assert await found(alerting, "r", slot(3)) == {'{__name__="r", host="x"}': 2.0}
        await alerting.rules.replace(TENANT, replace(rule, labels={}, max_alerts=0, version=2))
        await alerting.evaluate(slot(4))
        assert list(await found(alerting, "r", slot(4))) == [
            '{__name__="r", host="a"}', '{__name__="r", host="b"}',
        ]  # fmt: skip


async def test_a_sample_that_is_there_already_is_an_error_of_the_rule_and_spares_the_others(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, recording())
        await alerting.write(A, (0, 2.0))
        await alerting.write(B, (0, 2.0))
        await alerting.write(make_labels("r", host="a"), (slot(1), 7.0))
        await alerting.evaluate(slot(1))
        assert list((await found(alerting, "r", slot(1))).values()) == [7.0, 2.0]
        assert ["duplicate sample for timestamp" in text for text in await errors(alerting)] == [
            True
        ]


async def test_the_series_of_a_removed_rule_end_with_the_next_evaluation_of_its_group(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:
        gone = await alerting.rules.create(TENANT, recording("gone"))
        await alerting.rules.create(TENANT, recording("kept"))
        await alerting.write(A, (0, 2.0))
        await alerting.evaluate(slot(1))
        await alerting.rules.delete(TENANT, gone.id, gone.version)
        await alerting.evaluate(slot(2))
        assert await found(alerting, "gone", slot(2) - 1)
        assert await found(alerting, "gone", slot(2)) == {}
        assert await found(alerting, "kept", slot(2))


async def test_the_series_of_a_removed_group_end_two_intervals_later_unless_recorded_elsewhere(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:
        rules = [await alerting.rules.create(TENANT, recording(name)) for name in ("x", "moved")]
        await alerting.write(A, (0, 2.0))
        await alerting.evaluate(slot(1))
        for rule in rules:
            await alerting.rules.delete(TENANT, rule.id, rule.version)
        await alerting.rules.create(TENANT, recording("moved", group="h"))
        alerting.clock.now_ms = NOW_MS + slot(1) + 3_000
        await alerting.evaluator.end_removed()
        await alerting.evaluate(slot(2) + 9_999)
        alerting.clock.now_ms = NOW_MS + slot(3) + 2_999
        await alerting.evaluator.end_removed()
        assert await found(alerting, "x", slot(3))
        alerting.clock.now_ms = NOW_MS + slot(3) + 3_000
        await alerting.evaluator.end_removed()
        assert await found(alerting, "x", slot(1) + 2_999)
        assert await found(alerting, "x", slot(1) + 3_000) == {}
        assert await found(alerting, "moved", slot(1) + 3_000)


async def test_a_rule_that_was_moved_or_changed_ends_as_the_rule_it_is_now(
    database_url: str,
) -> None:
    """Although it recorded the same series in its new group, with its new interval and offset."""
    async with running_alerting(database_url) as alerting:
        moved = await alerting.rules.create(TENANT, recording("moved"))
        slow = await alerting.rules.create(TENANT, recording("slow", group="s"))
        await alerting.rules.create(TENANT, recording("kept", group="h"))
        await alerting.write(A, (0, 2.0))
        await alerting.evaluate(slot(1) + 9_999)
        moved = await alerting.rules.replace(TENANT, replace(moved, group="h"))
        slow = await alerting.rules.replace(
            TENANT, replace(slow, interval_ms=2_000, query_offset_ms=1_000)
        )
        await alerting.evaluate(slot(2) + 9_999)
        assert await found(alerting, "moved", slot(2) + 9_999)
        for rule in (moved, slow):
            await alerting.rules.delete(TENANT, rule.id, rule.version)
        await alerting.evaluator.end_removed()
        await alerting.evaluate(slot(3) + 9_999)
        assert await found(alerting, "kept", slot(3) + 9_999)
        assert await found(alerting, "moved", slot(3) + 9_999) == {}
        alerting.clock.now_ms = NOW_MS + slot(2) + 9_999 + 4_000
        await alerting.evaluator.end_removed()
        assert await found(alerting, "slow", slot(2) + 8_998)
        assert await found(alerting, "slow", slot(2) + 8_999) == {}


async def test_replicas_evaluate_a_group_once_and_missed_slots_are_counted(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as one, running_alerting(database_url) as two:
        await one.rules.create(TENANT, recording("n", "count_over_time(m[1h]) or vector(0)"))
        await asyncio.gather(one.evaluate(slot(1)), two.evaluate(slot(1)))
        await asyncio.gather(one.evaluate(slot(5)), two.evaluate(slot(5)))
        assert one.stats.rule_evaluations + two.stats.rule_evaluations == 2
        assert one.stats.rule_evaluations_missed + two.stats.rule_evaluations_missed == 3
        assert list((await found(one, "count_over_time(n[1h])", slot(6))).values()) == [2.0]
