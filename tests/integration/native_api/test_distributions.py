"""Classic histograms and summaries in `latest`, `aggregate` and `series`."""

from typing import Any

import pytest

from tests.support.services.native_service import NativeClient

pytestmark = pytest.mark.integration

TEN = 1_700_042_400
SPAN = {"start": TEN, "end": TEN + 300}
BUCKETS = {"1": 10, "2": 30, "+Inf": 40}


def scrape(name: str, factor: float, offset: int, **labels: str) -> list[dict[str, Any]]:
    """A scrape of a histogram that has counted `factor` times 40 observations of 60 in all."""
    counters = {f"{name}_sum": 60.0, f"{name}_count": 40.0}
    rows = [(metric, value, {}) for metric, value in counters.items()]
    rows += [(f"{name}_bucket", float(count), {"le": le}) for le, count in BUCKETS.items()]
    return [
        {
            "name": metric,
            "value": value * factor,
            "timestamp": TEN + offset,
            "labels": {**labels, **le},
        }
        for metric, value, le in rows
    ]


async def test_a_classic_histogram_needs_no_definition(native: NativeClient) -> None:
    await native.ingest(
        *scrape("h", 1, 30, host="a"), *scrape("h", 3, 270, host="a"),
        *scrape("h", 5, 30, host="b"), *scrape("h", 6, 270, host="b"),
    )  # fmt: skip
    latest = await native.get("/latest/h")
    assert latest["type"] == "histogram"
    assert latest["series"][0] == {
        "labels": {"host": "a"},
        "timestamp": "2023-11-15T10:04:30.000Z",
        "count": 120.0,
        "sum": 180.0,
        "buckets": {"1": 30.0, "2": 90.0, "+Inf": 120.0},
        "quantiles": {},
    }
    assert [series["labels"]["host"] for series in latest["series"]] == ["a", "b"]
    assert (await native.get("/latest/h", limit=1))["truncated"] is True
    statistics = await native.get("/aggregate/h", group_by="host", **SPAN)
    a, b = statistics["groups"]
    assert (a["count"], a["sum"], a["avg"], a["min"], a["max"]) == (80, 120.0, 1.5, None, None)
    assert (a["p50"], a["p95"], a["p99"]) == pytest.approx((1.5, 2.0, 2.0))
    assert b["count"] == 40
    (whole,) = (await native.get("/aggregate/h", **SPAN))["groups"]
    assert (whole["count"], whole["p50"]) == pytest.approx((120, 1.5))
    answer = await native.get("/series/h", bucket="5m", all_series="true", **SPAN)
    assert (answer["type"], answer["aggregation"]) == ("histogram", "percentile")
    assert answer["series"][0]["points"] == [
        {"timestamp": "2023-11-15T10:00:00.000Z", "p50": pytest.approx(1.5), "p95": 2.0, "p99": 2.0}
    ]
    await native.get("/series/h", 400, bucket="5m", aggregation="min", **SPAN)
    await native.get("/latest/h", 200, label="host=b")


async def test_bounds_count_as_numbers_however_they_are_written(native: NativeClient) -> None:
    # Prometheus 3 writes `1.0` where Prometheus 2 wrote `1`: two series of one bucket.
    def counters(offset: int, le: str, count: int) -> list[dict[str, Any]]:
        bounds = {le: count, "+Inf": count}
        return [
            {"name": "h_bucket", "value": n, "timestamp": TEN + offset, "labels": {"le": bound}}
            for bound, n in bounds.items()
        ]

    for offset, le, count in ((10, "1", 0), (20, "1", 10), (30, "1.0", 10), (40, "1.0", 20)):
        await native.ingest(*counters(offset, le, count))
    (group,) = (await native.get("/aggregate/h", **SPAN))["groups"]
    assert (group["count"], group["p50"], group["p95"]) == pytest.approx((20, 0.5, 0.95))
    for quantile, value in (("0", 1), ("0.5", 5), ("1.0", 9)):
        labels = {"quantile": quantile}
        await native.ingest({"name": "s", "value": value, "timestamp": TEN, "labels": labels})
    for suffix in ("_sum", "_count"):
        await native.ingest({"name": f"s{suffix}", "value": 1, "timestamp": TEN})
    answer = await native.get("/series/s", bucket="5m", percentile="0,50,100", **SPAN)
    (point,) = answer["series"][0]["points"]
    assert (point["p0"], point["p50"], point["p100"]) == (1.0, 5.0, 9.0)


async def test_statistics_of_a_histogram_survive_a_restart_of_its_process(
    native: NativeClient,
) -> None:
    await native.ingest(*scrape("h", 2, 30), *scrape("h", 3, 60), *scrape("h", 1, 90))
    (group,) = (await native.get("/aggregate/h", **SPAN))["groups"]
    # 40 more, then 40 from 0 on.
    assert (group["count"], group["sum"], group["p50"]) == pytest.approx((80, 120.0, 1.5))
    (group,) = (await native.get("/aggregate/h", start=TEN - 300, end=TEN))["groups"]
    assert (group["count"], group["sum"], group["p50"]) == (0, None, None)


@pytest.mark.parametrize("is_defined", [True, False])
async def test_a_summary_has_its_quantiles(native: NativeClient, is_defined: bool) -> None:
    for offset, factor in ((30, 1.0), (270, 2.0)):
        at = {"timestamp": TEN + offset}
        await native.ingest(
            {"name": "s", "value": 0.1 * factor, "labels": {"quantile": "0.5"}, **at},
            {"name": "s", "value": 0.9 * factor, "labels": {"quantile": "0.99"}, **at},
            {"name": "s_sum", "value": 60 * factor, **at},
            {"name": "s_count", "value": 40 * factor, **at},
        )
    if is_defined:
        await native.send("PUT", "/definitions/s", status=201, body={"type": "summary"})
    (state,) = (await native.get("/latest/s"))["series"]
    assert (state["count"], state["sum"], state["buckets"]) == (80, 120, {})
    assert state["quantiles"] == pytest.approx({"0.5": 0.2, "0.99": 1.8})
    (group,) = (await native.get("/aggregate/s", **SPAN))["groups"]
    assert (group["count"], group["avg"], group["p95"]) == (40, 1.5, None)
    assert (group["p50"], group["p99"]) == pytest.approx((0.15, 1.35))
    answer = await native.get("/series/s", bucket="5m", aggregation="percentile", **SPAN)
    (point,) = answer["series"][0]["points"]
    assert (point["p50"], point["p95"], point["p99"]) == pytest.approx((0.15, None, 1.35))
    answer = await native.get("/series/s", bucket="5m", **SPAN)
    assert answer["series"][0]["points"][0]["value"] == pytest.approx(1.5)
    for path in ("/latest/none", "/aggregate/none", "/series/none"):
        await native.get(path, 404)


async def test_samples_beside_counters_of_their_name_are_samples(native: NativeClient) -> None:
    for offset in (0, 60):
        rows = [
            {"name": metric, "value": 1, "timestamp": TEN + offset}
            for metric in ("g", "g_count", "g_sum")
        ]
        await native.ingest(*rows)
    latest = await native.get("/latest/g")
    assert (latest["type"], latest["series"][0]["value"]) == ("gauge", 1.0)
    assert (await native.get("/aggregate/g", **SPAN))["groups"][0]["count"] == 2


async def test_a_summary_may_have_quantiles_alone(native: NativeClient) -> None:
    await native.send("PUT", "/definitions/s", status=201, body={"type": "summary"})
    row = {"name": "s", "value": 0.5, "labels": {"quantile": "0.5"}, "timestamp": TEN}
    await native.ingest(row)
    (state,) = (await native.get("/latest/s"))["series"]
    assert (state["count"], state["quantiles"]) == (None, {"0.5": 0.5})
    (group,) = (await native.get("/aggregate/s", **SPAN))["groups"]
    assert (group["count"], group["p50"], group["p95"]) == (0, 0.5, None)
