"""The admin API of Prometheus: `delete_series`, `clean_tombstones` and `snapshot`."""

from typing import Final

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.forms import Form, read_form
from promcompat.api.params import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    errors_naming,
    invalid_parameter,
    parse_optional_time_ms,
)
from promcompat.api.query_parsing import parse_any_selectors
from promcompat.core.corrections import SampleScope
from promcompat.core.errors import BadDataError, PromcompatError
from promcompat.core.texts.strconv import quote
from promcompat.http.context import SETTINGS, actor_of, services_of, tenant_of

_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("", "0", "f", "F", "FALSE", "false", "False"))


class _AdminDisabledError(PromcompatError):
    """Prometheus answers 500 if the admin API is not enabled."""

    error_type = "unavailable"


def _check_enabled(request: web.Request) -> None:
    if not request.app[SETTINGS].admin_api:
        raise _AdminDisabledError("admin APIs disabled")


async def handle_delete_series(request: web.Request) -> web.Response:
    """Delete the samples of series in a range; a selector may match everything, as there."""
    _check_enabled(request)
    form = await read_form(request)
    form.check()
    selectors = form.all("match[]")
    if not selectors:
        raise BadDataError("no match[] parameter provided")
    start_ms = parse_optional_time_ms(form, "start", MIN_TIME_MS)
    end_ms = parse_optional_time_ms(form, "end", MAX_TIME_MS)
    with errors_naming("match[]"):
        matcher_sets = await parse_any_selectors(request, selectors)
    if matcher_sets:
        scope = SampleScope(matcher_sets, start_ms, end_ms)
        await services_of(request).corrections.delete(tenant_of(request), scope, actor_of(request))
    return web.Response(status=204)


async def handle_clean_tombstones(request: web.Request) -> web.Response:
    """Remove from disk what was deleted."""
    _check_enabled(request)
    await services_of(request).corrections.clean_tombstones(tenant_of(request))
    return web.Response(status=204)


async def handle_snapshot(request: web.Request) -> web.Response:
    """Make a backup of the database in the folder `snapshots` of the data folder."""
    _check_enabled(request)
    skips_head = _skips_head(await read_form(request))
    name = await services_of(request).snapshots.make(skips_head=skips_head)
    return await success_response(request, {"name": name})


def _skips_head(form: Form) -> bool:
    text = form.get("skip_head")
    if text not in _TRUE | _FALSE:
        raise invalid_parameter(
            "skip_head",
            f"unable to parse boolean: strconv.ParseBool: parsing {quote(text)}: invalid syntax",
        )
    return text in _TRUE
