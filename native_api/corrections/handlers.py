"""`/corrections`: deleting, replacing, scaling and renaming stored samples, and their record."""

from typing import Any, TypeVar

from aiohttp import web

from native_api.contract.pages import encode_cursor, page_start
from native_api.contract.parameters import ID_PART, MAX_ID, id_of
from native_api.contract.responses import document_response
from native_api.contract.route import Call, Example, NoQuery, Reply, Route
from native_api.corrections.payloads import (
    CorrectionListQuery,
    CorrectionListReply,
    CorrectionReply,
    DeletePayload,
    RenamePayload,
    ReplacePayload,
    ScalePayload,
)
from promcompat.core.corrections import (
    CorrectionKind,
    CorrectionRequest,
    DeleteSamples,
    RelabelSeries,
    SampleChange,
)
from promcompat.http.bodies import work_of
from promcompat.http.context import actor_of

_Body = TypeVar("_Body", DeletePayload, ReplacePayload, ScalePayload, RenamePayload)


async def handle_delete_samples(call: Call[NoQuery, DeletePayload]) -> web.Response:
    """Delete samples."""
    return await _correct(call, CorrectionKind.DELETE, DeleteSamples(call.body.scope))


async def handle_replace_samples(call: Call[NoQuery, ReplacePayload]) -> web.Response:
    """Replace samples."""
    # In a thread, as there may be a hundred thousand samples.
    change = await work_of(call.request).in_thread(lambda: call.body.change)
    return await _correct(call, CorrectionKind.REPLACE, change)


async def handle_scale_samples(call: Call[NoQuery, ScalePayload]) -> web.Response:
    """Scale samples."""
    return await _correct(call, CorrectionKind.SCALE, call.body.change)


async def handle_rename_series(call: Call[NoQuery, RenamePayload]) -> web.Response:
    """Rename series."""
    return await _correct(call, CorrectionKind.RENAME, call.body.change)


async def _correct(
    call: Call[Any, _Body], kind: CorrectionKind, change: SampleChange
) -> web.Response:
    """Do a correction or count what it would concern; 202 while it is not finished."""
    service, body = call.services.corrections, call.body
    warnings: list[str] = []
    if isinstance(change, RelabelSeries):
        warnings = await service.warnings(call.tenant, change)
    if body.dry_run:
        affected = await service.preview(call.tenant, change.scope)
        return await document_response(
            call.request, lambda: CorrectionReply.of_dry_run(kind.value, body, affected, warnings)
        )
    who = actor_of(call.request, body.requested_by or "")
    correction = await service.apply(call.tenant, CorrectionRequest(change, who, body.reason))
    return await document_response(
        call.request,
        lambda: CorrectionReply.of_correction(correction, warnings),
        status=202 if correction.is_running else 200,
    )


async def handle_list_corrections(call: Call[CorrectionListQuery, None]) -> web.Response:
    """A page of corrections."""
    query = call.query
    page, has_more = await call.services.corrections.list(
        call.tenant, page_start(query, MAX_ID), query.limit
    )
    next_cursor = encode_cursor(query, page[-1].id) if has_more else None

    def reply() -> CorrectionListReply:
        corrections = [CorrectionReply.of_correction(correction) for correction in page]
        return CorrectionListReply(corrections=corrections, next_cursor=next_cursor)

    return await document_response(call.request, reply)


async def handle_get_correction(call: Call[NoQuery, None]) -> web.Response:
    """One correction."""
    correction = await call.services.corrections.get(call.tenant, id_of(call))
    return await document_response(call.request, lambda: CorrectionReply.of_correction(correction))


_REPLIES = {
    200: Reply("Finished, or only counted.", CorrectionReply),
    202: Reply("Recorded and begun; it goes on in the background.", CorrectionReply),
}
_RANGE = {"start": "2026-11-24T00:00:00Z", "end": "2026-11-25T00:00:00Z"}
_ONE_HOST = {"name": "queue_length", "labels": ["queue=mail"], **_RANGE}

ROUTES = (
    Route(
        method="POST",
        path="/corrections/delete",
        handler=handle_delete_samples,
        tag="Corrections",
        summary="Delete samples",
        description="Deletes the selected samples that have arrived until now. No query returns "
        "them any more when this is answered; they are removed from disk in the background.",
        body=DeletePayload,
        replies=_REPLIES,
        problems=(422,),
        examples=(
            Example(name="Only count", status=200, body={**_ONE_HOST, "dry_run": True}),
            Example(
                name="A day of one queue",
                status=200,
                body={**_ONE_HOST, "requested_by": "ana", "reason": "sensor was broken"},
            ),
            Example(name="Everything", status=400, body={}),
        ),
    ),
    Route(
        method="POST",
        path="/corrections/replace",
        handler=handle_replace_samples,
        tag="Corrections",
        summary="Replace samples",
        description="Deletes the selected samples, and stores the given ones in their place, in "
        "one transaction: queries see either all old or all new samples. A sample that arrives "
        "later with the time of a given one does not change it.",
        body=ReplacePayload,
        replies=_REPLIES,
        problems=(422,),
        examples=(
            Example(
                name="A day with one sample",
                status=200,
                body={
                    **_ONE_HOST,
                    "series": [
                        {
                            "name": "queue_length",
                            "labels": {"queue": "mail"},
                            "samples": [["2026-11-24T05:00:00Z", 12]],
                        }
                    ],
                },
            ),
            Example(
                name="A time outside the range",
                status=400,
                body={
                    **_ONE_HOST,
                    "series": [
                        {
                            "name": "queue_length",
                            "labels": {"queue": "mail"},
                            "samples": [["2026-11-26T05:00:00Z", 12]],
                        }
                    ],
                },
            ),
        ),
    ),
    Route(
        method="POST",
        path="/corrections/scale",
        handler=handle_scale_samples,
        tag="Corrections",
        summary="Scale samples",
        description="Gives the selected samples the value `value * factor + offset`. NaN and stale "
        "markers stay as they are. Done in steps, each exactly once; a sample that arrives in the "
        "range meanwhile is scaled only if the step comes after it.",
        body=ScalePayload,
        replies=_REPLIES,
        problems=(422,),
        examples=(
            Example(
                name="Milliseconds that were sent as seconds",
                status=200,
                body={**_ONE_HOST, "factor": 0.001},
            ),
        ),
    ),
    Route(
        method="POST",
        path="/corrections/rename",
        handler=handle_rename_series,
        tag="Corrections",
        summary="Rename a metric or change labels",
        description="Moves the selected samples to series with another name or other labels, as "
        "if they arrived there now. Where a sample is there already, the first to arrive counts, "
        "unless the definition of the metric keeps the last; of several series that become one, "
        "the one that was made first arrives first. Definitions and rules are not changed.",
        body=RenamePayload,
        replies=_REPLIES,
        problems=(422,),
        examples=(
            Example(
                name="Another name and label",
                status=200,
                body={
                    **_ONE_HOST,
                    "new_name": "queue_jobs",
                    "set_labels": {"queue": "post"},
                    "dry_run": True,
                },
            ),
            Example(
                name="Another label",
                status=200,
                body={
                    "name": "queue_length",
                    "labels": ["queue=mail"],
                    "set_labels": {"queue": "post"},
                },
            ),
            Example(name="No change", status=400, body={"name": "queue_length"}),
        ),
    ),
    Route(
        method="GET",
        path="/corrections",
        handler=handle_list_corrections,
        tag="Corrections",
        summary="List corrections",
        description="Every correction of the tenant, newest first; records are kept.",
        query=CorrectionListQuery,
        replies={200: Reply("Corrections, newest first.", CorrectionListReply)},
        examples=(Example(name="All", status=200),),
    ),
    Route(
        method="GET",
        path="/corrections/{id}",
        handler=handle_get_correction,
        tag="Corrections",
        summary="Read a correction and its progress",
        parts={"id": ID_PART},
        replies={200: Reply("The correction.", CorrectionReply)},
        problems=(404,),
        examples=(Example(name="Unknown id", status=404, path={"id": "9000000"}),),
    ),
)
