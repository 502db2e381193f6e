"""`/dashboards`: dashboards and the import of those of Grafana."""

from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from native_api.contract.etags import etag_of, is_not_modified, precondition_of
from native_api.contract.parameters import ID_PART, check_repeated, id_of
from native_api.contract.problem import errors_blamed_on
from native_api.contract.responses import document_response, json_response, list_response
from native_api.contract.route import BASE, Call, Example, NoQuery, PathPart, Reply, Route
from native_api.dashboards.payloads import (
    DashboardDeletedReply,
    DashboardListQuery,
    DashboardListReply,
    DashboardPayload,
    DashboardReply,
    DashboardSummaryReply,
    DashboardVersionReply,
    DashboardVersionsReply,
    FindingReply,
    ImportPayload,
    ImportQuery,
    ImportReply,
)
from promcompat.core.dashboards import StoredDashboard
from promcompat.core.preconditions import Precondition
from promcompat.dashboards.files import read_document
from promcompat.http.bodies import BODIES
from promcompat.http.context import actor_of


async def handle_list_dashboards(call: Call[DashboardListQuery, None]) -> web.Response:
    """Dashboards without their documents."""
    found = await call.services.dashboards.list_dashboards(
        call.tenant, call.query.tag, call.query.search
    )

    def reply() -> DashboardListReply:
        return DashboardListReply(
            dashboards=[DashboardSummaryReply.of_summary(summary) for summary in found]
        )

    return await list_response(call.request, len(found), reply)


async def handle_create_dashboard(call: Call[NoQuery, DashboardPayload]) -> web.Response:
    """Create a dashboard."""
    saved = await call.services.dashboards.create(
        call.tenant,
        call.body.dashboard,
        uid=call.body.uid or "",
        actor=_actor(call, call.body.actor),
        reason=call.body.reason,
    )
    return await _answer(call, saved, 201, _location(saved))


async def handle_get_dashboard(call: Call[NoQuery, None]) -> web.Response:
    """One dashboard."""
    stored = await call.services.dashboards.get(call.tenant, call.path["uid"])
    if is_not_modified(call.request, stored.version):
        return web.Response(status=304, headers={hdrs.ETAG: etag_of(stored.version)})
    return await _answer(call, stored)


async def handle_put_dashboard(call: Call[NoQuery, DashboardPayload]) -> web.Response:
    """Create or replace a dashboard."""
    uid = call.path["uid"]
    check_repeated("uid", call.body.uid, uid)
    stored, is_new = await call.services.dashboards.save(
        call.tenant,
        uid,
        call.body.dashboard,
        precondition_of(call.request),
        actor=_actor(call, call.body.actor),
        reason=call.body.reason,
    )
    return await _answer(call, stored, 201 if is_new else 200, _location(stored) if is_new else {})


async def handle_delete_dashboard(call: Call[NoQuery, None]) -> web.Response:
    """Delete a dashboard."""
    deleted = await call.services.dashboards.delete(
        call.tenant, call.path["uid"], precondition_of(call.request)
    )
    return json_response(call.request, DashboardDeletedReply(uid=deleted.uid, deleted=True))


async def handle_list_dashboard_versions(call: Call[NoQuery, None]) -> web.Response:
    """The versions of a dashboard."""
    found = await call.services.dashboards.versions(call.tenant, call.path["uid"])
    reply = DashboardVersionsReply(
        versions=[DashboardVersionReply.of_version(version) for version in found]
    )
    return json_response(call.request, reply)


async def handle_get_dashboard_version(call: Call[NoQuery, None]) -> web.Response:
    """A dashboard as it was."""
    stored = await call.services.dashboards.get(
        call.tenant, call.path["uid"], id_of(call, "version")
    )
    return await _answer(call, stored)


async def handle_restore_dashboard_version(call: Call[NoQuery, None]) -> web.Response:
    """Make a version the newest again."""
    stored = await call.services.dashboards.restore(
        call.tenant,
        call.path["uid"],
        id_of(call, "version"),
        precondition_of(call.request),
        _actor(call, None),
    )
    return await _answer(call, stored)


async def handle_export_dashboard(call: Call[NoQuery, None]) -> web.Response:
    """The document as a file."""
    stored = await call.services.dashboards.get(call.tenant, call.path["uid"])
    headers: dict[str, str] = {
        hdrs.ETAG: etag_of(stored.version),
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{stored.uid}.json"',
    }
    return await document_response(
        call.request, lambda: {**stored.document, "uid": stored.uid}, headers=headers
    )


async def handle_import_dashboard(call: Call[ImportQuery, ImportPayload]) -> web.Response:
    """Convert a file, and store it if that is asked for."""
    body = call.body
    with errors_blamed_on("body", "document", "the JSON of a dashboard"):
        # In a thread, as large dashboards take tenths of a second.
        threads = call.request.app[BODIES].of(call.tenant)
        imported = await threads.in_thread(read_document, body.document, body.inputs)
    uid, version = body.uid or imported.uid, None
    if call.query.save:
        service, actor = call.services.dashboards, _actor(call, body.actor)
        if uid:
            stored, _ = await service.save(
                call.tenant,
                uid,
                imported.dashboard,
                Precondition(),
                actor=actor,
                reason="imported",
            )
        else:
            stored = await service.create(
                call.tenant, imported.dashboard, actor=actor, reason="imported"
            )
        uid, version = stored.uid, stored.version

    def reply() -> ImportReply:
        findings = imported.findings
        return ImportReply(
            uid=uid,
            saved=call.query.save,
            version=version,
            dashboard=imported.dashboard.document(),
            unsupported=[FindingReply.of_finding(one) for one in findings if one.is_lost],
            changed=[FindingReply.of_finding(one) for one in findings if not one.is_lost],
        )

    return await document_response(call.request, reply)


def _actor(call: Call[Any, Any], claimed: str | None) -> str:
    """Who is recorded; nobody has to tell it while access is not restricted."""
    return actor_of(call.request, claimed or "")


def _location(stored: StoredDashboard) -> Mapping[str, str]:
    return {hdrs.LOCATION: f"{BASE}/dashboards/{stored.uid}"}


async def _answer(
    call: Call[Any, Any],
    stored: StoredDashboard,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    tags: dict[str, str] = {hdrs.ETAG: etag_of(stored.version), **(headers or {})}
    return await document_response(
        call.request, lambda: DashboardReply.of_stored(stored), status, tags
    )


_TAG = "Dashboards"
_UID = PathPart(
    description="The uid of the dashboard: letters, digits, `_` and `-`.",
    schema={"type": "string", "minLength": 1, "maxLength": 40, "pattern": "^[A-Za-z0-9_-]+$"},
)
_PARTS = {"uid": _UID}
_VERSION_PARTS = {"uid": _UID, "version": ID_PART}
_ETAG = {"ETag": "The version in quotes, for If-Match and If-None-Match."}
_LOCATION = {"Location": "The path of the dashboard."}
_IF_MATCH = {
    "If-Match": "ETags of the versions that may be changed, or `*` for any version. The answer is "
    "412 if the current version is not one of them."
}
_EXAMPLE = {
    "title": "Queues",
    "tags": ["jobs"],
    "time": {"start": "now-6h", "end": "now"},
    "refresh": "30s",
    "variables": [
        {
            "name": "queue",
            "kind": "query",
            "query": "label_values(queue_length, queue)",
            "multi": True,
            "include_all": True,
            "current": "$__all",
        }
    ],
    "rows": [
        {
            "panels": [
                {
                    "id": 1,
                    "type": "timeseries",
                    "title": "Jobs in $queue",
                    "grid": {"x": 0, "y": 0, "width": 12, "height": 8},
                    "queries": [
                        {
                            "ref": "A",
                            "expr": 'queue_length{queue=~"$queue"}',
                            "legend": "{{queue}}",
                        }
                    ],
                    "fields": {"unit": "short", "min": 0},
                    "options": {"legend": {"mode": "table", "calcs": ["lastNotNull", "max"]}},
                }
            ]
        }
    ],
}
_GRAFANA = {
    "title": "Load",
    "uid": "load",
    "schemaVersion": 16,
    "panels": [
        {
            "id": 1,
            "type": "graph",
            "title": "Load",
            "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
            "targets": [{"expr": "node_load1", "legendFormat": "{{instance}}"}],
            "yaxes": [{"format": "short", "min": "0"}, {"format": "short"}],
        },
        {
            "id": 2,
            "type": "nodeGraph",
            "title": "Services",
            "gridPos": {"x": 12, "y": 0, "w": 12, "h": 8},
        },
    ],
}

ROUTES = (
    Route(
        method="GET",
        path="/dashboards",
        handler=handle_list_dashboards,
        tag=_TAG,
        summary="List dashboards",
        query=DashboardListQuery,
        replies={200: Reply("Dashboards by title, without their documents.", DashboardListReply)},
        examples=(Example(name="By tag", status=200, query={"tag": ["jobs"]}),),
    ),
    Route(
        method="POST",
        path="/dashboards",
        handler=handle_create_dashboard,
        tag=_TAG,
        summary="Create a dashboard",
        description="`docs/dashboards.md` explains the document.",
        body=DashboardPayload,
        replies={201: Reply("Created.", DashboardReply, _ETAG | _LOCATION)},
        problems=(409, 413),
        examples=(
            Example(
                name="A graph of each queue",
                status=201,
                body={"uid": "queues", "dashboard": _EXAMPLE},
            ),
            Example(
                name="The uid is taken",
                status=409,
                body={"uid": "queues", "dashboard": _EXAMPLE},
            ),
            Example(
                name="No such panel",
                status=400,
                body={
                    "dashboard": {
                        "title": "Broken",
                        "rows": [{"panels": [{"id": 1, "type": "clock"}]}],
                    }
                },
            ),
        ),
    ),
    Route(
        method="POST",
        path="/dashboards/import",
        handler=handle_import_dashboard,
        tag=_TAG,
        summary="Import a dashboard of Grafana",
        description="Answers the converted dashboard, and everything of the file that it does not "
        "show, with place and reason. Nothing is stored unless `save` is true.",
        query=ImportQuery,
        body=ImportPayload,
        replies={200: Reply("The dashboard and what it lacks.", ImportReply)},
        problems=(409, 412),
        examples=(
            Example(name="Look at it first", status=200, body={"document": _GRAFANA}),
            Example(
                name="Store it", status=200, query={"save": "true"}, body={"document": _GRAFANA}
            ),
            Example(name="No dashboard", status=400, body={"document": {"groups": []}}),
        ),
    ),
    Route(
        method="GET",
        path="/dashboards/{uid}",
        handler=handle_get_dashboard,
        tag=_TAG,
        summary="Read a dashboard",
        parts=_PARTS,
        headers={
            "If-None-Match": "ETags the client already has. The answer is 304 if the current "
            "version is one of them."
        },
        replies={
            200: Reply("The dashboard.", DashboardReply, _ETAG),
            304: Reply("Not modified.", None, _ETAG),
        },
        problems=(404,),
        examples=(Example(name="By uid", status=200, path={"uid": "queues"}),),
    ),
    Route(
        method="PUT",
        path="/dashboards/{uid}",
        handler=handle_put_dashboard,
        tag=_TAG,
        summary="Create or replace a dashboard",
        description="The body may be a GET response sent back unchanged. The 20 newest versions "
        "are kept. A dashboard that comes from a file (`PROMCOMPAT_DASHBOARD_FOLDER`) is answered "
        "409.",
        parts=_PARTS,
        body=DashboardPayload,
        headers={**_IF_MATCH, "If-None-Match": "`*`: only create it."},
        replies={
            200: Reply("Replaced.", DashboardReply, _ETAG),
            201: Reply("Created.", DashboardReply, _ETAG | _LOCATION),
        },
        problems=(409, 412, 413),
        examples=(
            Example(
                name="Another title",
                status=200,
                path={"uid": "queues"},
                headers={"If-Match": "*"},
                body={"dashboard": {**_EXAMPLE, "title": "All queues"}, "reason": "clearer"},
            ),
            Example(
                name="Changed by somebody else in the meantime",
                status=412,
                path={"uid": "queues"},
                headers={"If-Match": '"1000000000"'},
                body={"dashboard": _EXAMPLE},
            ),
        ),
    ),
    Route(
        method="DELETE",
        path="/dashboards/{uid}",
        handler=handle_delete_dashboard,
        tag=_TAG,
        summary="Delete a dashboard",
        description="With all its versions.",
        parts=_PARTS,
        headers=_IF_MATCH,
        replies={200: Reply("Deleted.", DashboardDeletedReply)},
        problems=(404, 409, 412),
        examples=(Example(name="An imported one", status=200, path={"uid": "load"}),),
    ),
    Route(
        method="GET",
        path="/dashboards/{uid}/export",
        handler=handle_export_dashboard,
        tag=_TAG,
        summary="Export a dashboard",
        description="The document as a file, which a folder of dashboards and the import accept.",
        parts=_PARTS,
        replies={200: Reply("The document with its uid.", dict[str, object], _ETAG)},
        problems=(404,),
        examples=(Example(name="By uid", status=200, path={"uid": "queues"}),),
    ),
    Route(
        method="GET",
        path="/dashboards/{uid}/versions",
        handler=handle_list_dashboard_versions,
        tag=_TAG,
        summary="List the versions of a dashboard",
        parts=_PARTS,
        replies={200: Reply("Versions, the newest first.", DashboardVersionsReply)},
        problems=(404,),
        examples=(Example(name="By uid", status=200, path={"uid": "queues"}),),
    ),
    Route(
        method="GET",
        path="/dashboards/{uid}/versions/{version}",
        handler=handle_get_dashboard_version,
        tag=_TAG,
        summary="Read a version of a dashboard",
        parts=_VERSION_PARTS,
        replies={200: Reply("The dashboard as it was.", DashboardReply, _ETAG)},
        problems=(404,),
        examples=(
            Example(name="The first one", status=200, path={"uid": "queues", "version": "1"}),
        ),
    ),
    Route(
        method="POST",
        path="/dashboards/{uid}/versions/{version}/restore",
        handler=handle_restore_dashboard_version,
        tag=_TAG,
        summary="Restore a version of a dashboard",
        description="Its document becomes a new version.",
        parts=_VERSION_PARTS,
        headers=_IF_MATCH,
        replies={200: Reply("Restored.", DashboardReply, _ETAG)},
        problems=(404, 409, 412),
        examples=(
            Example(name="The first one", status=200, path={"uid": "queues", "version": "1"}),
        ),
    ),
)
