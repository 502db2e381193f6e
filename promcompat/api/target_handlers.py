"""`targets`, `targets/metadata`, `scrape_pools`: what this service scrapes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.forms import read_form
from promcompat.api.json_text import dump_json
from promcompat.api.params import errors_naming, parse_go_int
from promcompat.api.query_parsing import limited_in_thread, parse_any_selectors, time_limit
from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import Labels
from promcompat.http.context import DEFAULT_TENANT, STATE, tenant_of
from promcompat.scraping.target_documents import MetadataDocument, TargetsDocument


async def handle_targets(request: web.Request) -> web.Response:
    """Scrape targets, by state and pool."""
    form = await read_form(request)
    state, pool = form.get("state").lower(), form.get("scrapePool")
    found, fault = await _targets(request)

    def of_pool(items: Any) -> list[Any]:
        return [item for item in items if not pool or item["scrapePool"] == pool]

    shows_dropped = state in ("", "any", "dropped")
    data = {
        "activeTargets": of_pool(found.active) if state in ("", "any", "active") else [],
        "droppedTargets": of_pool(found.dropped) if shows_dropped else [],
        "droppedTargetCounts": found.dropped_counts if shows_dropped else None,
    }
    return await success_response(request, data, (fault,) if fault else ())


async def handle_target_metadata(request: web.Request) -> web.Response:
    """Metadata by scrape target."""
    form = await read_form(request)
    limit = -1
    if form.get("limit"):
        try:
            limit = parse_go_int(form.get("limit"))
        except BadDataError as exc:
            raise BadDataError("limit must be a number") from exc
    selector = form.get("match_target")
    with errors_naming("match_target"):
        matcher_sets = await parse_any_selectors(request, [selector] if selector else [])
    # `{}` matches every target, and so does no selector.
    matchers = matcher_sets[0] if matcher_sets else ()
    document, metric = await _metadata(request), form.get("metric")
    time = time_limit(request)
    # In a thread, as each of a thousand targets may describe a thousand metrics.
    render = partial(_metadata_json, document, matchers, metric, limit, time.check_time)
    return await success_response(request, await limited_in_thread(request, time, render))


async def handle_scrape_pools(request: web.Request) -> web.Response:
    """Names of scrape pools."""
    found, _ = await _targets(request)
    return await success_response(request, {"scrapePools": list(found.pools)})


async def _targets(request: web.Request) -> tuple[TargetsDocument, str]:
    """The targets, which are the tenant `default`'s, and what is wrong with their configuration.

    None before the database is up: clients should not see that as an error.
    """
    services, tenant = request.app[STATE].services, tenant_of(request)
    if services is None or tenant != DEFAULT_TENANT:
        return TargetsDocument(), ""
    return await services.scraping.targets(), services.scraping.fault


async def _metadata(request: web.Request) -> MetadataDocument:
    services, tenant = request.app[STATE].services, tenant_of(request)
    if services is None or tenant != DEFAULT_TENANT:
        return MetadataDocument()
    return await services.scraping.metadata()


def _metadata_json(
    document: MetadataDocument,
    matchers: tuple[LabelMatcher, ...],
    metric: str,
    limit: int,
    check_time: Callable[[], None],
) -> bytes:
    """What matching targets say about one metric, or about each with its name.

    As in Prometheus, no further target is looked at once the limit is reached, if there is one; all
    that the last one says is in the list.
    """

    def matches(matcher: LabelMatcher, target: Labels) -> bool:
        # There may be more regular expressions than are kept compiled.
        check_time()
        return matcher.matches(target.get(matcher.name))

    found: list[dict[str, Any]] = []
    for labels, numbers in document.targets:
        if 0 <= limit <= len(found):
            break
        target = Labels.of(labels)
        if not all(matches(matcher, target) for matcher in matchers):
            continue
        for number in numbers:
            family, kind, text, unit = document.families[number]
            if metric in ("", family):
                name = {} if metric else {"metric": family}
                about = {"type": kind, "help": text, "unit": unit}
                found.append({"target": labels, **name, **about})
    return dump_json(found)
