"""The audit trail: every change has a record of who asked for it, and how it ended."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from promcompat.__main__ import main
from promcompat.core import audit
from promcompat.core.access import Role
from promcompat.core.audit import AuditEntry, AuditFilter
from promcompat.core.errors import StorageUnavailableError
from sql.database.database import Database, DatabaseOptions
from sql.repositories.audit_repository import PostgresAudit
from tests.support.services.native_service import AccessService, running_access_service

pytestmark = pytest.mark.integration

NATIVE = "/api/v1/metrics"


@pytest.fixture
async def service(timescaledb_database_url: str) -> AsyncIterator[AccessService]:
    async with running_access_service(
        timescaledb_database_url, tenancy="header", admin_api=True
    ) as running:
        for tenant in ("red", "blue"):
            await running.make(f"{tenant}-admin", Role.ADMIN, tenants=[tenant])
        await running.make("red-editor", Role.EDIT, tenants=["red"])
        await running.make("root", Role.ADMIN, tenants=None)
        yield running


async def records(service: AccessService, token: str, **params: str) -> list[dict[str, Any]]:
    answer = await service.send("GET", f"{NATIVE}/audit", token, params=params)
    assert answer.status == 200, await answer.text()
    found: list[dict[str, Any]] = (await answer.json())["records"]
    return found


def told(found: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(one["actor"], one["action"], one["status"]) for one in found]


async def test_every_kind_of_change_is_recorded_with_who_asked(service: AccessService) -> None:
    silence = {"labels": {"job": "x"}, "reason": "quiet", "actor": "somebody else"}
    rule_file = "name: g\nrules:\n  - {alert: A, expr: up}\n"
    limits = {"overrides": {"max_rules": 7}}
    changes: list[tuple[str, str, str, dict[str, Any], int]] = [
        ("red-editor", "POST", f"{NATIVE}/silences", {"json": silence}, 201),
        ("red-editor", "DELETE", f"{NATIVE}/silences/1", {}, 200),
        ("red-editor", "POST", "/config/v1/rules/space", {"data": rule_file}, 202),
        ("red-editor", "DELETE", "/config/v1/rules/other", {}, 404),
        ("red-editor", "POST", f"{NATIVE}/rules", {"json": {"name": "B"}}, 400),
        ("root", "PUT", "/api/v1/limits", {"json": limits, "tenant": "red"}, 200),
        ("red-admin", "PUT", f"{NATIVE}/retention", {"json": {"retention_days": 9}}, 200),
        ("red-admin", "POST", f"{NATIVE}/tokens", {"json": {"name": "t"}}, 400),
        ("red-admin", "POST", "/api/v1/admin/tsdb/delete_series", {"data": {"match[]": "up"}}, 204),
    ]
    for token, method, path, options, status in changes:
        answer = await service.send(method, path, token, **options)
        assert answer.status == status, (path, await answer.text())
    # Neither reading nor writing samples, nor what was not allowed, is a change.
    assert (await service.send("GET", f"{NATIVE}/rules", "red-editor")).status == 200
    assert (await service.send("DELETE", f"{NATIVE}/tokens/1", "red-editor")).status == 403
    found = await records(service, "red-admin")
    expected = [(token, method, status) for token, method, _, _, status in reversed(changes)]
    actions = [(actor, action.split()[0], status) for actor, action, status in told(found)]
    assert actions == expected
    assert {one["tenant"] for one in found} == {"red"}
    silenced = found[-1]
    assert silenced["action"] == f"POST {NATIVE}/silences"
    assert json.loads(silenced["request"]) == silence
    assert found[-2]["target"] == f"{NATIVE}/silences/1"
    assert json.loads(found[3]["request"]) == limits
    assert found[0]["request"] == "match%5B%5D=up"


async def test_a_tenant_sees_its_own_records_only(service: AccessService) -> None:
    for tenant in ("red", "blue"):
        await service.send("DELETE", "/config/v1/rules/none", f"{tenant}-admin")
    await service.send("POST", "/-/reload", "root")
    assert [one["actor"] for one in await records(service, "blue-admin")] == ["blue-admin"]
    assert await records(service, "red-admin", actor="blue-admin") == []
    for token, status in (("red-editor", 403), ("red-admin", 403), ("root", 200)):
        answer = await service.send(
            "GET", f"{NATIVE}/audit", token, tenant="red", params={"all_tenants": "true"}
        )
        assert answer.status == status
    everything = [one["tenant"] for one in (await answer.json())["records"]]
    assert everything == ["", "blue", "red"]


async def test_pages_and_filters(service: AccessService) -> None:
    for name in ("a", "b", "c"):
        await service.send("DELETE", f"/config/v1/rules/{name}", "red-editor")
    await service.send("POST", f"{NATIVE}/tokens", "red-admin", json={})
    first = await (
        await service.send("GET", f"{NATIVE}/audit", "red-admin", params={"limit": "3"})
    ).json()
    rest = await records(service, "red-admin", limit="3", cursor=first["next_cursor"])
    assert [one["target"][-1] for one in (*first["records"][1:], *rest)] == ["c", "b", "a"]
    action = "DELETE /config/v1/rules/{namespace}"
    assert len(await records(service, "red-admin", action=action)) == 3
    assert len(await records(service, "red-admin", actor="red-admin")) == 1
    assert await records(service, "red-admin", end="1") == []


async def test_a_change_that_cannot_be_recorded_is_not_made(
    service: AccessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = service.services.access.audit

    async def unavailable(*_: object) -> int:
        raise StorageUnavailableError("the database is away")

    monkeypatch.setattr(type(audit), "begin", unavailable)
    body = {"labels": {"job": "x"}, "reason": "quiet"}
    refused = await service.send("POST", f"{NATIVE}/silences", "red-editor", json=body)
    assert (refused.status, "Retry-After" in refused.headers) == (503, True)
    listed = await service.send("GET", f"{NATIVE}/silences", "red-editor")
    assert (await listed.json())["silences"] == []
    monkeypatch.undo()
    monkeypatch.setattr(type(audit), "end", unavailable)
    made = await service.send("POST", f"{NATIVE}/silences", "red-editor", json=body)
    assert made.status == 201
    assert told(await records(service, "red-admin")) == [
        ("red-editor", f"POST {NATIVE}/silences", None)
    ]


async def test_the_newest_records_of_each_tenant_stay(
    timescaledb_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "BOUND_EVERY", 10)
    monkeypatch.setattr(audit, "MAX_RECORDS_OF_TENANT", 5)
    database = await Database.open(timescaledb_database_url, DatabaseOptions())
    try:
        trail = PostgresAudit(database)

        async def record(tenant: str, number: int) -> None:
            entry = AuditEntry(actor="a", tenant=tenant, action="b", target=str(number))
            await trail.end(await trail.begin(entry), 200, "")

        async def kept(tenant: str | None) -> list[str]:
            found = await trail.list(AuditFilter(tenant=tenant), 1 << 62, 100)
            return [one.target for one in found]

        await record("red", 0)
        for number in range(1, 30):
            await record("blue", number)
        assert await kept("red") == ["0"]
        assert await kept("blue") == ["29", "28", "27", "26", "25"]
        monkeypatch.setattr(audit, "MAX_RECORDS", 12)
        for number in range(30, 40):
            await record("blue", number)
        assert await kept("red") == []
        assert await kept(None) == ["39", "38", "37", "36", "35"]
    finally:
        await database.close()


async def test_commands_are_recorded_and_old_records_go(
    timescaledb_database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", timescaledb_database_url)
    connection = await asyncpg.connect(timescaledb_database_url)
    try:
        await connection.execute(
            "INSERT INTO promcompat.audit (at, actor, tenant, action, target)"
            " VALUES (now() - interval '366 days', 'a', '', 'b', 'c')"
        )
        await run_commands(tmp_path)
        rows = await connection.fetch("SELECT * FROM promcompat.audit ORDER BY id")
    finally:
        await connection.close()
    capsys.readouterr()
    assert [(row["action"], row["target"], row["tenant"], row["status"]) for row in rows] == [
        ("promcompat token", "create x", "", 200),
        ("promcompat token", "create x", "", 400),
        ("promcompat limits", "set max_rules=3", "red", 200),
        ("promcompat limits", "unset max_rules", "red", 200),
        ("promcompat rules", "load team", "red", 200),
        ("promcompat dashboards", "import board", "red", 200),
        ("promcompat tenant", "set-retention 9", "red", 200),
        ("promcompat tenant", "set-retention 9", "none", 400),
        ("promcompat tenant", "revoke nobody", "red", 400),
    ]
    assert all(row["actor"] == f"command:uid {os.getuid()}" for row in rows)


async def run_commands(folder: Path) -> None:
    rules, board = folder / "team.yml", folder / "board.json"
    rules.write_text("groups:\n- name: g\n  rules:\n  - {record: r, expr: up}\n")
    board.write_text('{"title": "Board", "panels": []}')
    for command in (
        ("token", "create", "x", "--role", "read"),
        ("token", "create", "x", "--role", "read"),
        ("limits", "set", "red", "max_rules=3"),
        ("limits", "unset", "red", "max_rules"),
        ("rules", "load", str(rules), "--tenant", "red"),
        ("dashboards", "import", str(board), "--tenant", "red", "--uid", "board"),
        ("tenant", "set-retention", "red", "9"),
        ("tenant", "set-retention", "none", "9"),
        ("tenant", "revoke", "red", "nobody"),
    ):
        # In a thread, as each command has an event loop of its own.
        await asyncio.to_thread(main, command)
