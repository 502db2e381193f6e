"""No request gets a 5xx, holds others up, takes much memory or learns what the database said."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.attacks import ATTACKS, NOW_MS, Attack
from tests.hostile.campaign import carry_out, send_all
from tests.hostile.generator import RequestMaker, targets
from tests.hostile.service import (
    MAX_RESIDENT_BYTES,
    AttackedService,
    Request,
    attacked_service,
    max_health_seconds,
)
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.integration

SEED = 20_261_128
N_EACH = 3


@pytest.fixture(scope="module")
def service(
    timescaledb_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AttackedService]:
    url = timescaledb_server.create_database()
    with attacked_service(url, tmp_path_factory.mktemp("hostile")) as service:
        yield service


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_harms_nobody(service: AttackedService, attack: Attack) -> None:
    assert await carry_out(service, attack) == []
    assert service.peak_resident_bytes < MAX_RESIDENT_BYTES


async def test_what_was_good_of_the_attacks_is_stored(service: AttackedService) -> None:
    # Asked before the odd requests: some of them are right, and delete series or set a retention.
    target = f"/api/v1/query?query=count(good)&time={NOW_MS // 1000}"
    answer = await service.send(Request.of("GET", target))
    assert b'"value":[1700000000,"1"]' in answer.body


async def take_odd_requests(service: AttackedService) -> None:
    assert len(targets()) > 100
    started = time.monotonic()
    maker = RequestMaker(SEED, service.credentials)
    assert await send_all(service, maker.requests(N_EACH)) == []
    assert service.worst_health_seconds(started) < 5 * max_health_seconds()
    assert service.peak_resident_bytes < MAX_RESIDENT_BYTES


async def test_every_route_takes_odd_requests(service: AttackedService) -> None:
    await take_odd_requests(service)


async def test_every_route_takes_odd_requests_with_and_without_tokens(
    timescaledb_server: DatabaseServer, tmp_path: Path
) -> None:
    url = timescaledb_server.create_database()
    with attacked_service(url, tmp_path, has_access=True) as service:
        await take_odd_requests(service)
    assert {200, 401, 403} <= set(service.answers)


async def test_stalled_clients_hold_no_memory_and_nobody_up(service: AttackedService) -> None:
    host, port = service.program.url.removeprefix("http://").split(":")
    before = service.resident_bytes
    started = time.monotonic()
    head = b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: hostile\r\n"
    writers = []
    for index in range(600):
        _, writer = await asyncio.open_connection(host, int(port))
        sent = head if index % 2 else head + b"Content-Length: 30000000\r\n\r\n" + bytes(500_000)
        writer.write(sent)
        writers.append(writer)
    await asyncio.sleep(3)
    answer = await service.send(Request.of("GET", "/api/v1/labels"))
    assert answer.status == 200
    assert service.worst_health_seconds(started) < 5 * max_health_seconds()
    assert service.resident_bytes - before < 400 << 20
    for writer in writers:
        writer.transport.abort()
