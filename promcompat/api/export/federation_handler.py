"""`GET /federate`: the newest samples of series, as another Prometheus scrapes them."""

from collections.abc import Iterator, Sequence

import numpy as np
from aiohttp import hdrs, web

from promcompat.api.envelope import text_error
from promcompat.api.export.exposition_protobuf import Sample, encode_families
from promcompat.api.export.exposition_text import (
    ClassicHistogram,
    ExpositionFormat,
    accepted_format,
    families,
)
from promcompat.api.forms import read_form
from promcompat.api.query_parsing import parse_any_selectors
from promcompat.core.errors import PromcompatError
from promcompat.core.histograms.columns import Histograms, histogram_numbers, is_histogram
from promcompat.core.model import (
    METRIC_NAME,
    Labels,
    SampleBlock,
    SelectHints,
    SeriesSelection,
    is_stale,
)
from promcompat.core.ports import MatcherSets
from promcompat.http.bodies import work_of
from promcompat.http.compression import GZIP_HEADERS, is_packed, packed
from promcompat.http.context import SETTINGS, services_of, tenant_of
from promql.values.histogram_columns import GAUGE, HistogramColumns


async def handle_federate(request: web.Request) -> web.Response:
    """The newest sample of each series that a `match[]` selects, unless it is a stale marker."""
    tenant = tenant_of(request)
    chosen = accepted_format(request.headers.get(hdrs.ACCEPT, ""))
    try:
        form = await read_form(request)
        matcher_sets = await parse_any_selectors(request, form.all("match[]"))
        body = await _body_of(request, tenant, matcher_sets, chosen)
    except PromcompatError as exc:
        return text_error(exc)
    headers: dict[str, str] = {hdrs.CONTENT_TYPE: chosen.content_type}
    if is_packed(request, len(body)):
        body = await work_of(request).in_thread(packed, body)
        headers |= GZIP_HEADERS
    return web.Response(body=body, headers=headers)


async def _body_of(
    request: web.Request, tenant: str, matcher_sets: MatcherSets, chosen: ExpositionFormat
) -> bytes:
    if not matcher_sets:
        return b""
    queries = services_of(request).queries
    now_ms, lookback_ms = queries.now_ms(), request.app[SETTINGS].query_lookback_delta
    # Both bounds are inclusive, and only the last sample is used.
    reach_ms = lookback_ms + 1
    selections = [
        SeriesSelection(
            matchers=matchers,
            start_ms=now_ms - reach_ms,
            end_ms=now_ms,
            hints=SelectHints(reach_ms=reach_ms),
        )
        for matchers in matcher_sets
    ]
    async with queries.reading(tenant, selections) as blocks:
        return await work_of(request).in_thread(_render, blocks, chosen)


def _render(blocks: Sequence[SampleBlock], chosen: ExpositionFormat) -> bytes:
    found: dict[Labels, Sample] = {}
    for block in blocks:
        found |= {sample[0]: sample for sample in _newest(block)}
    samples = sorted(found.values(), key=lambda sample: (sample[0].get(METRIC_NAME), sample[0]))
    if chosen.is_protobuf:
        return encode_families(samples, chosen.escaping)
    # Histograms with exponential buckets have no form in text, and are left out as in Prometheus.
    shown = (
        (labels, time_ms, value)
        for labels, time_ms, value in samples
        if not isinstance(value, Histograms)
    )
    return "".join(families(shown, chosen.escaping)).encode()


def _newest(block: SampleBlock) -> Iterator[Sample]:
    """The last sample of each series with a name."""
    has_samples = np.diff(block.offsets) > 0
    series = np.flatnonzero(has_samples)
    last = block.offsets[1:][series] - 1
    cells = np.ascontiguousarray(block.values[last])
    fresh = ~is_stale(cells)
    times = block.timestamps[last].tolist()
    values: list[float | ClassicHistogram | Histograms] = [*cells.tolist()]
    if block.histograms is not None:
        places = np.flatnonzero(is_histogram(cells))
        found = block.histograms.take(histogram_numbers(cells[places]))
        for place, histogram in zip(places.tolist(), _shown(found), strict=True):
            values[place] = histogram
    rows = zip(series.tolist(), times, values, fresh.tolist(), strict=True)
    for index, time_ms, value, is_fresh in rows:
        labels = block.labels[index]
        if is_fresh and labels.get(METRIC_NAME):
            yield labels, time_ms, value


def _shown(stored: Histograms) -> Iterator[ClassicHistogram | Histograms]:
    """Histograms with custom buckets as classic ones, each of the others as floats."""
    columns = HistogramColumns.of(stored)
    as_floats = columns.stored()
    for row, place in enumerate(columns.bounds.tolist()):
        if place < 0:
            yield as_floats.take(slice(row, row + 1))
            continue
        bounds = columns.bound_sets[place]
        first, end = columns.positive.offsets[row : row + 2].tolist()
        counts = np.zeros(len(bounds) + 1)
        np.add.at(counts, columns.positive.indices[first:end], columns.positive.counts[first:end])
        cumulative = np.cumsum(counts)[:-1].tolist()
        count, total = float(columns.counts[row]), float(columns.sums[row])
        is_gauge = bool(columns.hints[row] == GAUGE)
        yield ClassicHistogram(bounds, cumulative, total, count, is_gauge)
