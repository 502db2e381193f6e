"""Buckets of the native API are those of SQL: `[b, b + width)`, clipped to the range."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.support.services.native_service import NativeClient, unix_time
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

HOUR = 3600
TEN = 1_700_042_400
"""2023-11-15 10:00 UTC, a Wednesday."""

SQL_AGGREGATES = {
    "avg": "avg(value)",
    "sum": "sum(value)",
    "min": "min(value)",
    "max": "max(value)",
    "count": "count(*)::float8",
    "last": "(array_agg(value ORDER BY timestamp DESC))[1]",
    "p50": "percentile_cont(0.5) WITHIN GROUP (ORDER BY value)",
    "p95": "percentile_cont(0.95) WITHIN GROUP (ORDER BY value)",
    "p99": "percentile_cont(0.99) WITHIN GROUP (ORDER BY value)",
    "p99.9": "percentile_cont(0.999) WITHIN GROUP (ORDER BY value)",
}


def sample(value: float, seconds: float, name: str = "m", **labels: str) -> dict[str, object]:
    return {"name": name, "value": value, "timestamp": seconds, "labels": labels}


async def points(native: NativeClient, name: str = "m", **parameters: Any) -> list[tuple[str, Any]]:
    """Time of day and value of each point of the only series."""
    answer = await native.get(f"/series/{name}", **parameters)
    (series,) = answer["series"] or [{"points": []}]
    return [(point["timestamp"][11:16], point["value"]) for point in series["points"]]


async def test_a_bucket_begins_at_its_timestamp_and_ends_before_the_next(
    native: NativeClient,
) -> None:
    await native.ingest(sample(1, TEN), sample(2, TEN + HOUR / 2), sample(4, TEN + HOUR))
    one_hour = {"bucket": "1h", "start": TEN, "end": TEN + HOUR}
    assert await points(native, aggregation="sum", **one_hour) == [("10:00", 3.0)]
    statistics = await native.get("/aggregate/m", start=TEN, end=TEN + HOUR)
    assert statistics["groups"][0]["sum"] == 3.0
    two_hours = {"bucket": "1h", "start": TEN, "end": TEN + HOUR + 0.001}
    assert await points(native, aggregation="sum", **two_hours) == [("10:00", 3.0), ("11:00", 4.0)]


async def test_ranges_at_the_ends_of_time(native: NativeClient) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"
    await native.ingest({"name": "edge", "value": 1, "timestamp": first})
    found = await native.get("/series/edge", start=first, end="0001-01-02T00:00:00Z", bucket="1h")
    points = found["series"][0]["points"]
    assert points == [{"timestamp": "0001-01-01T00:00:00.000Z", "value": 1.0}]
    # Its first bucket would begin before the year 1, which no timestamp can say.
    problem = await native.get("/series/edge", 400, start=first, end=last, bucket="292y")
    assert [found["field"] for found in problem["errors"]] == ["bucket"]
    for path in ("/series/edge", "/aggregate/edge", "/"):
        problem = await native.get(path, 400, start=last)
        assert [found["field"] for found in problem["errors"]] == ["start"]
        problem = await native.get(path, 400, end=first)
        assert [found["field"] for found in problem["errors"]] == ["end"]
    body = {"name": "x", "expr": "up > 1", "end": "0001-01-01T01:00:00Z"}
    trial = await native.send("POST", "/rules/test", status=200, body=body)
    assert trial["start"].startswith("0001-01-01T00:0")


async def test_cut_buckets_hold_the_samples_of_the_range_alone(native: NativeClient) -> None:
    await native.ingest(*(sample(1, TEN + 60 * minute) for minute in range(180)))
    cut = {"bucket": "1h", "aggregation": "sum", "start": TEN + 600, "end": TEN + 2 * HOUR + 900}
    assert await points(native, **cut) == [("10:00", 50.0), ("11:00", 60.0), ("12:00", 15.0)]
    within = {"bucket": "1h", "aggregation": "count", "start": TEN + 600, "end": TEN + 720}
    assert await points(native, **within) == [("10:00", 2.0)]
    # The rate of a part of a bucket is that of this part.
    await native.ingest(*(sample(6.0 * n, TEN + 60 * n, "c") for n in range(60)))
    rate = {"bucket": "1h", "aggregation": "rate", "start": TEN + 600, "end": TEN + 1800}
    ((_, value),) = await points(native, "c", **rate)
    assert value == pytest.approx(0.1)


def random_samples() -> list[dict[str, object]]:
    """Three series over three weeks, dense in two hours, some samples on edges of buckets."""
    random = np.random.default_rng(11)
    start = int(unix_time("1999-12-26T00:00:00+00:00"))
    found = []
    for host, group in (("a", "x"), ("b", "x"), ("c", "y")):
        sparse = start + random.integers(0, 21 * 24, 150) * HOUR
        dense = start + 8 * 24 * HOUR + random.integers(0, 2 * HOUR * 1000, 250) / 1000
        times = np.unique(np.concatenate([sparse, dense]))
        values = np.round(random.lognormal(2, 1.5, len(times)), 3)
        found += [
            sample(float(value), float(seconds), host=host, group=group)
            for value, seconds in zip(values, times, strict=True)
        ]
    return found


RANGES = [
    ("1w", "1999-12-20T00:00:00+00:00", "2000-01-31T00:00:00+00:00"),
    ("1w", "1999-12-29T07:11:13.123+00:00", "2000-01-12T01:02:03+00:00"),
    ("3d", "1999-12-26T00:00:00+00:00", "2000-01-15T12:00:00+00:00"),
    ("1d", "1999-12-31T23:59:59.999+00:00", "2000-01-09T00:00:00.001+00:00"),
    ("7m", "2000-01-03T00:03:00+00:00", "2000-01-03T01:59:00+00:00"),
    ("90s", "2000-01-03T00:00:00+00:00", "2000-01-03T02:00:00+00:00"),
    ("5h", "1999-12-30T00:00:00+00:00", "1999-12-30T00:30:00+00:00"),
]
MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}


async def test_buckets_are_those_of_sql(native: NativeClient, database_url: str) -> None:
    await native.ingest(*random_samples())
    async with connected(database_url) as connection:
        for (bucket, start, end), (name, aggregate), group in product(
            RANGES, SQL_AGGREGATES.items(), (None, "group", "")
        ):
            width = timedelta(milliseconds=int(bucket[:-1]) * MILLISECONDS[bucket[-1]])
            key = {None: "labels::text", "group": "labels ->> 'group'", "": "''"}[group]
            rows = await connection.fetch(
                sql_of(name, aggregate, key),
                width,
                datetime.fromisoformat(start),
                datetime.fromisoformat(end),
            )
            expected: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
            for row in rows:
                expected[row["key"]].append((row["bucket"], row["value"]))
            found = await ours(native, bucket, start, end, name, group)
            where = (bucket, start, end, name, group)
            assert [[at for at, _ in points] for points in found] == [
                [at for at, _ in points] for points in by_key(expected)
            ], where
            assert [value for points in found for _, value in points] == pytest.approx(
                [value for points in by_key(expected) for _, value in points], rel=1e-12
            ), where


def sql_of(name: str, aggregate: str, key: str) -> str:
    inner = (
        "SELECT time_bucket($1::interval, timestamp) AS bucket, {key} AS key, {value} AS value "
        "FROM metrics WHERE name = 'm' AND timestamp >= $2 AND timestamp < $3 GROUP BY {groups}"
    )
    if name != "last":
        return inner.format(key=key, value=aggregate, groups="1, 2") + " ORDER BY 2, 1"
    # The last value of a group is the sum of its series' last values.
    series = inner.format(key=key, value=aggregate, groups="1, 2, labels")
    outer = "SELECT bucket, key, sum(value) AS value FROM ({}) AS s GROUP BY 1, 2 ORDER BY 2, 1"
    return outer.format(series)


def by_key(expected: dict[str, list[tuple[datetime, float]]]) -> list[list[tuple[datetime, float]]]:
    return [expected[key] for key in sorted(expected)]


async def ours(
    native: NativeClient, bucket: str, start: str, end: str, name: str, group: str | None
) -> list[list[tuple[datetime, float]]]:
    aggregation = {"percentile": "99.9"} if name == "p99.9" else {"aggregation": name}
    grouping = {None: {}, "group": {"group_by": "group"}, "": {"all_series": "true"}}[group]
    answer = await native.get(
        "/series/m", bucket=bucket, start=start, end=end, **aggregation, **grouping
    )
    column = name if name == "p99.9" else "value"
    return [
        [(datetime.fromisoformat(point["timestamp"]), point[column]) for point in series["points"]]
        for series in answer["series"]
    ]


async def test_rates_of_buckets_are_promqls_at_their_last_millisecond(
    native: NativeClient,
) -> None:
    await native.send("PUT", "/definitions/c", status=201, body={"type": "counter"})
    counts = [0, 3, 9, 2, 4, 11, 1, 1, 8, 20, 21, 5]
    await native.ingest(*(sample(n, TEN + 47 * i, "c", h="x") for i, n in enumerate(counts)))
    answer = await native.get("/series/c", bucket="5m", start=TEN, end=TEN + 600)
    assert (answer["aggregation"], answer["type"]) == ("rate", "counter")
    expected = await native.prometheus(
        "query_range",
        query="rate(c[5m])", start=f"{TEN + 299.999}", end=f"{TEN + 600}", step="300",
    )  # fmt: skip
    found = [point["value"] for point in answer["series"][0]["points"]]
    assert found == [float(text) for _, text in expected["result"][0]["values"]]
    assert answer["series"][0]["labels"] == {"h": "x"}


async def test_previous_looks_before_the_range_and_never_beyond_now(native: NativeClient) -> None:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    await native.ingest(
        sample(1, (hour - timedelta(hours=5)).timestamp()),
        sample(3, (hour - timedelta(hours=5, minutes=-10)).timestamp()),
        sample(7, (hour - timedelta(hours=2)).timestamp()),
    )
    span = {"bucket": "1h", "start": hour - timedelta(hours=3), "end": hour + timedelta(hours=9)}
    asked = {name: str(value).replace("+00:00", "Z") for name, value in span.items()}
    found = await points(native, fill="previous", **asked)
    assert [value for _, value in found] == [2.0, 7.0, 7.0, 7.0]
    assert [value for _, value in await points(native, fill="null", **asked)] == [
        None, 7.0, None, None,
    ]  # fmt: skip
    assert found[-1][0] == hour.strftime("%H:%M")
    # A series that has samples before the range alone.
    asked["start"] = str(hour).replace("+00:00", "Z")
    assert await points(native, fill="previous", **asked) == [(hour.strftime("%H:%M"), 7.0)]
    assert await points(native, fill="null", **asked) == []


async def test_a_histogram_has_percentiles_unless_told_otherwise(native: NativeClient) -> None:
    await native.send("PUT", "/definitions/raw", status=201, body={"type": "histogram"})
    await native.ingest(*(sample(n, TEN + n, "raw") for n in range(1, 102)))
    span = {"bucket": "5m", "start": TEN, "end": TEN + 300}
    answer = await native.get("/series/raw", **span)
    assert answer["aggregation"] == "percentile"
    assert answer["series"][0]["points"] == [
        {"timestamp": "2023-11-15T10:00:00.000Z", "p50": 51.0, "p95": 96.0, "p99": 100.0}
    ]
    answer = await native.get("/series/raw", percentile=["50,99.9", "50"], **span)
    assert list(answer["series"][0]["points"][0]) == ["timestamp", "p50", "p99.9"]
    assert await points(native, "raw", aggregation="p95", **span) == [("10:00", 96.0)]
    assert await points(native, "raw", aggregation="avg", **span) == [("10:00", 51.0)]
    for bad in ("101", "-1", "x", "50,,95", "1e1", "50;95"):
        await native.get("/series/raw", 400, percentile=bad, **span)
    await native.get("/series/raw", 400, percentile="50", aggregation="avg", **span)
    await native.get("/series/raw", 400, percentile=[str(n) for n in range(21)], **span)
    body = {"type": "gauge", "aggregation": "percentile"}
    await native.send("PUT", "/definitions/g", status=201, body=body)
    await native.ingest(*(sample(n, TEN + n, "g") for n in range(3)))
    assert (await native.get("/series/g", **span))["series"][0]["points"][0]["p50"] == 1.0


async def test_nan_and_infinity_are_values_as_in_sql(
    native: NativeClient, database_url: str
) -> None:
    hours: list[list[float | str]] = [[1, "NaN", 5], [2, "Infinity", 3], ["NaN"], [4, 4]]
    for hour, values in enumerate(hours):
        for minute, value in enumerate(values):
            at = TEN + HOUR * hour + 60 * minute
            await native.ingest({"name": "m", "value": value, "timestamp": at})
    span = {"bucket": "1h", "start": TEN, "end": TEN + 4 * HOUR}
    async with connected(database_url) as connection:
        for name in ("avg", "sum", "min", "count", "last", "p50", "p95"):
            rows = await connection.fetch(
                sql_of("", SQL_AGGREGATES[name], "''"),
                timedelta(hours=1),
                datetime.fromtimestamp(TEN, UTC),
                datetime.fromtimestamp(TEN + 4 * HOUR, UTC),
            )
            found = [float(value) for _, value in await points(native, aggregation=name, **span)]
            expected = [row["value"] for row in rows]
            assert found == pytest.approx(expected, nan_ok=True), name
