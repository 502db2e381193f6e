"""`rules`, `alerts` and `alertmanagers`: no rule is evaluated here yet, so all are empty.

Parameters are checked all the same, as a client must learn of its mistakes.
"""

import re

from aiohttp import web

from promcompat.api.context import tenant_of
from promcompat.api.envelope import success_response
from promcompat.api.forms import read_form
from promcompat.api.params import (
    Form,
    go_quote,
    invalid_parameter,
    parse_matcher_sets,
)
from promcompat.core.errors import BadDataError

_GO_BOOLS = frozenset(
    ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"]
)


async def handle_rules(request: web.Request) -> web.Response:
    """Rule groups."""
    tenant_of(request)
    form = await read_form(request)
    if form.parse_error:
        raise BadDataError(f"error parsing form values: {form.parse_error}")
    parse_matcher_sets(form.all("match[]"))
    kind = form.get("type").lower()
    if kind not in ("", "alert", "record"):
        raise invalid_parameter("type", f"not supported value {go_quote(kind)}")
    _check_exclude_alerts(form)
    _check_page(form)
    return await success_response(request, {"groups": []})


async def handle_alerts(request: web.Request) -> web.Response:
    """Active alerts."""
    tenant_of(request)
    return await success_response(request, {"alerts": []})


async def handle_alertmanagers(request: web.Request) -> web.Response:
    """Where alerts are sent."""
    return await success_response(request, {"activeAlertmanagers": [], "droppedAlertmanagers": []})


def _check_exclude_alerts(form: Form) -> None:
    text = form.get("exclude_alerts")
    if text and text not in _GO_BOOLS:
        raise invalid_parameter(
            "exclude_alerts",
            "error converting exclude_alerts: strconv.ParseBool: "
            f"parsing {go_quote(text)}: invalid syntax",
        )


def _check_page(form: Form) -> None:
    limit, token = form.get("group_limit"), form.get("group_next_token")
    if not limit:
        if token:
            raise invalid_parameter(
                "group_next_token",
                "group_limit needs to be present in order to paginate over the groups",
            )
        return
    if not re.fullmatch(r"[+-]?[0-9]+", limit, re.ASCII):
        raise invalid_parameter(
            "group_limit",
            "group_limit needs to be a valid number: strconv.ParseInt: "
            f"parsing {go_quote(limit)}: invalid syntax",
        )
    if limit.startswith("-") or not limit.strip("+0"):
        raise invalid_parameter("group_limit", "group_limit needs to be greater than 0")
    if token:
        raise invalid_parameter(
            "group_next_token",
            f"invalid group_next_token '{token}'. were rule groups changed?",
        )
