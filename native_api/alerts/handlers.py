"""`/alerts`, `/silences` and `/receivers`."""

from typing import Any

from aiohttp import web

from native_api.alerts.payloads import (
    AcknowledgePayload,
    AlertListQuery,
    AlertListReply,
    AlertReply,
    HistoryReply,
    ReceiverListReply,
    ReceiverReply,
    ResolvePayload,
    SilenceListQuery,
    SilenceListReply,
    SilencePayload,
    SilenceReply,
    TransitionReply,
)
from native_api.contract.pages import encode_cursor, page_of, page_start
from native_api.contract.parameters import ID_PART, id_of, matchers_of
from native_api.contract.responses import json_response, list_response
from native_api.contract.route import Call, Example, NoQuery, Reply, Route
from promcompat.core.alerting.alerts import Alert, AlertFilter


async def handle_list_alerts(call: Call[AlertListQuery, None]) -> web.Response:
    """A page of alerts."""
    query = call.query
    wanted = AlertFilter(
        states=tuple(query.state),
        severity=query.severity,
        rule_name=query.rule,
        matchers=matchers_of(query.label),
        since_ms=query.start,
        until_ms=query.end,
        before_id=page_start(query, 0),
        limit=query.limit,
    )
    page = await call.services.alerts.list_alerts(call.tenant, wanted)
    next_id = page.next_before_id
    next_cursor = encode_cursor(query, next_id) if next_id else None
    silenced_by = await call.services.silences.silenced_by(call.tenant, page.alerts)

    def reply() -> AlertListReply:
        alerts = [
            AlertReply.of_alert(alert, silenced_by.get(alert.id, ())) for alert in page.alerts
        ]
        return AlertListReply(alerts=alerts, next_cursor=next_cursor)

    return await list_response(call.request, len(page.alerts), reply)


async def handle_get_alert(call: Call[NoQuery, None]) -> web.Response:
    """One alert."""
    found = await call.services.alerts.get(call.tenant, id_of(call))
    return await _alert_response(call, found)


async def handle_get_alert_history(call: Call[NoQuery, None]) -> web.Response:
    """The steps of an alert."""
    steps = await call.services.alerts.history(call.tenant, id_of(call))

    def reply() -> HistoryReply:
        return HistoryReply(transitions=[TransitionReply.of_transition(step) for step in steps])

    return await list_response(call.request, len(steps), reply)


async def handle_acknowledge_alert(call: Call[NoQuery, AcknowledgePayload]) -> web.Response:
    """Acknowledge an alert."""
    found = await call.services.alerts.acknowledge(
        call.tenant, id_of(call), call.actor(call.body.actor), call.body.reason
    )
    return await _alert_response(call, found)


async def handle_resolve_alert(call: Call[NoQuery, ResolvePayload]) -> web.Response:
    """End an alert by hand."""
    found = await call.services.alerts.resolve(
        call.tenant, id_of(call), call.actor(call.body.actor), call.body.reason
    )
    return await _alert_response(call, found)


async def _alert_response(call: Call[Any, Any], alert: Alert) -> web.Response:
    silenced_by = await call.services.silences.silenced_by(call.tenant, [alert])
    return json_response(call.request, AlertReply.of_alert(alert, silenced_by.get(alert.id, ())))


async def handle_create_silence(call: Call[NoQuery, SilencePayload]) -> web.Response:
    """Create a silence."""
    now_ms = call.services.metrics.now_ms()
    silence = call.body.to_silence(now_ms, call.actor(call.body.actor))
    saved = await call.services.silences.create(call.tenant, silence)
    return json_response(call.request, SilenceReply.of_silence(saved, now_ms), status=201)


async def handle_list_silences(call: Call[SilenceListQuery, None]) -> web.Response:
    """A page of silences."""
    query = call.query
    found = await call.services.silences.page(
        call.tenant,
        includes_ended=query.include_ended,
        before_id=page_start(query, 0),
        limit=query.limit + 1,
    )
    now_ms = call.services.metrics.now_ms()
    page, next_cursor = page_of(query, found, lambda silence: silence.id)

    def reply() -> SilenceListReply:
        silences = [SilenceReply.of_silence(silence, now_ms) for silence in page]
        return SilenceListReply(silences=silences, next_cursor=next_cursor)

    return await list_response(call.request, sum(len(one.all_matchers) for one in page), reply)


async def handle_get_silence(call: Call[NoQuery, None]) -> web.Response:
    """One silence."""
    found = await call.services.silences.get(call.tenant, id_of(call))
    now_ms = call.services.metrics.now_ms()
    return json_response(call.request, SilenceReply.of_silence(found, now_ms))


async def handle_end_silence(call: Call[NoQuery, None]) -> web.Response:
    """End a silence now."""
    found = await call.services.silences.end(call.tenant, id_of(call))
    now_ms = call.services.metrics.now_ms()
    return json_response(call.request, SilenceReply.of_silence(found, now_ms))


async def handle_list_receivers(call: Call[NoQuery, None]) -> web.Response:
    """The receivers of notifications."""
    found = await call.services.alerts.receivers(call.tenant)
    reply = ReceiverListReply(
        receivers=[ReceiverReply.of_receiver(*receiver) for receiver in found]
    )
    return json_response(call.request, reply)


_PARTS = {"id": ID_PART}
_MISSING = {"id": "999999"}
_SILENCE = {
    "labels": {"alertname": "QueueTooLong"},
    "matchers": ["queue=~mail.*"],
    "duration": "2h",
    "reason": "The mail server is being replaced.",
    "actor": "ana",
}

ROUTES = (
    Route(
        method="GET",
        path="/alerts",
        handler=handle_list_alerts,
        tag="Alerts",
        summary="List alerts",
        description="Alerts of rules and of thresholds, open and ended, newest first.",
        query=AlertListQuery,
        replies={200: Reply("Alerts, newest first.", AlertListReply)},
        examples=(
            Example(name="All", status=200),
            Example(
                name="Open alerts that are critical",
                status=200,
                query={"state": ["pending", "firing"], "severity": "critical"},
            ),
        ),
    ),
    Route(
        method="GET",
        path="/alerts/{id}",
        handler=handle_get_alert,
        tag="Alerts",
        summary="Read an alert",
        parts=_PARTS,
        replies={200: Reply("The alert.", AlertReply)},
        problems=(404,),
        examples=(Example(name="Unknown id", status=404, path=_MISSING),),
    ),
    Route(
        method="GET",
        path="/alerts/{id}/history",
        handler=handle_get_alert_history,
        tag="Alerts",
        summary="Read the history of an alert",
        parts=_PARTS,
        replies={
            200: Reply("The newest 10,000 transitions and notes, oldest first.", HistoryReply)
        },
        problems=(404,),
        examples=(Example(name="Unknown id", status=404, path=_MISSING),),
    ),
    Route(
        method="POST",
        path="/alerts/{id}/acknowledge",
        handler=handle_acknowledge_alert,
        tag="Alerts",
        summary="Acknowledge an alert",
        description="Records who is looking after an open alert. The first acknowledgement is "
        "kept.",
        parts=_PARTS,
        body=AcknowledgePayload,
        replies={200: Reply("The alert.", AlertReply)},
        problems=(404, 409),
        examples=(Example(name="Unknown id", status=404, path=_MISSING, body={"actor": "ana"}),),
    ),
    Route(
        method="POST",
        path="/alerts/{id}/resolve",
        handler=handle_resolve_alert,
        tag="Alerts",
        summary="Resolve an alert by hand",
        description="For the alert of something that no longer exists. Receivers are notified "
        "that it is resolved. If the condition still holds at the next evaluation of the rule, "
        "or at the next sample for a threshold, a new alert fires; create a silence to prevent "
        "that.",
        parts=_PARTS,
        body=ResolvePayload,
        replies={200: Reply("The resolved alert.", AlertReply)},
        problems=(404, 409),
        examples=(
            Example(
                name="Unknown id",
                status=404,
                path=_MISSING,
                body={"actor": "ana", "reason": "the host was removed"},
            ),
        ),
    ),
    Route(
        method="GET",
        path="/silences",
        handler=handle_list_silences,
        tag="Silences",
        summary="List silences",
        query=SilenceListQuery,
        replies={200: Reply("Silences, newest first.", SilenceListReply)},
        examples=(Example(name="Without ended silences", status=200),),
    ),
    Route(
        method="POST",
        path="/silences",
        handler=handle_create_silence,
        tag="Silences",
        summary="Silence alerts",
        description="While a silence is active, matching alerts are evaluated and listed, but no "
        "notifications are sent and no remediations are started. A silence may begin later "
        "(`starts_at`).",
        body=SilencePayload,
        replies={201: Reply("Created.", SilenceReply)},
        problems=(409,),
        examples=(
            Example(name="During maintenance", status=201, body=_SILENCE),
            Example(
                name="Everything",
                status=400,
                body={"reason": "quiet", "actor": "ana"},
            ),
        ),
    ),
    Route(
        method="GET",
        path="/silences/{id}",
        handler=handle_get_silence,
        tag="Silences",
        summary="Read a silence",
        parts=_PARTS,
        replies={200: Reply("The silence.", SilenceReply)},
        problems=(404,),
        examples=(Example(name="By id", status=200, path={"id": "1"}),),
    ),
    Route(
        method="DELETE",
        path="/silences/{id}",
        handler=handle_end_silence,
        tag="Silences",
        summary="End a silence",
        description="The silence is kept in the list of ended silences.",
        parts=_PARTS,
        replies={200: Reply("The ended silence.", SilenceReply)},
        problems=(404,),
        examples=(Example(name="Unknown id", status=404, path=_MISSING),),
    ),
    Route(
        method="GET",
        path="/receivers",
        handler=handle_list_receivers,
        tag="Alerts",
        summary="List receivers of alerts",
        description="Alertmanagers and webhooks, with the notifications that wait for each of "
        "them. A notification that is given up is noted in the history of its alert.",
        replies={200: Reply("All receivers.", ReceiverListReply)},
        examples=(Example(name="All", status=200),),
    ),
)
