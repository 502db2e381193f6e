"""Tokens on a real database: what they open, and what happens when they cannot be checked."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator

import pytest

from promcompat.__main__ import main
from promcompat.access.access import Access
from promcompat.access.token_table import TokenUses
from promcompat.access.token_text import digest_of, new_token_text
from promcompat.core.access import NewToken, Role
from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import ConflictError, StorageUnavailableError
from tests.support.services.native_service import OPERATOR, AccessService, running_access_service

QUERY = "/api/v1/query?query=1"
TOKENS = "/api/v1/metrics/tokens"
WHO = "/api/v1/metrics/whoami"


@pytest.fixture
async def service(timescaledb_database_url: str) -> AsyncIterator[AccessService]:
    async with running_access_service(timescaledb_database_url) as running:
        yield running


async def test_tokens_are_accepted_in_the_forms_of_clients(service: AccessService) -> None:
    await service.make("grafana", Role.READ)
    text = service.texts["grafana"]
    basic = base64.b64encode(f"anybody:{text}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {text}"},
        {"Authorization": f"bearer  {text} "},
        {"Authorization": f"Token {text}"},
        {"Authorization": f"Basic {basic}"},
        {"DD-API-KEY": text},
    ):
        response = await service.client.get(QUERY, headers=headers)
        assert response.status == 200, headers


async def test_commands_have_the_token_in_the_url(
    service: AccessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    await service.make("ana", Role.READ)
    address = service.client.make_url("/").with_user("any").with_password(service.texts["ana"])
    assert await asyncio.to_thread(main, ["explain", "1", "--url", str(address)]) == 0


async def test_wrong_tokens_are_refused_with_one_answer(service: AccessService) -> None:
    await service.make("old", Role.READ, expires_at_ms=wall_clock_ms() + 50)
    await asyncio.sleep(0.05)
    valid = service.texts["old"]
    wrong = valid[:-1] + ("0" if valid[-1] != "0" else "1")
    answers = set()
    for credential in (
        f"Bearer {valid}",
        f"Bearer {wrong}",
        f"Bearer {new_token_text()}",
        "Bearer x.y.z",
        "Basic " + base64.b64encode(b"ana:secret").decode(),
    ):
        response = await service.client.get(QUERY, headers={"Authorization": credential})
        assert response.status == 401, credential
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="promcompat"'
        answers.add(await response.text())
    # Whoever tries learns nothing of the reason.
    assert answers == {"the credential is not valid\n"}
    for credential in ("", "AWS4-HMAC-SHA256 Credential=x", "Basic ===", "Basic YQ=="):
        response = await service.client.get(QUERY, headers={"Authorization": credential})
        assert response.status == 401, credential
    # The page is the same for everybody, and asks for a token itself.
    assert (await service.client.get("/")).status == 200


async def test_whoever_reads_is_told_who_they_are(timescaledb_database_url: str) -> None:
    async with running_access_service(timescaledb_database_url, tenancy="header") as service:
        await service.make("ana", Role.EDIT, tenants=("acme", "beta"))
        response = await service.send("GET", WHO, "ana", tenant="beta")
        assert (response.status, await response.json()) == (
            200,
            {
                "name": "ana",
                "roles": ["edit", "read"],
                "tenants": ["acme", "beta"],
                "tenant": "beta",
            },
        )
        assert (await service.send("GET", WHO, "ana", tenant="other")).status == 403
        await service.make("root", Role.ADMIN, tenants=None)
        about_root = await (await service.send("GET", WHO, "root", tenant="acme")).json()
        assert about_root["tenants"] is None
        assert set(about_root["roles"]) == {role.value for role in Role}


async def test_a_token_is_made_and_revoked_over_the_api(service: AccessService) -> None:
    await service.make("root", Role.ADMIN, tenants=None)
    body = {"name": "prometheus-1", "roles": ["write"], "tenants": ["default"]}
    made = await service.send("POST", TOKENS, "root", json=body)
    assert made.status == 201
    reply = await made.json()
    service.texts["prometheus-1"] = reply["token"]
    assert reply["about"]["created_by"] == "root"
    assert (await service.send("POST", TOKENS, "root", json=body)).status == 409
    assert (await service.send("POST", "/api/v1/write", "prometheus-1", data=b"")).status != 401
    listed = await (await service.send("GET", TOKENS, "root")).json()
    assert [token["name"] for token in listed["tokens"]] == ["root", "prometheus-1"]
    assert reply["token"] not in str(listed)
    path = f"{TOKENS}/{reply['about']['id']}"
    assert (await service.send("DELETE", path, "root")).status == 200
    assert (await service.send("DELETE", path, "root")).status == 404
    assert (await service.send("POST", "/api/v1/write", "prometheus-1", data=b"")).status == 401
    # The name is free again.
    assert (await service.send("POST", TOKENS, "root", json=body)).status == 201


async def test_an_administrator_of_some_tenants_sees_no_others(
    timescaledb_database_url: str,
) -> None:
    async with running_access_service(timescaledb_database_url, tenancy="header") as service:
        await service.make("a-admin", Role.ADMIN, tenants=["a"])
        other = await service.make("b-reader", Role.READ, tenants=["b"])
        both = await service.make("both", Role.READ, tenants=["a", "b"])
        for tenants in (["b"], ["a", "b"], None):
            body = {"name": "more", "roles": ["read"], "tenants": tenants}
            assert (await service.send("POST", TOKENS, "a-admin", json=body)).status == 403
        listed = await (await service.send("GET", TOKENS, "a-admin")).json()
        assert [token["name"] for token in listed["tokens"]] == ["a-admin"]
        for token in (other, both):
            found = await service.send("DELETE", f"{TOKENS}/{token.id}", "a-admin")
            assert found.status == 404


async def test_the_tenant_of_a_request(timescaledb_database_url: str) -> None:
    async with running_access_service(timescaledb_database_url, tenancy="header") as service:
        await service.make("one", Role.READ, tenants=["a"])
        await service.make("two", Role.READ, tenants=["a", "b"])
        await service.make("all", Role.READ, tenants=None)
        for token, tenant, status in (
            ("one", None, 200),
            ("one", "a", 200),
            ("one", "b", 403),
            ("two", None, 401),
            ("two", "b", 200),
            ("two", "c", 403),
            ("all", None, 401),
            ("all", "c", 200),
            (None, "a", 401),
        ):
            response = await service.send("GET", QUERY, token, tenant=tenant)
            assert response.status == status, (token, tenant)
        # Mimir's tools send the tenant as the user name.
        pair = base64.b64encode(f"b:{service.texts['two']}".encode()).decode()
        response = await service.client.get(QUERY, headers={"Authorization": f"Basic {pair}"})
        assert response.status == 200
        # What is about all tenants needs all of them.
        assert (await service.send("GET", "/metrics", "two", tenant="a")).status == 403
        assert (await service.send("GET", "/metrics", "all")).status == 200


async def test_a_token_of_another_replica_works_at_once(timescaledb_database_url: str) -> None:
    async with (
        running_access_service(timescaledb_database_url) as here,
        running_access_service(timescaledb_database_url) as there,
    ):
        token = await here.make("new", Role.READ)
        there.texts |= here.texts
        assert (await there.send("GET", QUERY, "new")).status == 200
        await here.services.access.tokens.revoke(token.id, OPERATOR)
        await there.services.access.table.refresh()
        assert (await there.send("GET", QUERY, "new")).status == 401


async def test_what_cannot_be_checked_is_answered_503(
    service: AccessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.make("known", Role.READ)
    assert (await service.send("GET", "/api/v1/status/buildinfo", "known")).status == 200
    table = service.services.access.table

    async def fail() -> int:
        raise StorageUnavailableError("the database is away")

    monkeypatch.setattr(table._repository, "version", fail)
    service.texts["unknown"] = new_token_text()
    for path in ("/api/v1/status/buildinfo", "/api/v1/metrics/names"):
        response = await service.send("GET", path, "unknown")
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
    # A token that was known a moment ago still works, but not for long.
    assert (await service.send("GET", "/api/v1/status/buildinfo", "known")).status == 200
    monkeypatch.setattr(table, "_clock", lambda: time.monotonic() + 5.1)
    assert (await service.send("GET", "/api/v1/status/buildinfo", "known")).status == 503


async def test_a_question_whose_caller_went_away_is_asked_again(
    service: AccessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    access: Access = service.services.access
    repository = access.table._repository
    asked, answer = asyncio.Event(), repository.version

    async def hang() -> int:
        asked.set()
        monkeypatch.setattr(repository, "version", answer)
        await asyncio.Event().wait()
        raise AssertionError

    await access.table.refresh()
    monkeypatch.setattr(repository, "version", hang)
    first = asyncio.create_task(access.table.refresh())
    await asked.wait()
    late = NewToken(
        name="late",
        digest=digest_of(new_token_text()),
        roles=frozenset((Role.READ,)),
        tenants=None,
        expires_at_ms=None,
        created_by="operator",
    )
    created = await repository.create(late, max_tokens=10)
    second = asyncio.create_task(access.table.find(late.digest))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == created


async def test_the_last_use_is_written_once_a_minute(service: AccessService) -> None:
    token = await service.make("used", Role.READ)
    assert (await service.send("GET", QUERY, "used")).status == 200
    access = service.services.access
    await access.uses.write()
    (listed,) = await access.tokens.list(OPERATOR)
    assert listed.last_used_at_ms is not None
    # Another process that saw the token a moment later writes nothing.
    others = TokenUses(access.table._repository)
    others.note(token.id, listed.last_used_at_ms + 59_000)
    await others.write()
    assert await access.tokens.list(OPERATOR) == [listed]
    others.note(token.id, listed.last_used_at_ms + 61_000)
    await others.write()
    (later,) = await access.tokens.list(OPERATOR)
    assert later.last_used_at_ms == listed.last_used_at_ms + 61_000


async def test_bounds_of_tokens(timescaledb_database_url: str) -> None:
    async with running_access_service(timescaledb_database_url, max_tokens=1) as service:
        await service.make("first", Role.ADMIN)
        with pytest.raises(ConflictError, match="PROMCOMPAT_MAX_TOKENS"):
            await service.make("second", Role.READ)
        body = {"name": "second", "roles": ["read"], "tenants": None}
        assert (await service.send("POST", TOKENS, "first", json=body)).status == 403


async def test_expired_tokens_make_room_for_new_ones(timescaledb_database_url: str) -> None:
    async with running_access_service(timescaledb_database_url, max_tokens=2) as service:
        tokens = service.services.access.tokens
        now_ms = wall_clock_ms()
        await service.make("valid", Role.READ)
        await service.make("short", Role.READ, expires_at_ms=now_ms + 100)
        with pytest.raises(ConflictError, match="PROMCOMPAT_MAX_TOKENS"):
            await service.make("third", Role.READ)
        await asyncio.sleep(0.1)
        # As long as there is room they stay in the list, for people to see.
        assert [one.name for one in await tokens.list(OPERATOR)] == ["valid", "short"]
        await service.make("third", Role.READ)
        assert [one.name for one in await tokens.list(OPERATOR)] == ["valid", "third"]
        assert (await service.send("GET", QUERY, "valid")).status == 200
        with pytest.raises(ConflictError, match="PROMCOMPAT_MAX_TOKENS"):
            await service.make("fourth", Role.READ)


async def test_who_did_it_is_the_name_of_the_token(service: AccessService) -> None:
    await service.make("ana", Role.EDIT)
    await service.make("ops", Role.OPERATE)
    silence = {"labels": {"alertname": "x"}, "reason": "quiet", "actor": "somebody else"}
    made = await service.send("POST", "/api/v1/metrics/silences", "ana", json=silence)
    assert (made.status, (await made.json())["actor"]) == (201, "ana")
    del silence["actor"]
    assert (
        await service.send("POST", "/api/v1/metrics/silences", "ana", json=silence)
    ).status == 201
    correction = {"name": "x", "requested_by": "somebody else"}
    path = "/api/v1/metrics/corrections"
    assert (await service.send("POST", f"{path}/delete", "ops", json=correction)).status == 200
    listed = await (await service.send("GET", path, "ops")).json()
    assert [one["requested_by"] for one in listed["corrections"]] == ["ops"]
