"""`cardinality/label_names`, `label_values` and `active_series`, as Mimir has them."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from promcompat.api.forms import Form, read_form
from promcompat.api.json_text import dump_json
from promcompat.api.params import MAX_TIME_MS, MIN_TIME_MS, parse_go_int
from promcompat.api.query_parsing import parse_selectors, within_query_time
from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.http.bodies import work_of
from promcompat.http.context import services_of, tenant_of
from promcompat.metrics.cardinality import count_series, count_values, largest

_ACTIVE_MS: Final = 1_200_000
"""A series is active if it has a sample in the last 20 minutes."""
_DEFAULT_LIMIT: Final = 20
_MAX_LIMIT: Final = 500
_MAX_NAMES: Final = 100
_MAX_SERIES: Final = 1_000_000
"""A selector of more series is refused: their labels take about a gigabyte."""


async def handle_label_names(request: web.Request) -> web.Response:
    """How many values each label of the matching series has."""
    form = await read_form(request)
    limit = _limit(form)
    series = await _series(request, form, is_active=_wants_active(form), is_required=False)
    counts = await work_of(request).in_thread(count_values, series)
    listed = [
        {"label_name": name, "label_values_count": count} for name, count in largest(counts, limit)
    ]
    return _answer(
        {
            "label_values_count_total": counts.total(),
            "label_names_count": len(counts),
            "cardinality": listed,
        }
    )


async def handle_label_values(request: web.Request) -> web.Response:
    """How many of the matching series have each value of some labels."""
    form = await read_form(request)
    names, limit = form.all("label_names[]"), _limit(form)
    if not names:
        raise BadDataError("'label_names[]' param is required")
    if len(names) > _MAX_NAMES:
        raise BadDataError(
            "label values cardinality request label names limit "
            f"(limit: {_MAX_NAMES} actual: {len(names)}) exceeded"
        )
    series = await _series(request, form, is_active=_wants_active(form), is_required=False)
    listed = await work_of(request).in_thread(_listed_values, series, names, limit)
    return _answer({"series_count_total": len(series), "labels": listed})


def _listed_values(series: Sequence[Labels], names: Sequence[str], limit: int) -> list[object]:
    return [
        {
            "label_name": label.name,
            "label_values_count": len(label.series_by_value),
            "series_count": label.n_series,
            "cardinality": [
                {"label_value": value, "series_count": count}
                for value, count in largest(label.series_by_value, limit)
            ],
        }
        for label in count_series(series, names)
    ]


async def handle_active_series(request: web.Request) -> web.Response:
    """The label sets of the matching series that have a sample in the last 20 minutes."""
    form = await read_form(request)
    series = await _series(request, form, is_active=True, is_required=True)
    dump = await work_of(request).in_thread(_dumped, series)
    return web.Response(body=b'{"data":' + dump + b"}", content_type="application/json")


def _dumped(series: Sequence[Labels]) -> bytes:
    return dump_json([dict(labels.pairs) for labels in series])


async def _series(
    request: web.Request, form: Form, *, is_active: bool, is_required: bool
) -> list[Labels]:
    """The series that the selector matches, all without one.

    Raises BadDataError for a selector that is missing, repeated or wrong, and for too many series.
    """
    selectors = form.all("selector")
    if len(selectors) > 1:
        raise BadDataError("multiple 'selector' params are not allowed")
    if is_required and not any(selectors):
        raise BadDataError("missing 'selector' parameter")
    try:
        matcher_sets = await parse_selectors(request, [text for text in selectors if text])
    except BadDataError as exc:
        raise BadDataError(f"failed to parse selector: {exc}") from exc
    metrics = services_of(request).metrics
    start_ms = metrics.now_ms() - _ACTIVE_MS if is_active else MIN_TIME_MS
    async with within_query_time(request):
        found = await metrics.series(
            tenant_of(request), matcher_sets, start_ms, MAX_TIME_MS, _MAX_SERIES
        )
    if found.warnings:
        raise BadDataError(f"more than {_MAX_SERIES} series match; use a narrower selector")
    return found.items


def _wants_active(form: Form) -> bool:
    method = form.get("count_method") or "inmemory"
    if method not in ("inmemory", "active"):
        raise BadDataError(
            f"invalid 'count_method' param '{method}'. valid options are: [active,inmemory]"
        )
    return method == "active"


def _limit(form: Form) -> int:
    text = form.get("limit")
    if not text:
        return _DEFAULT_LIMIT
    limit = parse_go_int(text)
    if limit < 0:
        raise BadDataError("'limit' param cannot be less than '0'")
    if limit > _MAX_LIMIT:
        raise BadDataError(f"'limit' param cannot be greater than '{_MAX_LIMIT}'")
    return limit


def _answer(value: object) -> web.Response:
    return web.Response(body=dump_json(value), content_type="application/json")
