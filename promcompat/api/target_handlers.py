"""`targets`, `targets/metadata`, `scrape_pools`: samples are pushed to us, so there are none."""

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.forms import read_form
from promcompat.api.params import parse_go_int
from promcompat.core.errors import BadDataError


async def handle_targets(request: web.Request) -> web.Response:
    """Scrape targets."""
    empty: dict[str, object] = {
        "activeTargets": [],
        "droppedTargets": [],
        "droppedTargetCounts": {},
    }
    return await success_response(request, empty)


async def handle_target_metadata(request: web.Request) -> web.Response:
    """Metadata by scrape target."""
    form = await read_form(request)
    if form.get("limit"):
        try:
            parse_go_int(form.get("limit"))
        except BadDataError as exc:
            raise BadDataError("limit must be a number") from exc
    return await success_response(request, [])


async def handle_scrape_pools(request: web.Request) -> web.Response:
    """Names of scrape pools."""
    return await success_response(request, {"scrapePools": []})
