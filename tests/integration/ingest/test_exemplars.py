"""Exemplars in the database: their order, their limits, and agreement with a real Prometheus."""

import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conformance.processes import running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from promcompat.core.exemplars import (
    Exemplar,
    ExemplarLimits,
    ExemplarRepository,
    ExemplarsOfSeries,
    SeriesExemplar,
)
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.maintenance import StepNotes
from promcompat.core.model import Labels
from promcompat.metrics.exemplar_service import ExemplarService, ExemplarStep
from sql.database.database import Database, DatabaseOptions
from sql.repositories.exemplar_repository import PostgresExemplarRepository
from tests.support.factories import encode_field, encode_varint, make_labels, make_matcher
from tests.support.fakes import InMemoryExemplars
from tests.support.formats.remote_write import (
    V2_HEADERS,
    Pairs,
    RequestV2,
    bits_of,
    encode_request,
    encode_series,
)
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

A, B = make_labels("m", job="a"), make_labels("m", job="b")
EVERY = [(make_matcher("__name__", "!=", ""),)]
ALL_TIME = (-(1 << 62), 1 << 62)


def of(series: Labels, time_ms: int, value: float = 1.0, **labels: str) -> SeriesExemplar:
    return SeriesExemplar(series, Exemplar(Labels.of(labels), value, time_ms))


@pytest.fixture
async def repository(database_url: str) -> AsyncIterator[PostgresExemplarRepository]:
    database = await Database.open(database_url)
    try:
        yield PostgresExemplarRepository(database)
    finally:
        await database.close()


async def times(repository: ExemplarRepository, tenant: str = "t") -> dict[str, list[int]]:
    """The times of each series, by the label job."""
    found = await repository.select(tenant, EVERY, *ALL_TIME)
    return {item.series.get("job"): [one.timestamp_ms for one in item.exemplars] for item in found}


async def _check_contract(repository: ExemplarRepository) -> None:
    first = [of(A, 10, trace="x"), of(A, 10, trace="x"), of(A, 20), of(B, 5), of(A, 15)]
    appended = await repository.append("t", first)
    assert (appended.n_stored, appended.out_of_order, appended.invalid) == (4, (A,), ())
    assert (await repository.append("t", [of(A, 20), of(A, 20, 0.5)])).out_of_order == (A,)
    assert (await repository.append("t", [of(A, 30, x="y" * 128)])).invalid == (A,)
    assert (await repository.append("other", [of(A, 7)])).n_stored == 1
    assert await times(repository) == {"a": [10, 20], "b": [5]}
    assert await times(repository, "other") == {"a": [7]}
    assert await times(repository, "nobody") == {}
    chosen = [(make_matcher("__name__", "=", "m"), make_matcher("job", "=~", "a|c"))]
    assert await repository.select("t", chosen, 10, 19) == [
        ExemplarsOfSeries(A, (Exemplar(Labels.of({"trace": "x"}), 1.0, 10),))
    ]


async def test_the_order_of_exemplars(repository: PostgresExemplarRepository) -> None:
    await _check_contract(repository)


async def test_an_exemplar_with_nan_that_is_sent_again_is_the_same_one(
    repository: PostgresExemplarRepository,
) -> None:
    for _ in range(3):
        appended = await repository.append("t", [of(A, 10, float("nan"), trace="x")] * 2)
        assert appended.n_stored == 2
    await repository.append("t", [of(A, 10, float("nan"), trace="y"), of(A, 10, 1.0, trace="y")])
    assert await times(repository) == {"a": [10, 10, 10]}


async def test_the_fake_keeps_the_same_order() -> None:
    await _check_contract(InMemoryExemplars())


async def test_what_exceeds_a_limit_is_deleted(repository: PostgresExemplarRepository) -> None:
    await repository.append("t", [of(A, time_ms) for time_ms in range(1, 9)])
    await repository.append("t", [of(B, time_ms) for time_ms in range(1, 4)])
    await repository.append("u", [of(B, 2)])
    limits = ExemplarLimits(max_per_series=5, max_per_tenant=7, retention_ms=98)
    assert await repository.trim(limits, 100, "t") == 5
    assert await times(repository) == {"a": [5, 6, 7, 8], "b": [2, 3]}
    stricter = ExemplarLimits(max_per_series=1, max_per_tenant=9, retention_ms=97)
    step = ExemplarStep(repository, stricter, lambda: 100)
    assert [await step.plan(), await step.run(StepNotes(step.name)), await step.plan()] == [5, 5, 0]
    assert await times(repository) == {"a": [8], "b": [3]}
    assert await times(repository, "u") == {}
    assert (await repository.append("t", [of(A, 7)])).out_of_order == (A,)


async def test_exemplars_of_each_tenant_are_deleted_in_a_transaction(database_url: str) -> None:
    limits = ExemplarLimits(max_per_series=1, max_per_tenant=1, retention_ms=1_000)
    database = await Database.open(database_url, DatabaseOptions(write_timeout_seconds=2.0))
    try:
        repository = PostgresExemplarRepository(database)
        for tenant in "tuv":
            await repository.append(tenant, [of(A, time_ms) for time_ms in range(101)])
        async with connected(database_url) as owner:
            await owner.execute(
                "CREATE FUNCTION delay() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END';"
                "CREATE TRIGGER delay BEFORE DELETE ON exemplar FOR EACH ROW"
                " EXECUTE FUNCTION delay()"
            )
        assert await repository.count_excess(limits, 100) == 300
        assert await repository.trim(limits, 100) == 300
        assert await times(repository, "v") == {"a": [100]}
    finally:
        await database.close()


async def test_a_tenant_is_bounded_between_two_runs_of_maintenance(
    repository: PostgresExemplarRepository,
) -> None:
    limits = ExemplarLimits(max_per_series=100, max_per_tenant=20, retention_ms=1_000)
    of_tenant = Limits(SameLimits(TenantLimits(max_global_exemplars_per_user=20)))
    service = ExemplarService(repository, limits, of_tenant, lambda: 100, lambda _tenant: 1_000)
    for time_ms in range(60):
        await service.write("t", [of(A, time_ms)])
        assert len((await times(repository))["a"]) <= 25
    await service.write("t", [of(A, 1_001)])
    assert max((await times(repository))["a"]) == 59


async def test_texts_that_the_database_cannot_hold_are_refused(
    repository: PostgresExemplarRepository,
) -> None:
    appended = await repository.append("t", [of(A, 1, x="\0"), of(make_labels("m", x="\0"), 1)])
    assert (appended.n_stored, len(appended.invalid)) == (0, 2)


# -- the same exemplars in a real Prometheus ------------------------------------------------------


def encode_exemplar(labels: Pairs, value: float, time_ms: int) -> bytes:
    """An exemplar field of version 1.0."""
    pairs = b"".join(
        encode_field(1, encode_field(1, name.encode()) + encode_field(2, text.encode()))
        for name, text in labels
    )
    message = pairs + b"\x11" + bits_of(value).to_bytes(8, "little")
    return encode_field(3, message + b"\x18" + encode_varint(time_ms))


def random_exemplars(now_ms: int) -> list[tuple[Pairs, Pairs, float, int]]:
    """Series, labels, value and time: often of one time, of one value, and out of order."""
    source, found = random.Random(26), []
    for number in range(300):
        series = [("__name__", "m"), ("job", source.choice("abc"))]
        labels = [("trace_id", source.choice("xyz") * source.choice((1, 5, 100, 130)))]
        value = source.choice((0.0, 1.0, 1.5, 2e-7, 1e21))
        time_ms = now_ms - 100_000 + 10 * number // 6 + source.choice((0, 0, 0, -3, 2))
        found.append((series, labels if source.random() > 0.1 else [], value, time_ms))
    return found


async def answers(api: PrometheusApi, now_ms: int) -> list[Any]:
    """The answers to some questions."""
    questions = (
        ("m", now_ms - 200_000, now_ms),
        ('sum(rate(m{job=~"a|b"}[5m])) / other', now_ms - 99_900, now_ms - 99_700),
        ('m{job="a"} or m{job="c"} offset 1h', now_ms - 99_950, now_ms),
        ("nothing", 0, now_ms),
    )
    found = []
    for query, start_ms, end_ms in questions:
        parameters = [
            ("query", query),
            ("start", f"{start_ms / 1000}"),
            ("end", f"{end_ms / 1000}"),
        ]
        url = f"{api.url}/api/v1/query_exemplars"
        async with api.session.get(url, params=parameters) as answer:
            found.append((answer.status, await answer.text()))
    return found


@pytest.mark.e2e
async def test_answers_are_those_of_prometheus(
    plain_database_url: str, prometheus_binary: Path, tmp_path: Path
) -> None:
    """Sent by version 1.0 to both, and by version 2.0 to ours again, which changes nothing."""
    now_ms = time.time_ns() // 1_000_000
    exemplars = random_exemplars(now_ms)
    again = RequestV2()
    with (
        running_promcompat(plain_database_url, tmp_path / "promcompat.log") as service,
        running_prometheus(
            prometheus_binary, tmp_path / "p", features=["exemplar-storage"]
        ) as prometheus,
    ):
        async with open_session() as session:
            apis = [PrometheusApi(session, prog.url) for prog in (service, prometheus)]
            for api in apis:
                for first in range(0, len(exemplars), 50):
                    series = [
                        encode_series(pairs, (now_ms, 1.0)) + encode_exemplar(labels, value, moment)
                        for pairs, labels, value, moment in exemplars[first : first + 50]
                    ]
                    await api.write_body(encode_request(series))
            ours, theirs = [await answers(api, now_ms) for api in apis]
            assert ours == theirs
            assert "trace_id" in theirs[0][1]
            for pairs, labels, value, moment in exemplars:
                again.add(pairs, exemplars=[(labels, value, moment)])
            async with session.post(
                f"{service.url}/api/v1/write", data=again.body(), headers=V2_HEADERS
            ) as answer:
                assert answer.status == 400
                assert "out of order exemplar for series {" in await answer.text()
            assert await answers(apis[0], now_ms) == theirs
