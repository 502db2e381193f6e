"""The reading routes: samples, names, newest samples, statistics, buckets."""

import numpy as np
from aiohttp import web

from native_api.contract.numbers import json_number, json_numbers
from native_api.contract.pages import decode_cursor, encode_cursor, page_start, refused_cursor
from native_api.contract.parameters import (
    METRIC_NAME_PART,
    matchers_of,
    metric_name_of,
)
from native_api.contract.problem import InvalidRequestError, errors_blamed_on, fault
from native_api.contract.responses import json_response, list_response
from native_api.contract.route import Call, Example, Reply, Route
from native_api.contract.times import MAX_TIME_MS, MIN_TIME_MS, format_times_ms
from native_api.query.bucket_json import render_buckets
from native_api.query.payloads import (
    AggregateQuery,
    AggregateReply,
    Fill,
    LatestQuery,
    LatestReply,
    NameListQuery,
    NameListReply,
    Order,
    SampleListQuery,
    SampleListReply,
    SeriesQuery,
    SeriesReply,
)
from promcompat.core.model import METRIC_NAME
from promcompat.core.native_queries import (
    BucketQuery,
    LatestDistribution,
    SamplePageQuery,
    SamplePosition,
    SampleRow,
    Statistics,
    histograms_of_rows,
)
from promcompat.core.texts.times import format_time_ms
from promcompat.imports.histogram_objects import histogram_objects
from promcompat.querying.bucket_grid import bucket_start, count_buckets
from promcompat.querying.bucket_reader import MAX_BUCKETS
from promcompat.querying.metric_kinds import of_metric

_US_PER_MS = 1000


async def handle_list_samples(call: Call[SampleListQuery, None]) -> web.Response:
    """A page of single samples."""
    query = call.query
    start_ms, end_ms, after = _page_bounds(query, call.services.queries.now_ms())
    matchers = matchers_of(query.label, query.source)
    if query.name is not None:
        matchers = of_metric(query.name, matchers)
    rows, has_more = await call.services.native_queries.sample_page(
        call.tenant,
        SamplePageQuery(
            matchers=matchers,
            start_ms=start_ms,
            end_ms=end_ms,
            descending=query.order is Order.DESC,
            limit=query.limit,
            after=after,
        ),
    )
    next_cursor = _next_cursor(query, start_ms, end_ms, rows[-1]) if has_more else None

    def reply() -> dict[str, object]:
        samples = [
            {"name": row.labels.get(METRIC_NAME), **document}
            for row, document in zip(rows, _row_documents(rows), strict=True)
        ]
        return {"samples": samples, "next_cursor": next_cursor}

    return await list_response(call.request, len(rows), reply)


def _page_bounds(query: SampleListQuery, now_ms: int) -> tuple[int, int, SamplePosition | None]:
    """Start, end and position; a cursor carries the bounds, so that `now` does not move."""
    if query.cursor is None:
        return *query.bounds_ms(now_ms), None
    parts = decode_cursor(query, query.cursor, int, int, int, int)
    start_ms, end_ms, timestamp_us, series_id = map(int, parts)
    if query.start not in (None, start_ms) or query.end not in (None, end_ms):
        raise refused_cursor("belongs to a different time range")
    is_possible = MIN_TIME_MS <= start_ms <= end_ms <= MAX_TIME_MS + 1
    if not (is_possible and start_ms <= timestamp_us // _US_PER_MS < end_ms):
        raise refused_cursor("is not a valid cursor")
    return start_ms, end_ms, SamplePosition(timestamp_us, series_id)


def _next_cursor(query: SampleListQuery, start_ms: int, end_ms: int, last: SampleRow) -> str:
    position = last.position
    return encode_cursor(query, start_ms, end_ms, position.timestamp_us, position.series_id)


async def handle_list_names(call: Call[NameListQuery, None]) -> web.Response:
    """A page of metric names."""
    query = call.query
    names, has_more = await call.services.native_queries.metric_names(
        call.tenant, query.prefix, page_start(query, ""), query.limit
    )
    reply = {"names": names, "next_cursor": encode_cursor(query, names[-1]) if has_more else None}
    return json_response(call.request, reply)


async def handle_latest(call: Call[LatestQuery, None]) -> web.Response:
    """The newest sample of each series of a metric."""
    name, service = metric_name_of(call.path["name"]), call.services.native_queries
    matchers = matchers_of(call.query.label, call.query.source)
    kind = await service.kind(call.tenant, name)
    states, is_cut = await service.latest(call.tenant, name, kind.shape, matchers, call.query.limit)

    def reply() -> dict[str, object]:
        samples = iter(_row_documents([state for state in states if isinstance(state, SampleRow)]))
        series = [
            next(samples) if isinstance(state, SampleRow) else _distribution_document(state)
            for state in states
        ]
        return {"name": name, "type": kind.type.value, "series": series, "truncated": is_cut}

    return await list_response(call.request, len(states), reply)


async def handle_aggregate(call: Call[AggregateQuery, None]) -> web.Response:
    """Statistics over the samples of a metric."""
    name, query = metric_name_of(call.path["name"]), call.query
    start_ms, end_ms = _checked_bounds(call, call.services.queries.now_ms())
    metric_type, groups = await call.services.native_queries.statistics(
        call.tenant,
        name,
        matchers_of(query.label, query.source),
        (start_ms, end_ms),
        tuple(query.group_by),
    )

    def reply() -> dict[str, object]:
        return {
            "name": name,
            "type": metric_type.value,
            "start": format_time_ms(start_ms),
            "end": format_time_ms(end_ms),
            "groups": list(map(_statistics_document, groups)),
        }

    return await list_response(call.request, len(groups), reply)


async def handle_series(call: Call[SeriesQuery, None]) -> web.Response:
    """A value for each bucket of a metric."""
    name, query = metric_name_of(call.path["name"]), call.query
    now_ms = call.services.queries.now_ms()
    start_ms, end_ms = _checked_bounds(call, now_ms)
    n_buckets = count_buckets(start_ms, end_ms, query.bucket)
    if n_buckets > MAX_BUCKETS:
        reason = f"divides the range into {n_buckets:,} buckets"
        expected = f"at most {MAX_BUCKETS:,} buckets; use a wider bucket or a shorter range"
        raise InvalidRequestError([fault("query", "bucket", reason, expected)])
    if bucket_start(start_ms, query.bucket) < MIN_TIME_MS:
        reason = "makes the first bucket begin before the year 1"
        expected = "a narrower bucket or a later start"
        raise InvalidRequestError([fault("query", "bucket", reason, expected)])
    is_grouped = bool(query.group_by) or query.all_series
    with errors_blamed_on("query", "aggregation", "an aggregation that the metric's type supports"):
        answer = await call.services.native_queries.buckets(
            call.tenant,
            BucketQuery(
                name=name,
                matchers=matchers_of(query.label, query.source),
                start_ms=start_ms,
                end_ms=end_ms,
                bucket_ms=query.bucket,
                aggregation=query.asked_aggregation,
                percentiles=query.percentiles,
                group_by=tuple(query.group_by) if is_grouped else None,
                looks_back=query.fill is Fill.PREVIOUS,
            ),
        )
    n_items = n_buckets * max(len(answer.buckets.labels), 1)
    return await list_response(
        call.request, n_items, lambda: render_buckets(name, query, answer, now_ms)
    )


def _checked_bounds(
    call: Call[AggregateQuery, None] | Call[SeriesQuery, None], now_ms: int
) -> tuple[int, int]:
    """Start and end. Raises InvalidRequestError for a range that the tenant may not ask for."""
    start_ms, end_ms = call.query.bounds_ms(now_ms)
    with errors_blamed_on("query", "start", "a later start or an earlier end"):
        call.services.queries.check_length(call.tenant, end_ms - start_ms)
    return start_ms, end_ms


def _row_documents(rows: list[SampleRow]) -> list[dict[str, object]]:
    times = np.array([row.position.timestamp_us // 1000 for row in rows], np.int64)
    numbers = json_numbers(np.array([row.value for row in rows], np.float64))
    documents: list[dict[str, object]] = [
        {"labels": row.labels.without_name().as_dict(), "timestamp": time, "value": number}
        for row, time, number in zip(rows, format_times_ms(times), numbers, strict=True)
    ]
    if (stored := histograms_of_rows(rows)) is not None:
        shown = iter(histogram_objects(stored))
        for row, document in zip(rows, documents, strict=True):
            if row.histogram is not None:
                document |= {"value": None, "histogram": next(shown)}
    return documents


def _distribution_document(state: LatestDistribution) -> dict[str, object]:
    return {
        "labels": state.labels.as_dict(),
        "timestamp": format_time_ms(state.timestamp_ms),
        "count": json_number(state.count),
        "sum": json_number(state.sum),
        "buckets": {le: json_number(count) for le, count in state.buckets.items()},
        "quantiles": {quantile: json_number(value) for quantile, value in state.quantiles.items()},
    }


def _statistics_document(statistics: Statistics) -> dict[str, object]:
    names = ("avg", "min", "max", "sum", "p50", "p95", "p99")
    numbers = {name: json_number(getattr(statistics, name)) for name in names}
    return {
        "labels": statistics.labels.as_dict(),
        "count": json_number(statistics.count),
        **numbers,
    }


_PARTS = {"name": METRIC_NAME_PART}
_RANGE = {"start": "2026-11-24T05:00:00Z", "end": "2026-11-24T05:05:00Z"}
_ORDERS = {"name": "orders_total"}

ROUTES = (
    Route(
        method="GET",
        path="/",
        handler=handle_list_samples,
        tag="Query",
        summary="List samples",
        description="Individual samples as they were stored, without stale markers. One that is a "
        "native histogram has no `value` but a `histogram`, as in JSON lines of `/api/v1/export`.",
        query=SampleListQuery,
        replies={200: Reply("Samples, ordered by time.", SampleListReply)},
        problems=(422,),
        examples=(
            Example(
                name="The first samples of a metric",
                status=200,
                query={**_RANGE, "name": "orders_total", "order": "asc", "limit": "2"},
            ),
            Example(
                name="By label and source",
                status=200,
                query={
                    **_RANGE,
                    "name": "queue_length",
                    "label": ["queue=mail", "queue!~sms|push"],
                    "source": "worker-1",
                },
                answer={
                    "samples": [
                        {
                            "name": "queue_length",
                            "labels": {"queue": "mail", "source": "worker-1"},
                            "timestamp": "2026-11-24T05:00:00.000Z",
                            "value": 42.0,
                        }
                    ],
                    "next_cursor": None,
                },
            ),
            Example(name="An invalid regular expression", status=400, query={"label": "queue=~("}),
        ),
    ),
    Route(
        method="GET",
        path="/names",
        handler=handle_list_names,
        tag="Query",
        summary="List metric names",
        query=NameListQuery,
        replies={
            200: Reply("The names of all metrics ever written, in ascending order.", NameListReply)
        },
        examples=(
            Example(
                name="By prefix",
                status=200,
                query={"prefix": "orders_"},
                answer={"names": ["orders_total"], "next_cursor": None},
            ),
        ),
    ),
    Route(
        method="GET",
        path="/latest/{name}",
        handler=handle_latest,
        tag="Query",
        summary="Read the newest sample of each series",
        parts=_PARTS,
        query=LatestQuery,
        replies={200: Reply("Series, ordered by their labels.", LatestReply)},
        problems=(404,),
        examples=(
            Example(
                name="Of a counter",
                status=200,
                path=_ORDERS,
                answer={
                    "name": "orders_total",
                    "type": "counter",
                    "series": [
                        {
                            "labels": {"shop": "a"},
                            "timestamp": "2026-11-24T05:02:00.000Z",
                            "value": 40.0,
                        }
                    ],
                    "truncated": False,
                },
            ),
            Example(name="Never written", status=404, path={"name": "unheard_of"}),
        ),
    ),
    Route(
        method="GET",
        path="/aggregate/{name}",
        handler=handle_aggregate,
        tag="Query",
        summary="Compute statistics of a metric",
        description="Count, mean, minimum, maximum, sum and percentiles of all samples in "
        "`[start, end)`. Percentiles are interpolated linearly between ranks. A NaN sample is "
        "counted, and makes all other statistics NaN.",
        parts=_PARTS,
        query=AggregateQuery,
        replies={200: Reply("The statistics of each group.", AggregateReply)},
        problems=(404, 422),
        examples=(
            Example(
                name="By shop",
                status=200,
                path=_ORDERS,
                query={**_RANGE, "group_by": "shop"},
                answer={
                    "name": "orders_total",
                    "type": "counter",
                    "start": "2026-11-24T05:00:00.000Z",
                    "end": "2026-11-24T05:05:00.000Z",
                    "groups": [
                        {
                            "labels": {"shop": "a"},
                            "count": 3,
                            "avg": 25.0,
                            "min": 10.0,
                            "max": 40.0,
                            "sum": 75.0,
                            "p50": 25.0,
                            "p95": 38.5,
                            "p99": 39.7,
                        }
                    ],
                },
            ),
        ),
    ),
    Route(
        method="GET",
        path="/series/{name}",
        handler=handle_series,
        tag="Query",
        summary="Read one value for each time bucket",
        description="A bucket is `[timestamp, timestamp + bucket)`. Buckets are aligned like "
        "SQL's `time_bucket` and clipped to `[start, end)`, so a value equals that of `SELECT "
        "time_bucket(bucket, timestamp), aggregation(value) … GROUP BY 1`. The rate of a counter "
        "is PromQL's `rate` over the bucket. With `aggregation=percentile`, a point has `p50`, "
        "`p95` and `p99` (or the percentiles given in `percentile`) instead of `value`.",
        parts=_PARTS,
        query=SeriesQuery,
        replies={200: Reply("The buckets of each series or group.", SeriesReply)},
        problems=(404, 422),
        examples=(
            Example(
                name="The rate of a counter",
                status=200,
                path=_ORDERS,
                query={**_RANGE, "bucket": "5m"},
            ),
            Example(
                name="The maximum of each minute",
                status=200,
                path=_ORDERS,
                query={**_RANGE, "bucket": "1m", "aggregation": "max", "fill": "previous"},
            ),
            Example(
                name="Percentiles",
                status=200,
                path=_ORDERS,
                query={**_RANGE, "bucket": "1h", "percentile": "50,95"},
                answer={
                    "name": "orders_total",
                    "type": "counter",
                    "aggregation": "percentile",
                    "bucket": "1h",
                    "series": [
                        {
                            "labels": {"shop": "a"},
                            "points": [
                                {"timestamp": "2026-11-24T05:00:00.000Z", "p50": 25.0, "p95": 38.5}
                            ],
                        }
                    ],
                    "truncated": False,
                    "warnings": [],
                },
            ),
        ),
    ),
)
