"""`/api/v1/export` and `/api/v1/export/csv`: all samples of series, in VictoriaMetrics' formats.

Portions of time are read, rendered and sent one after another, so that any amount can be exported.
"""

import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import compress
from typing import Final

import numpy as np
from aiohttp import hdrs, web

from promcompat.api.envelope import text_error, text_response
from promcompat.api.export.export_lines import (
    FormatBlock,
    exposition_lines,
    json_lines,
    parse_csv_export,
)
from promcompat.api.forms import Form, read_form
from promcompat.api.params import (
    MIN_TIME_MS,
    invalid_parameter,
    parse_go_int,
    parse_optional_time_ms,
    parse_time_ms,
)
from promcompat.api.query_parsing import parse_any_selectors
from promcompat.api.streamed_response import ended_or_cut, new_stream
from promcompat.core.errors import BadDataError, PromcompatError
from promcompat.core.model import SampleBlock
from promcompat.core.ports import MatcherSets
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.http.bodies import work_of
from promcompat.http.compression import accepts_gzip
from promcompat.http.context import services_of, tenant_of
from promcompat.imports.parquet_file import ParquetStream

_JSON: Final = "application/stream+json; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_UNITS_FROM: Final = ((10**17, 1_000_000), (10**14, 1_000), (10**11, 1))
"""The smallest numbers of nanoseconds, microseconds and milliseconds, and how many are one of
milliseconds; smaller numbers are seconds."""
_PAST: Final = re.compile(r"(?:now)?-?((?:[0-9]+(?:ms|[smhdwy]))+)", re.ASCII)
_INCOMPLETE: Final = re.compile(
    r"(\d{4}-\d\d(?:-\d\d(?:T\d\d(?::\d\d(?::\d\d)?)?)?)?)(Z|[+-]\d\d:\d\d)?", re.ASCII
)
_BEGINNING: Final = "0000-01-01T00:00:00"
_PARQUET: Final = "application/vnd.apache.parquet"
_CSV: Final = "text/csv; charset=utf-8"


async def handle_export(request: web.Request) -> web.StreamResponse:
    """JSON lines, exposition text with `format=prometheus`, or a Parquet file."""
    try:
        form = await read_form(request)
        match form.get("format"):
            case "prometheus":
                return await _export(request, form, _TEXT, b"", exposition_lines)
            case "":
                rows = form.get("max_rows_per_line")
                write = partial(json_lines, max_rows=max(parse_go_int(rows), 0) if rows else 0)
                return await _export(request, form, _JSON, b"", write)
            case "parquet":
                # In a thread, because the first one imports pyarrow.
                stream = await work_of(request).in_thread(ParquetStream)
                return await _export(request, form, _PARQUET, b"", stream.rows, stream.end)
            case other:
                raise BadDataError(f"unknown format {other!r}; use prometheus, parquet or none")
    except PromcompatError as exc:
        return text_error(exc)


async def handle_csv(request: web.Request) -> web.StreamResponse:
    """CSV with the columns of `format`."""
    try:
        form = await read_form(request)
        export = parse_csv_export(form.get("format"))
        header = export.header.encode() + b"\n"
        return await _export(request, form, _CSV, header, export.rows)
    except PromcompatError as exc:
        return text_error(exc)


async def handle_native(request: web.Request) -> web.Response:
    """VictoriaMetrics' own binary format."""
    return text_response(
        400,
        "VictoriaMetrics' native format is not supported, because it is private to its versions; "
        "read JSON lines from /api/v1/export, or use vmctl remote-read\n",
    )


async def _export(
    request: web.Request,
    form: Form,
    content_type: str,
    header: bytes,
    write: FormatBlock,
    end: Callable[[], bytes] = bytes,
) -> web.StreamResponse:
    tenant = tenant_of(request)
    selectors = form.all("match[]") + form.all("match")
    if not selectors:
        raise BadDataError("missing `match[]` arg")
    matcher_sets = await parse_any_selectors(request, selectors)
    now_ms = services_of(request).metrics.now_ms()
    start_ms = _time_ms(form, "start", MIN_TIME_MS, now_ms)
    end_ms = _time_ms(form, "end", now_ms, now_ms)
    pieces = _pieces(request, tenant, matcher_sets, start_ms, end_ms, write)
    response = _response(request, content_type)
    async with ended_or_cut(request, response, "an export was cut"):
        # Read before the status is sent, so that an error gets its own.
        first = await anext(pieces, b"")
        await response.prepare(request)
        await response.write(header + first)
        async for piece in pieces:
            await response.write(piece)
        await response.write(await work_of(request).in_thread(end))
    return response


def _time_ms(form: Form, name: str, default_ms: int, now_ms: int) -> int:
    """A time as Prometheus reads it, or in another form of VictoriaMetrics.

    These are numbers of milliseconds, microseconds and nanoseconds, which their size tells, times
    that are not complete (`2026-11`, UTC without a zone), and times before now (`now-1h`, `-1h`,
    `1h`). Raises BadDataError.
    """
    text = form.get(name)
    if text.isdecimal() and len(text) < 20:
        for smallest, per_ms in _UNITS_FROM:
            if int(text) >= smallest:
                return int(text) // per_ms
    if text == "now":
        return now_ms
    try:
        if past := _PAST.fullmatch(text):
            return now_ms - parse_duration_ms(past[1])
        if date := _INCOMPLETE.fullmatch(text):
            return parse_time_ms(date[1] + _BEGINNING[len(date[1]) :] + (date[2] or "Z"))
    except (BadDataError, ValueError) as exc:
        raise invalid_parameter(name, str(exc)) from exc
    return parse_optional_time_ms(form, name, default_ms)


def _response(request: web.Request, content_type: str) -> web.StreamResponse:
    response = new_stream(request, content_type)
    if content_type == _PARQUET:
        # It is compressed itself.
        response.headers[hdrs.CONTENT_DISPOSITION] = 'attachment; filename="export.parquet"'
    elif accepts_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def _pieces(
    request: web.Request,
    tenant: str,
    matcher_sets: MatcherSets,
    start_ms: int,
    end_ms: int,
    write: FormatBlock,
) -> AsyncIterator[bytes]:
    metrics = services_of(request).metrics
    for number, matchers in enumerate(matcher_sets):
        earlier = matcher_sets[:number]
        async for found in metrics.portions(tenant, matchers, start_ms, end_ms):
            if piece := await work_of(request).in_thread(_render, found, earlier, write):
                yield piece


def _render(found: SampleBlock, earlier: MatcherSets, write: FormatBlock) -> bytes:
    return b"".join(write(_without(found, earlier)))


def _without(block: SampleBlock, earlier: MatcherSets) -> SampleBlock:
    """Without the series that an earlier selector has exported."""
    if not earlier:
        return block
    is_new = np.array(
        [
            not any(all(m.matches(labels.get(m.name)) for m in matchers) for matchers in earlier)
            for labels in block.labels
        ],
        np.bool_,
    )
    n_rows = np.diff(block.offsets)
    return block.take(
        tuple(compress(block.labels, is_new.tolist())),
        np.repeat(is_new, n_rows),
        np.concatenate([[0], np.cumsum(n_rows[is_new])]),
    )
