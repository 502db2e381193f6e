"""Dashboards over HTTP, from files and by the command line."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from promcompat.__main__ import main
from promcompat.core.errors import BadDataError, ConflictError
from promcompat.core.limits.tenant_limits import NO_LIMITS
from promcompat.core.preconditions import Precondition
from promcompat.dashboards.dashboard_service import DashboardService
from promcompat.dashboards.files import DashboardFolder
from promcompat.dashboards.model import Dashboard
from sql.repositories.dashboard_repository import PostgresDashboardRepository
from tests.support.services.native_service import NativeClient, running_native_service
from tests.support.storage.repositories import opened_storage

pytestmark = pytest.mark.integration

PANEL: dict[str, Any] = {
    "id": 1,
    "type": "timeseries",
    "title": "ünïcode $job",
    "grid": {"x": 0, "y": 0, "width": 12, "height": 8},
    "queries": [{"ref": "A", "expr": 'up{job=~"$job"}'}],
}
MERGE = {"id": "merge", "options": {"a": ["x\x00"]}}
DASHBOARD: dict[str, Any] = {"title": "Up", "tags": ["a", "b"], "rows": [{"panels": [PANEL]}]}
GRAFANA = {"title": "Old", "uid": "old", "schemaVersion": 16, "panels": [
    {"id": 1, "type": "graph", "title": "G", "targets": [{"expr": "up"}], "unheard": 1}
]}  # fmt: skip


@pytest.fixture
async def native(plain_database_url: str) -> AsyncIterator[NativeClient]:
    async with running_native_service(plain_database_url, max_dashboards=3) as client:
        yield client


async def test_a_dashboard_goes_through_every_method_unchanged(native: NativeClient) -> None:
    body = {"uid": "up", "dashboard": DASHBOARD, "actor": "ann"}
    made = await native.send("POST", "/dashboards", status=201, body=body)
    assert made["dashboard"] == {"schema_version": 1, **DASHBOARD}
    assert (made["uid"], made["saved_by"]) == ("up", "ann")
    read = await native.get("/dashboards/up")
    assert read == made
    same = await native.send("PUT", "/dashboards/up", status=200, body=read)
    assert same["version"] == made["version"]
    changed = {"dashboard": {**DASHBOARD, "title": "Down"}, "reason": "why"}
    newer = await native.send("PUT", "/dashboards/up", status=200, body=changed)
    assert newer["version"] > made["version"]
    stale = {"If-Match": f'"{made["version"]}"'}
    await native.send("PUT", "/dashboards/up", status=412, body=read, headers=stale)
    await native.send("DELETE", "/dashboards/up", status=412, headers=stale)
    versions = (await native.get("/dashboards/up/versions"))["versions"]
    assert [(one["version"], one["reason"]) for one in versions] == [
        (newer["version"], "why"),
        (made["version"], ""),
    ]
    old = await native.get(f"/dashboards/up/versions/{made['version']}")
    assert (old["dashboard"], old["newest_version"]) == (made["dashboard"], newer["version"])
    path = f"/dashboards/up/versions/{made['version']}/restore"
    restored = await native.send("POST", path, status=200)
    assert (restored["dashboard"], restored["version"] > newer["version"]) == (
        made["dashboard"],
        True,
    )
    exported = await native.get("/dashboards/up/export")
    imported = await native.send(
        "POST", "/dashboards/import", status=200, body={"document": exported}
    )
    assert (imported["dashboard"], imported["uid"]) == (made["dashboard"], "up")
    await native.send("DELETE", "/dashboards/up", status=200)
    await native.send("GET", "/dashboards/up", status=404)
    again = await native.send("POST", "/dashboards", status=201, body=body)
    assert again["version"] > restored["version"]


async def test_the_list_is_by_title_tag_and_text(native: NativeClient) -> None:
    for title, tags in (("beta", ["x"]), ("Alpha", ["x", "y"])):
        body = {"dashboard": {"title": title, "tags": tags}}
        await native.send("POST", "/dashboards", status=201, body=body)

    async def titles(query: str) -> list[str]:
        found = await native.get(f"/dashboards{query}")
        return [one["title"] for one in found["dashboards"]]

    assert await titles("") == ["Alpha", "beta"]
    assert await titles("?tag=x&tag=y") == ["Alpha"]
    assert await titles("?search=BET") == ["beta"]


async def test_faults_are_told_with_their_place(native: NativeClient) -> None:
    for change, field in (
        ({"rows": [{"panels": [{**PANEL, "grid": {**PANEL["grid"], "x": 24}}]}]}, "grid.x"),
        ({"rows": [{"panels": [PANEL, PANEL]}]}, "dashboard"),
        ({"title": "a\x00b"}, "title"),
        ({"colour": "red"}, "colour"),
        ({"rows": [{"panels": [{**PANEL, "transformations": [MERGE]}]}]}, "options"),
    ):
        body = {"dashboard": {**DASHBOARD, **change}}
        found = await native.send("POST", "/dashboards", status=400, body=body)
        assert found["errors"][0]["field"].endswith(field), found
    bad_uid = {"uid": "a b", "dashboard": DASHBOARD}
    await native.send("POST", "/dashboards", status=400, body=bad_uid)
    await native.send("PUT", "/dashboards/a%20b", status=400, body={"dashboard": DASHBOARD})


async def test_numbers_may_be_as_large_as_those_of_grafana(native: NativeClient) -> None:
    panel = {**PANEL, "fields": {"max": 10**30}}
    body = {"dashboard": {"title": "Large", "rows": [{"panels": [panel]}]}}
    made = await native.send("POST", "/dashboards", status=201, body=body)
    assert made["dashboard"]["rows"][0]["panels"][0]["fields"] == {"max": 1e30}


async def test_a_tenant_has_so_many_dashboards(native: NativeClient) -> None:
    for _ in range(3):
        await native.send("POST", "/dashboards", status=201, body={"dashboard": DASHBOARD})
    refused = await native.send("POST", "/dashboards", status=409, body={"dashboard": DASHBOARD})
    assert "limit max_dashboards" in refused["detail"]


async def test_an_import_says_what_it_lacks_and_stores_when_asked(native: NativeClient) -> None:
    body = {"document": GRAFANA}
    looked = await native.send("POST", "/dashboards/import", status=200, body=body)
    assert looked["unsupported"] == [
        {"path": "panels[0].unheard", "panel": "G", "what": "unheard is 1",
         "reason": "is not supported"}
    ]  # fmt: skip
    await native.send("GET", "/dashboards/old", status=404)
    saved = await native.send("POST", "/dashboards/import?save=true", status=200, body=body)
    assert (saved["saved"], saved["uid"]) == (True, "old")
    assert (await native.get("/dashboards/old"))["dashboard"] == looked["dashboard"]
    refused = {"document": {"groups": []}}
    found = await native.send("POST", "/dashboards/import", status=400, body=refused)
    assert found["errors"][0]["field"] == "document"


async def test_twenty_versions_are_kept(plain_database_url: str) -> None:
    async with opened_storage(plain_database_url) as storage:
        service = DashboardService(PostgresDashboardRepository(storage.database), NO_LIMITS)
        for number in range(23):
            dashboard = Dashboard.model_validate({"title": f"T{number}"})
            await service.save("t", "u", dashboard, Precondition(), actor="a")
        versions = [one.version for one in await service.versions("t", "u")]
        assert len(versions) == 20
        oldest = await service.get("t", "u", versions[-1])
        assert oldest.document["title"] == "T3"


async def test_a_folder_is_what_its_dashboards_are(plain_database_url: str, tmp_path: Path) -> None:
    async with opened_storage(plain_database_url) as storage:
        service = DashboardService(PostgresDashboardRepository(storage.database), NO_LIMITS)
        folder = DashboardFolder(service, "t", tmp_path)
        moments = iter(range(1, 100))

        def write(name: str, document: object) -> Path:
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            text = document if isinstance(document, str) else json.dumps(document)
            file.write_text(text, encoding="utf-8")
            moment = next(moments)
            os.utime(file, ns=(moment, moment))
            return file

        async def titles() -> dict[str, str]:
            return {one.uid: one.title for one in await service.list_dashboards("t")}

        own = await service.create("t", Dashboard.model_validate({"title": "Own"}), uid="own")
        write("sub/a b.json", {"title": "A", "panels": []})
        file = write("old.json", GRAFANA)
        await folder.refresh()
        assert await titles() == {"own": "Own", "a-b": "A", "old": "Old"}
        stored = await service.get("t", "old")
        with pytest.raises(ConflictError, match="is provisioned from the file"):
            await service.delete("t", "old", Precondition())
        await folder.refresh()
        assert (await service.get("t", "old")).version == stored.version
        # Another process, which has not read the file before it was broken.
        write("old.json", "{")
        other = DashboardFolder(service, "t", tmp_path)
        await other.refresh()
        assert [fault.startswith(str(file)) for fault in other.faults] == [True]
        assert (await titles())["old"] == "Old"
        write("old.json", {**GRAFANA, "title": "New"})
        write("clash.json", {"title": "C", "uid": "own", "panels": []})
        await other.refresh()
        assert await titles() == {"own": "Own", "a-b": "A", "old": "New"}
        assert "is not from a file" in other.faults[0]
        (tmp_path / "clash.json").unlink()
        file.unlink()
        await other.refresh()
        assert await titles() == {"own": "Own", "a-b": "A"}
        assert (await service.get("t", "own")).version == own.version


async def test_a_file_that_another_dashboard_prevents_is_tried_again(
    plain_database_url: str, tmp_path: Path
) -> None:
    async with opened_storage(plain_database_url) as storage:
        service = DashboardService(PostgresDashboardRepository(storage.database), NO_LIMITS)
        await service.create("t", Dashboard.model_validate({"title": "Own"}), uid="own")
        (tmp_path / "a.json").write_text(json.dumps({"title": "A", "uid": "own", "panels": []}))
        now = 0.0
        folder = DashboardFolder(service, "t", tmp_path, lambda: now)
        await folder.refresh()
        assert "is not from a file" in folder.faults[0]
        await service.delete("t", "own", Precondition())
        await folder.refresh()
        assert await service.list_dashboards("t") == []
        now += 61.0
        await folder.refresh()
        assert [one.title for one in await service.list_dashboards("t")] == ["A"]
        assert folder.faults == ()


async def test_processes_share_a_folder_that_may_be_away(
    plain_database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / ".hidden").mkdir()
    for number in range(5):
        (folder / f"d{number}.json").write_text(json.dumps({"title": "D", "panels": []}))
    (folder / ".hidden/d1.json").write_text(json.dumps({"title": "Hidden", "panels": []}))
    async with opened_storage(plain_database_url) as storage:
        service = DashboardService(PostgresDashboardRepository(storage.database), NO_LIMITS)
        watches = [DashboardFolder(service, "t", folder) for _ in range(3)]
        await asyncio.gather(*(watch.refresh() for watch in watches))
        assert [watch.faults for watch in watches] == [(), (), ()]
        folder.rename(tmp_path / "away")
        with pytest.raises(BadDataError, match="there is no folder"):
            await watches[0].refresh()
        (tmp_path / "away").rename(folder)
        twice = folder / "e.json"
        twice.write_text(json.dumps({"title": "E", "uid": "d1", "panels": []}))
        await watches[0].refresh()
        assert watches[0].faults == (
            f"{twice}: the uid 'd1' is also that of {folder / 'd1.json'}; give it another",
        )
        stored = await service.list_dashboards("t")
        assert [(one.uid, one.title) for one in stored] == [(f"d{n}", "D") for n in range(5)]
        assert len(await service.versions("t", "d1")) == 1


async def test_dashboards_of_what_cannot_be_read_stay(
    plain_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link without its target, and a folder that cannot be listed: neither file may be gone."""
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "b.json").write_text(json.dumps({"title": "B", "panels": []}))
    target, link = tmp_path / "target", tmp_path / "a.json"
    target.write_text(json.dumps({"title": "A", "panels": []}))
    link.symlink_to(target)
    scandir = os.scandir

    def refuse(place: str) -> Any:
        if str(place).endswith("team"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    async with opened_storage(plain_database_url) as storage:
        service = DashboardService(PostgresDashboardRepository(storage.database), NO_LIMITS)
        folder = DashboardFolder(service, "t", tmp_path)

        async def titles() -> list[str]:
            await folder.refresh()
            return [one.title for one in await service.list_dashboards("t")]

        assert await titles() == ["A", "B"]
        target.unlink()
        assert await titles() == ["A", "B"]
        assert folder.faults == (f"{link}: No such file or directory",)
        link.unlink()
        with monkeypatch.context() as patched:
            patched.setattr(os, "scandir", refuse)
            assert await titles() == ["A", "B"]
            assert folder.faults[0].startswith(f"{tmp_path / 'team'}: Permission denied")
        assert (await titles(), folder.faults) == (["B"], ())


def test_dashboards_are_checked_imported_listed_and_exported(
    plain_database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "old.json"
    file.write_text(json.dumps(GRAFANA))

    def run(*arguments: str) -> str:
        assert main(["dashboards", *arguments]) == 0
        return capsys.readouterr()[0]

    line = "  panels[0].unheard in panel 'G': unheard is 1: is not supported\n"
    assert run("check", str(file)) == f"{file}: 1 panels, 1 things are not supported\n{line}"
    database = ["--database-url", plain_database_url]
    stored = run("import", str(file), *database)
    assert stored.endswith(line)
    assert run("list", *database) == "old: Old\n"
    document = json.loads(run("export", "old", *database))
    assert (document["uid"], document["title"]) == ("old", "Old")
    folder = tmp_path / "all"
    assert run("export", "--folder", str(folder), *database) == f"{folder / 'old.json'}\n"
    assert json.loads((folder / "old.json").read_text()) == document
    assert main(["dashboards", "export", "--folder", str(file), *database]) == 1
    assert capsys.readouterr()[1].endswith("/old.json/old.json: File exists\n")
    file.write_text("[]")
    assert main(["dashboards", "check", str(file)]) == 1
