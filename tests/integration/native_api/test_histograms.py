"""Native histograms in `latest`, `aggregate`, `series` and the list of samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from promcompat.core.histograms.columns import Histograms, histogram_cells
from promcompat.core.model import Labels
from tests.support.factories import make_batch, make_labels
from tests.support.histograms import histogram_of
from tests.support.services.native_service import NativeClient

pytestmark = pytest.mark.integration

TEN = 1_700_042_400
SPAN = {"start": TEN, "end": TEN + 300}
EDGES = (0.5, 1.0, 2.0, 4.0)
A, B = make_labels("h", host="a"), make_labels("h", host="b")


def powers(factor: int, *, zero: int = 0, hint: int = 0) -> Histograms:
    """`factor` times 1, 0, 2 observations in (0.5,1], (1,2], (2,4], and some around 0."""
    spans = [(0, 1), (1, 1)]
    return histogram_of(
        hint=hint, count=3 * factor + zero, sum_=7.0 * factor, zero_threshold=0.001,
        zero_count=zero, positive_spans=spans, positive=[factor, 2 * factor],
    )  # fmt: skip


async def write(
    native: NativeClient, series: Mapping[Labels, Sequence[tuple[int, float | Histograms]]]
) -> None:
    """Store samples, their times in seconds after ten."""
    samples = [sample for points in series.values() for _, sample in points]
    batch = make_batch(
        {
            labels: [((TEN + at) * 1000, s if isinstance(s, float) else 0.0) for at, s in points]
            for labels, points in series.items()
        }
    )
    pool = [sample for sample in samples if isinstance(sample, Histograms)]
    values = batch.values.copy()
    places = [place for place, sample in enumerate(samples) if isinstance(sample, Histograms)]
    values[places] = histogram_cells(np.arange(len(pool)))
    stored = replace(batch, values=values, histograms=Histograms.joined(pool) if pool else None)
    await native.storage.store.write_batch("default", stored)


def about(wanted: Mapping[str, object]) -> dict[str, object]:
    """What equals this but for the last digits of numbers."""
    return {
        name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        for name, value in wanted.items()
    }


async def test_a_native_histogram_needs_no_definition(native: NativeClient) -> None:
    await write(native, {A: [(30, powers(1)), (270, powers(3))], B: [(270, powers(5, zero=1))]})
    latest = await native.get("/latest/h")
    assert latest["type"] == "histogram"
    assert latest["series"][0] == {
        "labels": {"host": "a"},
        "timestamp": "2023-11-15T10:04:30.000Z",
        "count": 9.0,
        "sum": 21.0,
        "buckets": {"0.5": 0.0, "1": 3.0, "2": 3.0, "4": 9.0, "+Inf": 9.0},
        "quantiles": {
            "0.5": pytest.approx(2 * 2**0.25),
            "0.95": pytest.approx(2 * 2**0.925),
            "0.99": pytest.approx(2 * 2**0.985),
        },
    }
    of_b = {"-0.001": 0.0, "0.001": 1.0, "0.5": 1.0, "1": 6.0, "2": 6.0, "4": 16.0, "+Inf": 16.0}
    assert latest["series"][1]["buckets"] == of_b
    assert (await native.get("/latest/h", limit=1))["truncated"] is True
    of_a, of_other = (await native.get("/aggregate/h", group_by="host", **SPAN))["groups"]
    assert (of_a["count"], of_a["sum"], of_a["avg"], of_a["max"]) == (6, 14.0, 14 / 6, None)
    assert of_a["p50"] == pytest.approx(2 * 2**0.25)
    assert (of_other["count"], of_other["sum"], of_other["p50"]) == (0, 0.0, None)
    await native.get("/series/h", 400, bucket="5m", aggregation="max", **SPAN)


async def test_a_native_histogram_is_answered_as_a_classic_one_of_the_same_observations(
    native: NativeClient,
) -> None:
    """With custom buckets the percentiles are the same ones, resets and groups included."""
    factors = {"a": (2, 5, 1, 4), "b": (1, 2, 3, 9)}
    histograms = {
        make_labels("n", host=host): [
            (60 * k, histogram_of(
                schema=-53, count=6 * factor, sum_=10.0 * factor, bounds=EDGES,
                positive_spans=[(0, 5)], positive=[factor, 0, 2 * factor, 2 * factor, factor],
            )) for k, factor in enumerate(row)
        ] for host, row in factors.items()
    }  # fmt: skip
    counters = {
        make_labels(f"c{suffix}", host=host, **le): [
            (60 * k, float(times * factor)) for k, factor in enumerate(row)
        ]
        for host, row in factors.items()
        for suffix, le, times in (
            *(
                ("_bucket", {"le": bound}, count)
                for bound, count in zip(
                    ("0.5", "1", "2", "4", "+Inf"), (1, 1, 3, 5, 6), strict=True
                )
            ),
            ("_sum", {}, 10),
            ("_count", {}, 6),
        )
    }
    await write(native, {**histograms, **counters})
    for group_by in ({}, {"group_by": "host"}):
        mine, wanted = [
            (await native.get(f"/aggregate/{name}", **SPAN, **group_by))["groups"] for name in "nc"
        ]
        assert len(wanted) == len(group_by) + 1
        for one, other in zip(mine, wanted, strict=True):
            assert one == about(other)
    asked = [{"aggregation": name} for name in ("percentile", "avg", "sum", "count", "rate", "p95")]
    for more in ({}, {"all_series": "true"}, {"group_by": "host"}):
        for how in asked:
            mine, wanted = [
                (await native.get(f"/series/{name}", bucket="2m", **SPAN, **more, **how))["series"]
                for name in "nc"
            ]
            assert wanted
            for one, other in zip(mine, wanted, strict=True):
                assert one["labels"] == other["labels"]
                assert len(one["points"]) == len(other["points"]) > 0
                for point, wanted_point in zip(one["points"], other["points"], strict=True):
                    assert point == about(wanted_point)
    states = [(await native.get(f"/latest/{name}", label="host=b"))["series"] for name in "nc"]
    (state,), (classic,) = states
    assert (state["count"], state["sum"]) == (classic["count"], classic["sum"])
    assert state["buckets"].items() <= {"1": 9.0, **classic["buckets"]}.items()


async def test_classic_series_stand_in_where_there_are_no_native_ones(native: NativeClient) -> None:
    def classic(at: int, count: float) -> dict[Labels, list[tuple[int, float | Histograms]]]:
        parts = ("_bucket", {"le": "+Inf"}), ("_count", {}), ("_sum", {})
        return {make_labels(f"h{part}", host="a", **le): [(at, count)] for part, le in parts}

    for at, count in ((0, 10.0), (60, 20.0)):
        await write(native, classic(at, count))
    await write(native, {A: [(150, powers(1)), (230, powers(2))]})
    answer = await native.get("/series/h", bucket="2m", aggregation="count", **SPAN)
    (series,) = answer["series"]
    first, second = series["points"]
    assert first["value"] > 9
    assert 3 <= second["value"] <= 6
    (group,) = (await native.get("/aggregate/h", **SPAN))["groups"]
    assert group["count"] == 3
    (group,) = (await native.get("/aggregate/h", start=TEN, end=TEN + 120))["groups"]
    assert group["count"] == 10
    (state,) = (await native.get("/latest/h"))["series"]
    assert state["count"] == 6
    await write(native, classic(300, 70.0))
    (state,) = (await native.get("/latest/h"))["series"]
    assert (state["count"], state["quantiles"]) == (70, {})


async def test_lists_have_histograms_beside_numbers(native: NativeClient) -> None:
    await write(native, {A: [(0, 1.5), (60, powers(2, hint=3))], B: [(30, powers(1))]})
    page = await native.get("/", name="h", order="asc", limit=2, **SPAN)
    rest = await native.get("/", name="h", order="asc", cursor=page["next_cursor"])
    first, second, third = (*page["samples"], *rest["samples"])
    assert (first["value"], "histogram" in first) == (1.5, False)
    assert (second["value"], second["histogram"]) == (
        None,
        {
            "schema": 0,
            "count": 3,
            "sum": 7.0,
            "zero_threshold": 0.001,
            "positive_spans": [[0, 1], [1, 1]],
            "positive_counts": [1, 2],
        },
    )
    assert third["histogram"]["counter_reset_hint"] == "gauge"
    # The series of the most recent sample have both kinds; each is shown as what it is.
    await write(native, {make_labels("h", host="0"): [(90, 4.0)]})
    kinds = [sorted(series) for series in (await native.get("/latest/h"))["series"]]
    sample, state = ["labels", "timestamp", "value"], ["buckets", "count", "labels"]
    assert [kind[:3] for kind in kinds] == [sample, state, state]


async def test_the_first_series_by_labels_are_kept_of_many(native: NativeClient) -> None:
    """Whatever the order in which they came, and with what is theirs: floats or histograms."""
    hosts = [f"{n * 7 % 40:02}" for n in range(40)]
    rows: dict[Labels, list[tuple[int, float | Histograms]]] = {
        make_labels("h", host=host): [(30, powers(1 + int(host)) if int(host) % 2 else 0.5)]
        for host in hosts
    }
    await write(native, rows)
    answer = await native.get("/latest/h", limit=5)
    assert answer["truncated"] is True
    found = [(s["labels"]["host"], s.get("value"), s.get("count")) for s in answer["series"]]
    assert found == [
        ("00", 0.5, None), ("01", None, 6.0), ("02", 0.5, None), ("03", None, 12.0),
        ("04", 0.5, None),
    ]  # fmt: skip


async def test_a_series_whose_samples_were_deleted_does_not_say_what_a_metric_is(
    native: NativeClient,
) -> None:
    await write(native, {A: [(30, powers(1)), (270, powers(3))]})
    await write(native, {B: [(30, powers(1))]})
    wrong = {"name": "h", "labels": ["host=b"], "requested_by": "me", "reason": "a test"}
    await native.send("POST", "/corrections/delete", status=200, body=wrong)
    assert (await native.get("/latest/h"))["type"] == "histogram"
    (state,) = (await native.get("/latest/h"))["series"]
    assert state["count"] == 9.0
    (group,) = (await native.get("/aggregate/h", **SPAN))["groups"]
    assert group["count"] == 6
