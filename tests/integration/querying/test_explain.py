"""`/api/v1/explain` on real databases of both editions."""

import asyncio
import json
from typing import Any

import pytest

from promcompat.__main__ import main
from promcompat.core.explanations import ExplanationDepth
from promcompat.core.model import SelectHints, SeriesSelection
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.storage_options import StoreKind
from tests.support.factories import make_batch, make_labels, select_name
from tests.support.services.http_service import Service, running_service
from tests.support.storage.repositories import drained_rows, opened_storage

pytestmark = pytest.mark.integration

MIDNIGHT = 19_700 * 86_400
N_SERIES = 10
SAMPLES = [((MIDNIGHT + t) * 1000, float(t)) for t in range(0, 4 * 3600, 5)]
RANGE = {"start": str(MIDNIGHT + 1800), "end": str(MIDNIGHT + 4 * 3600), "step": "1800"}


async def explain(service: Service, tenant: str = "one", **parameters: str) -> Any:
    response = await service.get(
        "/api/v1/explain", params=parameters, headers={"X-Scope-OrgID": tenant}
    )
    answer = await response.json()
    assert response.status == 200, answer
    return answer["data"]


def applied(leaf: Any) -> list[str]:
    """The rules of pushdown that apply; the first two say what head and rows contribute."""
    return [outcome["rule"] for outcome in leaf["rules"][2:] if outcome["applies"]]


@pytest.mark.rows
async def test_reads_are_explained(database_url: str) -> None:
    async with (
        drained_rows(database_url, pushdown=PushdownMode.AUTO) as storage,
        running_service(storage.store, storage.catalogue, tenancy="header") as service,
    ):
        dense = {make_labels("x", n=str(n)): SAMPLES for n in range(N_SERIES)}
        await storage.store.write_batch("one", make_batch(dense))
        await check_pushed_read(service)
        await check_whole_read(service)
        await check_planned_only(service)
        await check_plan_of_the_database(service)
        await check_other_tenants(service)


@pytest.mark.rows
async def test_reads_of_partial_results_are_explained(database_url: str) -> None:
    async with (
        drained_rows(database_url, pushdown=PushdownMode.AUTO) as storage,
        running_service(storage.store, storage.catalogue) as service,
    ):
        dense = {make_labels("x", n=str(n)): SAMPLES for n in range(N_SERIES)}
        await storage.store.write_batch("default", make_batch(dense))
        query = "max_over_time(x[1h])"
        (leaf,) = (await explain(service, query=query, **RANGE, analyze="true"))["leaves"]
        assert applied(leaf) == ["partials_of_window"]
        assert 0 < leaf["actual_rows"] <= leaf["estimated_rows"] < len(SAMPLES) * N_SERIES / 10
        assert "max(p.value)" in leaf["sql"]
        assert "Aggregate" in leaf["database_plan"]


async def check_pushed_read(service: Service) -> None:
    data = await explain(service, query="sum(x)", **RANGE, analyze="true")
    (leaf,) = data["leaves"]
    assert [outcome["rule"] for outcome in leaf["rules"]] == [
        "head",
        "rows",
        "rollups",
        "last_sample",
        "last_sample_per_step",
        "newest_of_window",
        "partials_of_window",
        "window_gaps",
    ]
    assert applied(leaf) == ["last_sample_per_step"]
    assert (data["steps"], leaf["series"]) == (8, N_SERIES)
    assert leaf["actual_rows"] == leaf["estimated_rows"] == 8 * N_SERIES
    assert leaf["seconds"] > 0
    assert "LATERAL" in leaf["sql"]
    assert leaf["parameters"][0].endswith(f", … {N_SERIES} in all]")
    assert leaf["parameters"][0].count(",") == 5
    assert "actual" in leaf["database_plan"]
    assert "Buffers:" in leaf["database_plan"]
    assert data["stages"]["innerEvalTime"] > 0


async def check_whole_read(service: Service) -> None:
    (leaf,) = (await explain(service, query="rate(x[1h])", **RANGE, buffers="true"))["leaves"]
    assert applied(leaf) == []
    assert "rows in about" in json.dumps(leaf["rules"])
    assert leaf["actual_rows"] == len(SAMPLES) * N_SERIES
    # By the newest hour, over a range that begins before the first sample.
    assert leaf["actual_rows"] <= leaf["estimated_rows"] <= 1.2 * leaf["actual_rows"]
    assert f"… {N_SERIES} in all}}'" in leaf["database_plan"]


async def check_planned_only(service: Service) -> None:
    data = await explain(service, query="x", time=RANGE["end"])
    (leaf,) = data["leaves"]
    assert applied(leaf) == ["last_sample"]
    assert leaf["estimated_rows"] == N_SERIES
    assert leaf["sql"]
    assert data["stages"] is leaf["actual_rows"] is leaf["database_plan"] is None


async def check_plan_of_the_database(service: Service) -> None:
    (leaf,) = (await explain(service, query="x", **RANGE, database_plan="true"))["leaves"]
    assert "cost=" in leaf["database_plan"]
    assert "actual" not in leaf["database_plan"]
    assert leaf["actual_rows"] is leaf["seconds"] is None


async def check_other_tenants(service: Service) -> None:
    for tenant, query in (("two", "x"), ("one", "nothing")):
        data = await explain(service, tenant, query=query, **RANGE, analyze="true")
        (leaf,) = data["leaves"]
        assert (leaf["series"], leaf["estimated_rows"], leaf["actual_rows"]) == (0, 0, 0)
        assert leaf["sql"] == ""
        assert {outcome["reason"] for outcome in leaf["rules"]} == {"no series matches"}


async def test_the_command_explains_on_a_database(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a service the answer is the one of a service."""
    command = ["explain", "sum(x)", "--database-url", database_url, "--json", "--tenant", "one"]
    times = [text for name, value in RANGE.items() for text in (f"--{name}", value)]
    async with (
        opened_storage(database_url, pushdown=PushdownMode.AUTO) as storage,
        running_service(storage.store, storage.catalogue, tenancy="header") as service,
    ):
        dense = {make_labels("x", n=str(n)): SAMPLES for n in range(N_SERIES)}
        await storage.store.write_batch("one", make_batch(dense))
        expected = await explain(service, query="sum(x)", **RANGE, database_plan="true")
    assert await asyncio.to_thread(main, [*command, *times, "--database-plan"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert await asyncio.to_thread(main, ["explain", "x(", "--database-url", database_url]) == 1
    assert "parse error" in capsys.readouterr().err


async def test_faults_are_those_of_the_query(database_url: str) -> None:
    async with (
        opened_storage(database_url, max_samples=100) as storage,
        running_service(storage.store, storage.catalogue) as service,
    ):
        await storage.store.write_batch("default", make_batch({make_labels("x"): SAMPLES}))
        for parameters in ({"query": "x("}, {"query": "x[4h]", "time": RANGE["end"]}):
            expected = await service.ask("query", **parameters)
            assert expected[0] in (400, 422)
            assert await service.ask("explain", **parameters, analyze="true") == expected


@pytest.mark.rows
async def test_the_choice_is_that_of_the_query(database_url: str) -> None:
    """A read too small to estimate is read whole, whatever an estimate would say."""
    async with (
        drained_rows(database_url, pushdown=PushdownMode.AUTO) as storage,
        running_service(storage.store, storage.catalogue) as service,
    ):
        await storage.store.write_batch("default", make_batch({make_labels("x"): SAMPLES}))
        before = storage.stats.samples_selected
        _, answer = await service.ask("explain", query="x", **RANGE, analyze="true")
        fetched = storage.stats.samples_selected - before
        (leaf,) = answer["data"]["leaves"]
        assert leaf["actual_rows"] == fetched > leaf["estimated_rows"] / 2
        assert applied(leaf) == []


async def test_what_head_and_blocks_contribute_is_explained(database_url: str) -> None:
    async with opened_storage(database_url, store=StoreKind.BLOCKS) as storage:
        series = {make_labels("up", job=f"j{job}"): [(0, 1.0), (1, 2.0)] for job in range(3)}
        await storage.store.write_batch("default", make_batch(series))
        depth = ExplanationDepth(analyze=True)
        for is_drained in (False, True):
            (leaf,) = await storage.store.explain_select(
                "default", [select_name("up", -1, 1)], depth
            )
            head, blocks, *pushdown = leaf.rules
            if is_drained:
                assert (head.applies, head.reason) == (False, "0 samples of 0 series")
                assert blocks.reason == "about 6 samples come from runs and blocks"
            else:
                assert (head.applies, head.reason) == (True, "6 samples of 3 series")
                assert not blocks.applies
            assert leaf.measured is not None
            assert leaf.measured.rows == 6
            assert not any(outcome.applies for outcome in pushdown)
            await storage.drains.drainer.drain_all()


@pytest.mark.rows
async def test_rows_are_read_whole_while_the_head_has_samples_of_the_time_range(
    database_url: str,
) -> None:
    """The answer is that of both, and the rules say why none of them applies."""
    async with opened_storage(database_url, pushdown=PushdownMode.FORCED) as storage:
        labels = make_labels("up")
        await storage.store.write_batch("default", make_batch({labels: [(0, 1.0), (9, 2.0)]}))
        asked = SeriesSelection(
            matchers=select_name("up", 0, 0).matchers,
            start_ms=-1,
            end_ms=9,
            hints=SelectHints(reach_ms=10),
        )
        for is_drained, rules in ((False, []), (True, ["last_sample"])):
            (leaf,) = await storage.store.explain_select("default", [asked], ExplanationDepth())
            assert [one.rule for one in leaf.rules[2:] if one.applies] == rules
            assert bool(leaf.sql) == is_drained
            await storage.drains.drainer.drain_all()
        await storage.store.write_batch("default", make_batch({labels: [(5, 3.0)]}))
        (leaf,) = await storage.store.explain_select("default", [asked], ExplanationDepth())
        head, rows, rollups, *pushdown = leaf.rules
        assert not rollups.applies
        assert head.applies
        assert rows.applies
        assert not any(rule.applies for rule in pushdown)
        assert "samples of the time range are in the head" in pushdown[0].reason
        (block,) = await storage.store.select("default", [asked])
        assert block.timestamps.tolist() == [0, 5, 9]


@pytest.mark.rows
async def test_rows_before_the_first_sample_of_the_head_are_thinned(database_url: str) -> None:
    """Of nine steps the newest row, then every row of the tenth, and the sample of the head."""
    async with opened_storage(database_url, pushdown=PushdownMode.FORCED) as storage:
        labels = make_labels("up")
        rows = [(second * 1000, float(second)) for second in range(100)]
        await storage.store.write_batch("default", make_batch({labels: rows}))
        await storage.drains.drainer.drain_all()
        await storage.store.write_batch("default", make_batch({labels: [(95_500, 7.0)]}))
        asked = SeriesSelection(
            matchers=select_name("up", 0, 0).matchers,
            start_ms=-1,
            end_ms=99_999,
            hints=SelectHints(reach_ms=10_000, step_ms=10_000),
        )
        depth = ExplanationDepth(analyze=True)
        (leaf,) = await storage.store.explain_select("default", [asked], depth)
        (rule,) = [one for one in leaf.rules[2:] if one.applies]
        assert rule.rule == "last_sample_per_step"
        assert "from the first sample of the head on is read whole" in rule.reason
        assert leaf.measured is not None
        assert leaf.measured.rows == 20
        (block,) = await storage.store.select("default", [asked])
        thinned = [*range(9_000, 90_000, 10_000), *range(90_000, 96_000, 1_000), 95_500]
        assert block.timestamps.tolist() == [*thinned, *range(96_000, 100_000, 1_000)]
