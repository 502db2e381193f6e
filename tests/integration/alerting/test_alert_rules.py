"""Alert rules evaluated on real databases: states, series, limits, restarts and replicas."""

import asyncio
from dataclasses import replace

import pytest

from promcompat.alerting.rule_service import RuleService
from promcompat.core.alerting.alerts import Alert, AlertState, Silence
from promcompat.core.errors import (
    BadDataError,
    ConflictError,
    NotFoundError,
    StorageUnavailableError,
)
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.model import Labels
from promql.query import Query
from promql.values.matrix import QueryResult
from sql.alerting.rule_repository import PostgresRuleRepository
from tests.support.factories import make_labels
from tests.support.services.alerting import (
    NOW_MS,
    TENANT,
    AlertingFixture,
    make_remediation,
    make_rule,
    running_alerting,
)

pytestmark = pytest.mark.integration

HOST = make_labels("m", host="a")
MINUTE = 60_000


async def test_an_alert_from_first_sight_to_its_end(database_url: str) -> None:
    rule = make_rule(
        for_ms=20_000,
        severity="critical",
        labels={"team": "{{ $labels.host }}-team"},
        annotations={"summary": "{{ $labels.host }} is {{ $value }}"},
    )
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, rule)
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        (pending,) = await alerting.alerts.active(TENANT)
        assert (pending.state, pending.value) == (AlertState.PENDING, 9.0)
        assert pending.labels.as_dict() == {
            "alertname": "R", "host": "a", "severity": "critical", "team": "a-team",
        }  # fmt: skip
        assert pending.annotations == {"summary": "a is 9"}
        assert [s["alertstate"] for s in await alerting.series("ALERTS", 6_000)] == ["pending"]
        await alerting.evaluate(15_000)
        await alerting.evaluate(25_000)
        (firing,) = await alerting.alerts.active(TENANT)
        assert (firing.state, firing.id) == (AlertState.FIRING, pending.id)
        assert firing.fired_at_ms - firing.active_at_ms == 20_000
        assert [s["alertstate"] for s in await alerting.series("ALERTS", 26_000)] == ["firing"]
        assert len(
            await alerting.series(f"ALERTS_FOR_STATE == {firing.active_at_ms // 1000}", 26_000)
        )
        await alerting.write(HOST, (27_000, 1.0))
        await alerting.evaluate(40_000)
        assert await alerting.alerts.active(TENANT) == []
        assert await alerting.series('{__name__=~"ALERTS.*"}', 41_000) == []
        steps = await alerting.alerts.history(TENANT, firing.id)
        assert [(step.from_state, step.to_state) for step in steps] == [
            (AlertState.INACTIVE, AlertState.PENDING),
            (AlertState.PENDING, AlertState.FIRING),
            (AlertState.FIRING, AlertState.RESOLVED),
        ]
        await alerting.settle()
        assert alerting.notifier.states == ["firing", "resolved"]
        assert [n.alert.fired_at_ms for n in alerting.notifier.told] == [firing.fired_at_ms] * 2
        assert alerting.stats.rule_evaluations == 4


async def test_rules_of_a_group_ask_the_database_for_new_samples_once(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        head = alerting.storage.head
        for number in range(5):
            await alerting.rules.create(TENANT, make_rule(f"quiet {number}", "m > 100"))
        await alerting.write(HOST, (0, 9.0))
        before = head.stats.syncs
        await alerting.evaluate(5_000)
        assert alerting.stats.rule_evaluations == 5
        assert head.stats.syncs == before + 1


async def test_a_rule_sees_the_alerts_of_the_rules_before_it(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule("quiet", "m > 100"))
        await alerting.rules.create(TENANT, make_rule("first"))
        await alerting.rules.create(TENANT, make_rule("second", 'ALERTS{alertname="first"}'))
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        active = await alerting.alerts.active(TENANT)
        assert sorted(alert.rule_name for alert in active) == ["first", "second"]


async def test_a_pending_alert_that_ends_never_fired(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(for_ms=MINUTE))
        await alerting.write(HOST, (0, 9.0), (12_000, 0.0))
        await alerting.evaluate(5_000)
        await alerting.evaluate(25_000)
        (ended,) = await alerting.listed()
        assert ended.state is AlertState.INACTIVE
        await alerting.settle()
        assert alerting.notifier.told == []


async def test_keep_firing_for_outlives_the_condition(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(keep_firing_for_ms=20_000))
        await alerting.write(HOST, (0, 9.0), (12_000, 0.0))
        await alerting.evaluate(5_000)
        await alerting.evaluate(25_000)
        (kept,) = await alerting.alerts.active(TENANT)
        assert kept.keep_firing_since_ms > 0
        await alerting.evaluate(35_000)
        assert len(await alerting.alerts.active(TENANT)) == 1
        await alerting.evaluate(45_000)
        assert await alerting.alerts.active(TENANT) == []


async def test_equal_labels_and_limits_are_errors(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        same = make_rule("Same", expr='{__name__=~"m|n"} > 5')
        few = make_rule("Few", max_alerts=1)
        for rule in (same, few):
            await alerting.rules.create(TENANT, rule)
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        assert len(await alerting.alerts.active(TENANT)) == 2
        await alerting.write(make_labels("m", host="b"), (6_000, 9.0))
        await alerting.write(make_labels("n", host="a"), (6_000, 9.0))
        await alerting.evaluate(25_000)
        errors = {
            status.rule.name: status.evaluation.error
            for group in await alerting.rules.groups(TENANT)
            for status in group.rules
            if status.evaluation
        }
        assert errors == {
            "Same": "vector contains metrics with the same labelset after applying alert labels",
            "Few": "exceeded limit of 1 with 2 alerts",
        }
        (left,) = await alerting.alerts.active(TENANT)
        assert left.rule_name == "Same"


async def test_a_restart_that_misses_nothing_changes_nothing(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(for_ms=30_000))
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        (before,) = await alerting.alerts.active(TENANT)
    async with running_alerting(database_url) as other:
        for at_ms in (15_000, 25_000, 35_000):
            await other.evaluate(at_ms)
        (after,) = await other.alerts.active(TENANT)
    assert (after.id, after.active_at_ms) == (before.id, before.active_at_ms)
    assert after.state is AlertState.FIRING


async def test_for_does_not_count_an_outage(database_url: str) -> None:
    """What fires after an outage waits as in Prometheus; what was firing goes on."""
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(for_ms=30_000))
        await alerting.rules.create(TENANT, make_rule("fires"))
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        # A process that only has too much to do has no outage.
        await alerting.evaluate(25_000)
        (before,) = await pending(alerting)
    async with running_alerting(database_url) as other:
        await other.evaluate(65_000)
        (waiting,) = await pending(other)
        assert (waiting.id, waiting.active_at_ms) == (before.id, before.active_at_ms + 60_000)
        assert await other.series(f"ALERTS_FOR_STATE == {waiting.active_at_ms // 1000}", 66_000)
        await other.evaluate(85_000)
        assert len(await pending(other)) == 1
        await other.evaluate(95_000)
        assert {alert.state for alert in await other.alerts.active(TENANT)} == {AlertState.FIRING}
        assert other.stats.rule_evaluations == 6
        history = await other.listed()
        assert len(history) == 2


async def pending(alerting: AlertingFixture) -> list[Alert]:
    """The alerts that wait."""
    active = await alerting.alerts.active(TENANT)
    return [alert for alert in active if alert.state is AlertState.PENDING]


async def test_replicas_evaluate_each_slot_once(database_url: str) -> None:
    async with running_alerting(database_url) as alerting, running_alerting(database_url) as other:
        for name in "ABC":
            await alerting.rules.create(TENANT, make_rule(name, group=f"g{name}"))
        await alerting.write(HOST, (0, 9.0))
        for at_ms in range(10_000, 60_000, 10_000):
            alerting.clock.now_ms = other.clock.now_ms = NOW_MS + at_ms
            await asyncio.gather(alerting.evaluator.run_due(), other.evaluator.run_due())
            await asyncio.gather(alerting.evaluator.run_due(), other.evaluator.run_due())
        assert alerting.stats.rule_evaluations + other.stats.rule_evaluations == 15
        assert len(await alerting.listed()) == 3
        await asyncio.gather(*(each.deliver() for each in (alerting, other) * 3))
        assert len(alerting.notifier.told) + len(other.notifier.told) == 3


async def test_a_group_is_begun_whenever_it_is_due_and_its_last_evaluation_has_ended(
    database_url: str,
) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(interval_ms=1_000))
        for n_evaluations in range(1, 4):
            alerting.clock.now_ms += 1_000
            await alerting.evaluator.start_due()
            name = f"rules of {TENANT}"
            begun = [task for task in asyncio.all_tasks() if task.get_name() == name]
            await asyncio.wait(begun)
            assert alerting.stats.rule_evaluations == n_evaluations


async def test_a_group_is_looked_at_when_one_of_its_rules_is_due(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        for name, interval_ms in (("Fast", 10_000), ("Slow", MINUTE)):
            await alerting.rules.create(TENANT, make_rule(name, interval_ms=interval_ms))
        looked: list[str] = []
        evaluating = alerting.repository.evaluating

        def noted(tenant: str, namespace: str, group: str) -> object:
            looked.append(group)
            return evaluating(tenant, namespace, group)

        monkeypatch.setattr(alerting.repository, "evaluating", noted)
        for at_ms in range(0, 60_000, 1_000):
            await alerting.evaluate(at_ms)
        # Once for both, six times more for the fast rule, and once more for the slow one.
        assert 7 <= len(looked) <= 8
        assert alerting.stats.rule_evaluations == 9


async def test_a_deleted_rule_ends_its_alerts(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        rule = await alerting.rules.create(TENANT, make_rule())
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        await alerting.rules.delete(TENANT, rule.id, rule.version)
        await alerting.settle()
        assert await alerting.alerts.active(TENANT) == []
        assert await alerting.series("ALERTS", 5_001) == []
        assert alerting.notifier.states == ["firing", "resolved"]
        with pytest.raises(NotFoundError):
            await alerting.rules.get(TENANT, rule.id)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"expr": "sum("}, "could not parse expression: 1:5: parse error: unclosed left"),
        ({"expr": "m[5m]"}, "the expression is a range vector"),
        ({"annotations": {"a": "{{ nope }}"}}, 'function "nope" not defined'),
        ({"labels": {"a": "{{ if }}"}}, "labels.a: error parsing template"),
        ({"severity": "{{"}, "severity: error parsing template"),
        ({"labels": {"__name__": "x"}}, "invalid label name: __name__"),
        ({"annotations": {"a": "x" * 300_000}}, "annotations together have 300001 bytes"),
    ],
)
async def test_what_is_no_rule_is_refused(
    database_url: str, changes: dict[str, object], text: str
) -> None:
    async with running_alerting(database_url) as alerting:
        with pytest.raises(BadDataError) as found:
            await alerting.rules.create(TENANT, make_rule(**changes))
        assert text in str(found.value)


async def test_rules_of_a_group_may_share_a_name(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        first = await alerting.rules.create(TENANT, make_rule("A", severity="warning"))
        second = await alerting.rules.create(TENANT, make_rule("A", "m > 8", severity="critical"))
        await alerting.rules.create(TENANT, make_rule("A", labels={"team": "x"}))
        with pytest.raises(ConflictError):
            await alerting.rules.create(TENANT, make_rule("A", severity="warning"))
        with pytest.raises(ConflictError):
            await alerting.rules.replace(TENANT, replace(second, expr="m > 5", severity="warning"))
        await alerting.rules.create("other", make_rule("A", severity="warning"))
        await alerting.rules.replace(TENANT, replace(first, for_ms=1))
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(15_000)
        found = await alerting.alerts.active(TENANT)
        assert sorted(alert.severity for alert in found) == ["", "critical", "warning"]


async def test_a_label_that_is_or_becomes_empty_is_removed(database_url: str) -> None:
    labels = {"host": "", "zone": "{{ $labels.nothing }}", "severity": "", "alertname": "Other"}
    async with running_alerting(database_url) as alerting:
        rule = make_rule(severity="critical", labels=labels, annotations={"a": ""})
        await alerting.rules.create(TENANT, rule)
        await alerting.write(make_labels("m", host="a", zone="z", job="j"), (0, 9.0))
        await alerting.evaluate(15_000)
        (alert,) = await alerting.alerts.active(TENANT)
        assert alert.labels.as_dict() == {"alertname": "R", "job": "j"}
        (stored,) = await alerting.rules.list_rules(TENANT)
        assert (stored.labels, stored.annotations) == (labels, {"a": ""})


def rule_limits(max_rules: int, max_of_group: int) -> Limits:
    limits = TenantLimits(max_rules=max_rules, ruler_max_rules_per_rule_group=max_of_group)
    return Limits(SameLimits(limits))


async def test_a_tenant_and_a_group_have_a_bounded_number_of_rules(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        rules = PostgresRuleRepository(alerting.storage.database)
        limited = RuleService(rules, alerting.repository, alerting.definitions, rule_limits(3, 2))
        await limited.create(TENANT, make_rule("A"))
        second = await limited.create(TENANT, make_rule("B"))
        with pytest.raises(ConflictError, match="rules per rule group limit"):
            await limited.create(TENANT, make_rule("C"))
        third = await limited.create(TENANT, make_rule("C", group="h"))
        with pytest.raises(ConflictError, match="more than 3 rules"):
            await limited.create(TENANT, make_rule("D", group="h"))
        await limited.replace(TENANT, replace(second, for_ms=1))
        with pytest.raises(ConflictError, match="rules per rule group limit"):
            await limited.replace(TENANT, replace(third, group="g"))
        await limited.create("other", make_rule("A"))
        # A limit that was lowered keeps nobody from changing what there is.
        lower = RuleService(rules, alerting.repository, alerting.definitions, rule_limits(1, 1))
        await lower.replace(TENANT, replace(third, enabled=False))


async def test_silences_and_acknowledgement(database_url: str) -> None:
    silence = Silence(
        id=0,
        labels=Labels.of({"host": "a"}),
        reason="work",
        created_by="ana",
        starts_at_ms=NOW_MS,
        ends_at_ms=NOW_MS + MINUTE,
    )
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule(remediation=make_remediation()))
        made = await alerting.silences.create(TENANT, silence)
        await alerting.write(HOST, (0, 9.0))
        await alerting.write(make_labels("m", host="b"), (0, 9.0))
        await alerting.evaluate(5_000)
        await alerting.settle()
        assert [n.alert.labels.get("host") for n in alerting.notifier.told] == ["b"]
        assert [r.workflow_input["host"] for r in alerting.launcher.started.values()] == ["b"]
        (first, second) = await alerting.alerts.active(TENANT)
        quiet = first if first.labels.get("host") == "a" else second
        seen = await alerting.alerts.acknowledge(TENANT, quiet.id, "ana", "on it")
        again = await alerting.alerts.acknowledge(TENANT, quiet.id, "bob", "")
        assert (seen.acknowledged_by, again.acknowledged_by) == ("ana", "ana")
        notes = [step.note for step in await alerting.alerts.history(TENANT, quiet.id)]
        assert notes == ["", "", "acknowledged by ana: on it"]
        ended = await alerting.silences.end(TENANT, made.id)
        assert not ended.is_active(alerting.clock())
        assert (
            await alerting.silences.page(TENANT, includes_ended=False, before_id=0, limit=9) == []
        )
        with pytest.raises(NotFoundError):
            await alerting.alerts.acknowledge("other", quiet.id, "eve", "")


async def test_tenants_see_their_own(database_url: str) -> None:
    async with running_alerting(database_url) as alerting:
        await alerting.rules.create("other", make_rule())
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        assert await alerting.alerts.active(TENANT) == []
        assert await alerting.alerts.active("other") == []


HOSTILE_ANNOTATIONS = {
    "Forever": "{{ range 100000000000 }}{{ end }}",
    "Doubling": "{{ $x := `0123456789` }}{{ range 40 }}{{ $x = print $x $x }}{{ end }}{{ $x }}",
    "Nested": "{{ $x := 1 }}{{ range 40 }}{{ $x = args $x $x $x }}{{ end }}{{ $x }}",
    "Wide": "{{ printf `%1000000d%1000000d` 1 2 }}",
}


async def test_one_bad_rule_is_that_rules_error(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_alerting(database_url) as alerting:
        for name, text in HOSTILE_ANNOTATIONS.items():
            rule = make_rule(name, annotations={"summary": text})
            await alerting.rules.create(TENANT, rule)
        labels = {"rune": '{{ printf "%c" 55296 }}', "zero": '{{ printf "%c" 0 }}'}
        await alerting.rules.create(TENANT, make_rule("Runes", labels=labels))
        await alerting.rules.create(TENANT, make_rule("Unexpected", expr="m > 6"))
        await alerting.rules.create(TENANT, make_rule("Last"))
        run = alerting.queries.run

        async def run_or_fail(query: Query) -> QueryResult:
            if query.text == "m > 6":
                raise ZeroDivisionError("an error that nobody expects")
            return await run(query)

        monkeypatch.setattr(alerting.queries, "run", run_or_fail)
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        errors = {
            status.rule.name: status.evaluation.error
            for group in await alerting.rules.groups(TENANT)
            for status in group.rules
            if status.evaluation is not None
        }
        active = {alert.rule_name: alert for alert in await alerting.alerts.active(TENANT)}
    assert errors.pop("Runes") == errors.pop("Last") == ""
    assert errors.pop("Unexpected") == "internal error, see the server log"
    assert errors.keys() == HOSTILE_ANNOTATIONS.keys()
    assert "more than 100000 steps" in errors["Forever"]
    assert {errors[name].rpartition(": ")[2] for name in ("Doubling", "Nested", "Wide")} == {
        "a text is longer than 1048576 characters"
    }
    # The alert is there nonetheless, and says why it has no text.
    assert active.keys() == {"Runes", "Last", *HOSTILE_ANNOTATIONS}
    for name in HOSTILE_ANNOTATIONS:
        assert active[name].annotations["summary"].startswith("<error expanding template: ")
    assert active["Runes"].labels.get("rune") == active["Runes"].labels.get("zero") == "\ufffd"


async def test_a_rule_whose_query_the_database_does_not_answer_keeps_no_other_rule_waiting(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_alerting(database_url) as alerting:
        for name, expr in (("First", "m > 6"), ("Second", "m > 5")):
            await alerting.rules.create(TENANT, make_rule(name, expr))
        run = alerting.queries.run
        is_away = True

        async def run_or_fail(query: Query) -> QueryResult:
            if is_away and query.text == "m > 6":
                raise StorageUnavailableError("the disk for temporary files is full")
            return await run(query)

        monkeypatch.setattr(alerting.queries, "run", run_or_fail)
        await alerting.write(HOST, (0, 9.0))
        with pytest.raises(StorageUnavailableError, match="temporary files"):
            await alerting.evaluate(5_000)
        assert [alert.rule_name for alert in await alerting.alerts.active(TENANT)] == ["Second"]
        # The evaluation that is missing is repeated, and only that.
        is_away, n_evaluations = False, alerting.stats.rule_evaluations
        await alerting.evaluate(5_000)
        assert alerting.stats.rule_evaluations == n_evaluations + 1
        active = {alert.rule_name for alert in await alerting.alerts.active(TENANT)}
    assert active == {"First", "Second"}


@pytest.mark.parametrize(
    ("expr", "error", "labels"),
    [
        (r'label_replace(m, "x", "a\x00b", "", "")', "", {"x": "a\ufffdb"}),
        (r'label_replace(m, "\x00", "y", "", "")', "", {"\ufffd": "y"}),
        (r'label_replace(m, "x", "", "host", "(\x00")', "(\ufffd", None),
    ],
)
async def test_texts_that_the_database_cannot_hold_harm_no_rule(
    plain_database_url: str, expr: str, error: str, labels: dict[str, str] | None
) -> None:
    async with running_alerting(plain_database_url) as alerting:
        await alerting.rules.create(TENANT, make_rule("Odd", expr))
        await alerting.rules.create(TENANT, make_rule("Last"))
        await alerting.write(HOST, (0, 9.0))
        await alerting.evaluate(5_000)
        (group,) = await alerting.rules.groups(TENANT)
        errors = [status.evaluation.error for status in group.rules]  # type: ignore[union-attr]
        active = {alert.rule_name: alert for alert in await alerting.alerts.active(TENANT)}
    assert error in errors[0]
    assert bool(error) == bool(errors[0])
    assert errors[1] == ""
    assert "Last" in active
    if labels is None:
        assert "Odd" not in active
    else:
        assert active["Odd"].labels.as_dict().items() >= labels.items()


async def test_templates_of_a_rule_together_have_a_bounded_time_and_size(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promcompat.alerting.templates.expansion._MAX_CHARACTERS", 1_000_000)
    async with running_alerting(database_url) as alerting:
        annotations = {"summary": "{{ printf `%300000d` 1 }}"}
        await alerting.rules.create(TENANT, make_rule("Large", annotations=annotations))
        await alerting.rules.create(TENANT, make_rule("Small"))
        for host in "abcd":
            await alerting.write(make_labels("m", host=host), (0, 9.0))
        await alerting.evaluate(5_000)
        (group,) = await alerting.rules.groups(TENANT)
        errors = {status.rule.name: status.evaluation.error for status in group.rules}  # type: ignore[union-attr]
        active = [alert.rule_name for alert in await alerting.alerts.active(TENANT)]
    assert errors == {
        "Large": "the templates of the rule produce more than 1000000 characters",
        "Small": "",
    }
    assert active == ["Small"] * 4
