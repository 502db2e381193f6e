"""Watched rule files: what they say is what is stored, and one bad file changes nothing."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from promcompat.alerting.rule_file_watch import RuleFileWatch
from promcompat.alerting.rule_groups import RuleGroups
from promcompat.alerting.stats import AlertingStats
from promcompat.core.alerting.alerts import AlertState
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits, TenantLimits
from promcompat.core.model import Labels
from sql.alerting.rule_repository import PostgresRuleRepository
from tests.support.services.alerting import NOW_MS, TENANT, running_alerting
from tests.support.storage.repositories import opened_storage

pytestmark = pytest.mark.integration

GROUP = "groups: [{{name: g, rules: [{{record: {name}, expr: m}}]}}]"


async def test_files_are_loaded_when_they_change_and_forgotten_when_they_go(
    plain_database_url: str, tmp_path: Path
) -> None:
    stats, a, b = AlertingStats(), tmp_path / "a.yml", tmp_path / "b.yml"
    async with opened_storage(plain_database_url) as storage:
        repository = PostgresRuleRepository(storage.database)
        watch = RuleFileWatch(RuleGroups(repository, NO_LIMITS), "t", [f"{tmp_path}/*.yml"], stats)

        async def names() -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for rule in await repository.list_rules("t"):
                found.setdefault(Path(rule.namespace).name, []).append(rule.name)
            return found

        moments = iter(range(1, 100))

        def write(file: Path, text: str) -> None:
            """Each change has a time of its own, however fast they follow each other."""
            file.write_text(text, encoding="utf-8")
            moment = next(moments)
            os.utime(file, ns=(moment, moment))

        write(a, GROUP.format(name="one"))
        write(b, GROUP.format(name="two"))
        await watch.refresh()
        assert await names() == {"a.yml": ["one"], "b.yml": ["two"]}
        ids = [rule.id for rule in await repository.list_rules("t")]
        await watch.refresh()
        assert stats.rule_file_loads == 1
        write(a, GROUP.format(name="three"))
        write(b, "groups: [{name: g, rules: [{record: x, expr: sum(}]}]")
        await watch.refresh()
        assert await names() == {"a.yml": ["one"], "b.yml": ["two"]}
        assert [f"{b}: 1:" in fault for fault in watch.faults] == [True]
        write(b, GROUP.format(name="two"))
        await watch.refresh()
        assert (await names(), watch.faults) == ({"a.yml": ["three"], "b.yml": ["two"]}, ())
        assert (await repository.list_rules("t"))[1].id == ids[1]
        b.unlink()
        await watch.refresh()
        assert await names() == {"a.yml": ["three"]}
        assert (stats.rule_file_loads, stats.rule_file_failures) == (3, 1)


async def test_a_pattern_that_finds_no_file_is_told_once(
    plain_database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stats, missing, file = AlertingStats(), f"{tmp_path}/rulse/*.yml", tmp_path / "a.yml"
    file.write_text(GROUP.format(name="one"), encoding="utf-8")
    async with opened_storage(plain_database_url) as storage:
        repository = PostgresRuleRepository(storage.database)
        groups = RuleGroups(repository, NO_LIMITS)
        watch = RuleFileWatch(groups, "t", [f"{tmp_path}/*.yml", missing], stats)
        for _ in range(2):
            await watch.refresh()
        assert [vars(one)["pattern"] for one in caplog.records if one.levelname == "WARNING"] == [
            missing
        ]
        assert watch.warnings_of("t") == (f"no rule file is found by {missing}",)
        assert watch.warnings_of("other") == ()
        assert (watch.faults, stats.rule_file_loads) == ((), 1)
        file.with_name("rulse").mkdir()
        file.rename(tmp_path / "rulse" / "a.yml")
        await watch.refresh()
        assert watch.warnings_of("t") == (f"no rule file is found by {tmp_path}/*.yml",)


async def test_files_that_a_limit_refused_are_loaded_when_it_is_raised(
    plain_database_url: str, tmp_path: Path
) -> None:
    stats, now = AlertingStats(), [0.0]
    (tmp_path / "a.yml").write_text(GROUP.format(name="one"), encoding="utf-8")
    (tmp_path / "b.yml").write_text(GROUP.format(name="two"), encoding="utf-8")
    async with opened_storage(plain_database_url) as storage:
        repository = PostgresRuleRepository(storage.database)
        limits = {"t": TenantLimits(max_rules=1)}
        groups = RuleGroups(repository, Limits(SimpleNamespace(of=limits.get)))
        watch = RuleFileWatch(groups, "t", [f"{tmp_path}/*.yml"], stats, lambda: now[0])
        for now[0] in (0.0, 5.0, 61.0):
            await watch.refresh()
            assert "max_rules" in watch.faults[0]
        assert stats.rule_file_failures == 1
        limits["t"] = TenantLimits()
        await watch.refresh()
        assert watch.faults
        now[0] += 61.0
        await watch.refresh()
        assert watch.faults == ()
        assert [rule.name for rule in await repository.list_rules("t")] == ["one", "two"]


async def test_the_rules_of_a_folder_that_vanishes_go_on(
    plain_database_url: str, tmp_path: Path
) -> None:
    folder, now = tmp_path / "mounted", [0.0]
    folder.mkdir()
    (folder / "a.yml").write_text(GROUP.format(name="one"), encoding="utf-8")
    async with opened_storage(plain_database_url) as storage:
        repository = PostgresRuleRepository(storage.database)
        groups, patterns = RuleGroups(repository, NO_LIMITS), [f"{folder}/*.yml"]
        watch = RuleFileWatch(groups, "t", patterns, AlertingStats(), lambda: now[0])

        async def names() -> list[str]:
            now[0] += 61.0
            await watch.refresh()
            return [rule.name for rule in await repository.list_rules("t")]

        assert await names() == ["one"]
        folder.rename(tmp_path / "elsewhere")
        for _ in range(2):
            assert await names() == ["one"]
            assert f"{folder}: No such file or directory" in watch.faults[0]
        (tmp_path / "elsewhere").rename(folder)
        assert (await names(), watch.faults) == (["one"], ())
        (folder / "a.yml").rename(tmp_path / "a.yml")
        folder.rmdir()
        assert await names() == ["one"]
        folder.mkdir()
        assert (await names(), watch.faults) == ([], ())
        (folder / "a.yml").write_text(GROUP.format(name="two"), encoding="utf-8")
        assert await names() == ["two"]
        (folder / "a.yml").rename(tmp_path / "a.yml")
        folder.rmdir()
        watch = RuleFileWatch(groups, "t", [f"{tmp_path}/*.yml"], AlertingStats())
        assert (await names(), watch.faults) == (["two"], ())
        assert [rule.namespace for rule in await repository.list_rules("t")] == [
            f"{tmp_path}/a.yml"
        ]


async def test_a_renamed_file_is_loaded_although_the_limit_is_reached(
    plain_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yml").write_text(GROUP.format(name="one"), encoding="utf-8")
    async with opened_storage(plain_database_url) as storage:
        repository = PostgresRuleRepository(storage.database)
        limits = Limits(SimpleNamespace(of={"t": TenantLimits(max_rules=1)}.get))
        groups = RuleGroups(repository, limits)
        watch = RuleFileWatch(groups, "t", [f"{tmp_path}/*.yml"], AlertingStats())
        await watch.refresh()
        (tmp_path / "a.yml").rename(tmp_path / "b.yml")
        await watch.refresh()
        assert watch.faults == ()
        assert [rule.namespace for rule in await repository.list_rules("t")] == [
            f"{tmp_path}/b.yml"
        ]


ALERT = "groups: [{name: g, interval: 10s, rules: [{alert: A, expr: m > 5, for: 1m}]}]"


@pytest.mark.parametrize("other", ["", "groups: [{name: other, rules: [{record: r, expr: m}]}]"])
async def test_alerts_go_on_when_their_file_is_renamed(
    plain_database_url: str, tmp_path: Path, other: str
) -> None:
    """Their `for` does not begin anew, no process ever sees the store without the rules."""
    (tmp_path / "a.yml").write_text(ALERT, encoding="utf-8")
    async with running_alerting(plain_database_url) as one:
        repository = PostgresRuleRepository(one.storage.database)
        groups = RuleGroups(repository, NO_LIMITS)
        watch = RuleFileWatch(groups, TENANT, [f"{tmp_path}/*.yml"], AlertingStats())
        await watch.refresh()
        await one.write(Labels.of({"__name__": "m"}), (0, 9.0), (60_000, 9.0))
        await one.evaluate(10_000)
        (pending,) = await one.listed()
        (before,) = await repository.list_rules(TENANT)
        (tmp_path / "a.yml").rename(tmp_path / "b.yml")
        if other:
            (tmp_path / "a.yml").write_text(other, encoding="utf-8")
        await watch.refresh()
        (after,) = [rule for rule in await repository.list_rules(TENANT) if rule.name == "A"]
        assert (after.id, after.namespace) == (before.id, f"{tmp_path}/b.yml")
        await one.thresholds.verify()
        await one.evaluate(pending.active_at_ms - NOW_MS + 70_000)
        (firing,) = await one.listed()
        assert firing.state is AlertState.FIRING
        assert (firing.id, firing.active_at_ms) == (pending.id, pending.active_at_ms)


async def test_a_file_that_is_being_written_is_not_read_yet(
    plain_database_url: str, tmp_path: Path
) -> None:
    """It is empty first, which would end its rules."""
    file = tmp_path / "a.yml"
    file.write_text(ALERT, encoding="utf-8")
    async with opened_storage(plain_database_url) as storage:
        repository = PostgresRuleRepository(storage.database)
        stats, groups = AlertingStats(), RuleGroups(repository, NO_LIMITS)
        watch = RuleFileWatch(groups, TENANT, [f"{tmp_path}/*.yml"], stats)
        await watch.refresh()
        (before,) = await repository.list_rules(TENANT)
        file.write_text("", encoding="utf-8")
        looking = asyncio.create_task(watch.refresh())
        await asyncio.sleep(0.2)
        file.write_text(ALERT.replace("1m", "2m"), encoding="utf-8")
        await looking
        assert await repository.list_rules(TENANT) == [before]
        await watch.refresh()
        (after,) = await repository.list_rules(TENANT)
        assert (after.id, after.for_ms, stats.rule_file_loads) == (before.id, 120_000, 2)


async def test_a_group_that_is_evaluated_is_not_moved_meanwhile(
    plain_database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yml").write_text(ALERT, encoding="utf-8")
    async with running_alerting(plain_database_url) as one:
        repository = PostgresRuleRepository(one.storage.database)
        groups = RuleGroups(repository, NO_LIMITS)
        watch = RuleFileWatch(groups, TENANT, [f"{tmp_path}/*.yml"], AlertingStats())
        await watch.refresh()
        (tmp_path / "a.yml").rename(tmp_path / "b.yml")
        async with one.repository.evaluating(TENANT, f"{tmp_path}/a.yml", "g") as session:
            assert session is not None
            moving = asyncio.create_task(watch.refresh())
            await asyncio.sleep(0.3)
            assert not moving.done()
        await moving
        assert [rule.namespace for rule in await repository.list_rules(TENANT)] == [
            f"{tmp_path}/b.yml"
        ]


async def test_the_rules_of_a_link_whose_target_is_missing_go_on(
    plain_database_url: str, tmp_path: Path
) -> None:
    target, link = tmp_path / "target", tmp_path / "a.yml"
    target.write_text(GROUP.format(name="one"), encoding="utf-8")
    link.symlink_to(target)
    async with opened_storage(plain_database_url) as storage:
        repository = PostgresRuleRepository(storage.database)
        groups = RuleGroups(repository, NO_LIMITS)
        watch = RuleFileWatch(groups, "t", [f"{tmp_path}/*.yml"], AlertingStats())

        async def names() -> list[str]:
            await watch.refresh()
            return [rule.name for rule in await repository.list_rules("t")]

        assert await names() == ["one"]
        target.unlink()
        assert await names() == ["one"]
        assert f"{link}: No such file or directory" in watch.faults[0]
        target.write_text(GROUP.format(name="two"), encoding="utf-8")
        assert (await names(), watch.faults) == (["two"], ())
        target.unlink()
        link.unlink()
        assert (await names(), watch.faults) == ([], ())
