"""The engine as a whole: time modifiers, subqueries, limits, results and annotations."""

import asyncio
import math
from collections.abc import Sequence

import numpy as np
import pytest

from promcompat.core.errors import BadDataError, ExecutionError, QueryTimeoutError
from promcompat.core.model import EvalRange, SampleBlock, SeriesSelection
from promcompat.core.ports import CheckBytes, any_bytes
from promql.ast import PositionRange
from promql.engine import Engine, EngineOptions
from promql.parsing.parse_errors import ParseError
from promql.query import Query
from promql.values.annotation_texts import annotation_texts
from promql.values.matrix import Annotations, Matrix, ScalarGrid, StringValue
from tests.support.factories import STALE_NAN, make_labels
from tests.unit.promql.queries import SeriesReader, rows, run, run_range, steps, vector

MINUTE = 60_000
RAMP = {make_labels("m"): steps([float(n) for n in range(31)])}
"""The minutes since 0, at every minute for half an hour."""


def m_at_0(**options: float) -> Query:
    return Query("t", "m", EvalRange.instant(0), **options)


async def at(text: str, minute: float) -> float:
    ((_, value),) = vector(await run(text, RAMP, int(minute * MINUTE)))
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m", 20.0),
        ("m offset 5m", 15.0),
        ("m offset -5m", 25.0),
        ("m @ 60", 1.0),
        ("m @ 600 offset 2m", 8.0),
        ("m offset 2m @ 600", 8.0),
        ("sum_over_time(m[3m])", 57.0),
        ("sum_over_time(m[3m] offset 1m)", 54.0),
        ("sum_over_time(m[3m] @ 300)", 12.0),
        ("sum_over_time(m[3m:1m])", 57.0),
        # 17m30s is at 17: half steps repeat the sample before them.
        ("sum_over_time(m[3m:30s])", 17 + 18 + 18 + 19 + 19 + 20),
        ("sum_over_time(m[3m:])", 57.0),
        ("sum_over_time(m[3m:1m] offset 1m)", 54.0),
        ("sum_over_time(m[3m:1m] @ 300)", 12.0),
        ("sum_over_time((m @ 60)[3m:1m])", 3.0),
        ("max_over_time(sum_over_time(m[2m])[3m:1m] offset 1m)", 37.0),
        ("timestamp(m offset 90s)", 1080.0),
        ("timestamp(m)", 1200.0),
        ("timestamp(-m)", 1200.0),
        ("absent_over_time(nope[5m])", 1.0),
        ("ts_of_last_over_time(vector(1)[3m:1m] @ -60)", 0.0),
    ],
)
async def test_time_modifiers(text: str, expected: float) -> None:
    assert await at(text, 20) == expected


async def test_last_over_time_leaves_a_name_that_is_removed_at_the_end() -> None:
    for func, expected in (("last_over_time", "{}"), ("max_over_time", "{}")):
        text = f"{func}((-m)[2m:1m])"
        result = await run(text, RAMP, 20 * MINUTE, delayed_name_removal=True)
        assert [labels for labels, _ in vector(result)] == [expected]


async def test_subquery_steps_are_multiples_of_the_step_after_the_window_start() -> None:
    # At 20m30s the window (17m30s, 20m30s] holds the multiples 18m, 19m and 20m.
    assert await at("sum_over_time(m[3m:1m])", 20.5) == 57.0
    assert await at("count_over_time(m[3m:2m])", 20.5) == 2.0
    assert vector(await run("count_over_time(m[30s:1h])", RAMP, 20 * MINUTE)) == []


async def test_start_and_end_of_the_query() -> None:
    result = await run_range("m - (m @ start()) + (m @ end())", RAMP, 4)
    assert rows(result) == [("{}", [3.0, 4.0, 5.0, 6.0])]


async def test_lookback_is_left_open_and_stale_markers_end_it() -> None:
    data = {make_labels("m"): [(0, 1.0), (10 * MINUTE, 2.0), (11 * MINUTE, STALE_NAN)]}
    (row,) = [values for _, values in rows(await run_range("m", data, 16))]
    assert row == [1.0] * 5 + [None] * 5 + [2.0] + [None] * 5
    assert vector(await run("count_over_time(m[20m])", data, 15 * MINUTE)) == [("{}", 2.0)]


@pytest.mark.parametrize(("lookback_ms", "is_found"), [(MINUTE, False), (3 * MINUTE, True)])
async def test_lookback_of_one_query(lookback_ms: int, is_found: bool) -> None:
    engine = Engine(SeriesReader(RAMP), EngineOptions())
    query = Query("t", "m", EvalRange.instant(32 * MINUTE), lookback_ms=lookback_ms)
    assert bool(vector(await engine.run(query))) == is_found


async def test_results_by_type() -> None:
    scalar = (await run("1 + 1", {})).value
    assert isinstance(scalar, ScalarGrid)
    assert scalar.values.tolist() == [2.0]
    assert (await run('"text"', {})).value == StringValue("text")
    block = (await run("m[2m]", RAMP, 5 * MINUTE)).value
    assert isinstance(block, SampleBlock)
    assert block.timestamps.tolist() == [4 * MINUTE, 5 * MINUTE]
    block = (await run("(m * 2)[2m:1m]", RAMP, 5 * MINUTE)).value
    assert isinstance(block, SampleBlock)
    assert (block.labels, block.values.tolist()) == ((make_labels(),), [8.0, 10.0])


async def test_range_query_of_a_scalar_is_a_series_without_labels() -> None:
    assert rows(await run_range("time()", {}, 2)) == [("{}", [0.0, 60.0])]


async def test_range_result_is_sorted_by_labels() -> None:
    data = {make_labels("m", n=n): steps([v, v]) for n, v in [("b", 2.0), ("a", 1.0), ("c", 3.0)]}
    result = await run_range("sort_desc(m)", data, 2)
    assert [labels for labels, _ in rows(result)] == [f'{{__name__="m", n="{n}"}}' for n in "abc"]


@pytest.mark.parametrize(("text", "name"), [("m[5m]", "range vector"), ('"x"', "string")])
async def test_range_query_needs_an_instant_vector_or_scalar(text: str, name: str) -> None:
    message = (
        f'^invalid expression type "{name}" for range query, must be Scalar or instant Vector$'
    )
    with pytest.raises(BadDataError, match=message):
        await run_range(text, RAMP, 2)


async def test_parse_errors_pass_through() -> None:
    with pytest.raises(ParseError, match=r"^1:4: parse error"):
        await run("m +", {})


async def test_equal_labels_of_a_range_function_fail_even_if_they_never_meet() -> None:
    data = {make_labels("a_total"): steps([1.0, 2.0]), make_labels("b_total"): [(3_600_000, 1.0)]}
    with pytest.raises(ExecutionError, match="same labelset"):
        await run_range('count_over_time({__name__=~"a_total|b_total"}[1m])', data, 61)


async def test_step_invariant_part_is_repeated() -> None:
    result = await run_range("sum(m @ 120) + m", RAMP, 3)
    assert rows(result) == [("{}", [2.0, 3.0, 4.0])]


@pytest.mark.parametrize("text", ["m", "m + m", "sum_over_time(m[5m])", "vector(1) or m"])
async def test_too_many_samples(text: str) -> None:
    message = "^query processing would load too many samples into memory in query execution$"
    with pytest.raises(ExecutionError, match=message):
        await run_range(text, RAMP, 31, max_samples=30)


async def test_evaluation_stops_when_time_is_up() -> None:
    with pytest.raises(QueryTimeoutError, match=r"^query timed out in expression evaluation$"):
        await run("m", {}, timeout_seconds=1e-9)


class BlockedReader:
    """A SampleReader that answers once `release` is set."""

    def __init__(self) -> None:
        self.was_called = asyncio.Event()
        self.release = asyncio.Event()

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        """See SampleReader."""
        self.was_called.set()
        await self.release.wait()
        return [SampleBlock.empty() for _ in selections]


async def test_slow_storage_times_out() -> None:
    engine = Engine(BlockedReader(), EngineOptions(timeout_seconds=0.01))
    with pytest.raises(QueryTimeoutError, match=r"^query timed out in query execution$"):
        await engine.run(m_at_0())


async def test_queries_wait_for_their_turn_only_so_long() -> None:
    reader = BlockedReader()
    engine = Engine(reader, EngineOptions(max_concurrency=1))
    first = asyncio.create_task(engine.run(m_at_0()))
    await reader.was_called.wait()
    with pytest.raises(QueryTimeoutError, match=r"^query timed out in query queue$"):
        await engine.run(m_at_0(timeout_seconds=0.01))
    reader.release.set()
    assert isinstance((await first).value, Matrix)
    assert isinstance((await engine.run(m_at_0(timeout_seconds=5))).value, Matrix)


async def test_cancelled_query_frees_its_place() -> None:
    reader = BlockedReader()
    engine = Engine(reader, EngineOptions(max_concurrency=1))
    task = asyncio.create_task(engine.run(m_at_0()))
    await reader.was_called.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reader.release.set()
    assert isinstance((await engine.run(m_at_0())).value, Matrix)


async def test_query_may_ask_for_less_time_but_not_for_more() -> None:
    engine = Engine(BlockedReader(), EngineOptions(timeout_seconds=0.01))
    with pytest.raises(QueryTimeoutError):
        await engine.run(m_at_0(timeout_seconds=3600))


async def test_one_selection_for_equal_selectors() -> None:
    reader = SeriesReader(RAMP)
    query = Query("t", "m + m", EvalRange(0, MINUTE, MINUTE))
    await Engine(reader, EngineOptions()).run(query)
    assert len(reader.selections) == 1


async def test_long_evaluation_gives_the_same_in_a_thread() -> None:
    data = {make_labels("m", n=str(n)): steps([1.0] * 100) for n in range(600)}
    result = await run_range("sum(m)", data, 100)
    assert rows(result) == [("{}", [600.0] * 100)]


async def test_statistics() -> None:
    result = await run_range("sum_over_time(m[2m])", RAMP, 3)
    assert result.stats.total_samples == 1 + 2 + 2
    assert set(result.stats.timings_seconds) >= {"execTotalTime", "innerEvalTime"}


def test_annotations_with_equal_texts_merge_and_ten_are_shown() -> None:
    notes = Annotations()
    for number in range(12):
        notes.warn(f"w{number}", PositionRange(4, 6))
    notes.info("same", PositionRange(0, 2))
    notes.info("same", PositionRange(5, 6))
    notes.info("nowhere")
    warnings, infos = annotation_texts(notes, "ab\n\u00e4cd")
    assert warnings[0] == "PromQL warning: w0 (2:3)"
    assert len(warnings) == 11
    assert warnings[-1] == "2 more warning annotations omitted"
    assert infos == ("PromQL info: same (2:4)", "PromQL info: nowhere")


async def test_annotation_of_a_subquery_points_at_the_start_as_in_prometheus() -> None:
    result = await run("1 + rate((m)[5m:1m])", RAMP, 20 * MINUTE)
    assert result.infos == (
        "PromQL info: metric might not be a counter, name does not end in "
        '_total/_sum/_count/_bucket: "m" (1:1)',
    )


async def test_info_adds_labels_of_the_newest_info_series() -> None:
    data = {
        make_labels("m", instance="i", job="j"): steps([1.0, 2.0, 3.0]),
        make_labels("m", instance="other", job="j"): steps([5.0, 5.0, 5.0]),
        make_labels("target_info", instance="i", job="j", version="1"): [(0, 1.0)],
        make_labels("target_info", instance="i", job="j", version="2"): [(2 * MINUTE, 1.0)],
    }
    assert rows(await run_range("info(m)", data, 3)) == [
        ('{__name__="m", instance="i", job="j", version="1"}', [1.0, 2.0, None]),
        ('{__name__="m", instance="i", job="j", version="2"}', [None, None, 3.0]),
        ('{__name__="m", instance="other", job="j"}', [5.0, 5.0, 5.0]),
    ]
    only = await run('info(m, {version=~".+"})', data, MINUTE)
    assert vector(only) == [('{__name__="m", instance="i", job="j", version="1"}', 2.0)]


async def test_nan_is_a_value() -> None:
    (row,) = rows(await run_range("m", {make_labels("m"): steps([math.nan])}, 1))
    assert np.isnan(row[1][0])


@pytest.mark.parametrize(
    ("text", "column"),
    [
        # Always what is inside of the parentheses, also if it has one value for all steps.
        ("quantile((3 - 1), m)", 11),
        ("quantile((2), m @ 60)", 11),
        ("limit_ratio((2), m)", 14),
        ("quantile_over_time((2), m[5m])", 21),
        ("quantile_over_time(((1 + 1)), m[5m])", 22),
        ("quantile_over_time((time()), m[5m])", 21),
        ("quantile_over_time((2), m[5m] @ 60)", 21),
        ("histogram_quantile((2), m)", 21),
        ("histogram_quantile((time()), m)", 21),
        ("histogram_quantile((2), m @ 60)", 21),
    ],
)
async def test_annotations_say_where_an_argument_in_parentheses_is(text: str, column: int) -> None:
    series = {make_labels("m", le="+Inf"): RAMP[make_labels("m")]}
    (warning,) = (await run(text, series, 20 * MINUTE)).warnings
    assert warning.endswith(f"(1:{column})")


@pytest.mark.parametrize("at", ["1e16", "-1e16", "9223372036854775", "-9223372036854775"])
@pytest.mark.parametrize("text", ["m @ {}", "last_over_time(m[5m] @ {})", "rate(m[5m:1m] @ {})"])
async def test_no_samples_at_the_ends_of_time(text: str, at: str) -> None:
    assert vector(await run(text.format(at), RAMP, 20 * MINUTE)) == []


async def test_offsets_of_a_bad_computed_duration_count_bytes() -> None:
    with pytest.raises(BadDataError, match=r"^9:14: duration must be greater than 0$"):
        await run('{"mü"}[1m-2m]'.replace("{", " {"), RAMP)


async def test_the_ends_of_the_range_do_not_count_in_the_parameter_of_an_aggregation() -> None:
    # As in Prometheus 3.5, where `@ start()` and `@ end()` are resolved everywhere but there.
    result = await run_range("quantile(scalar(m @ end()) / 2, m)", RAMP, 4)
    assert [text for text in result.warnings if "got 1.5" in text]
    assert rows(result) == [("{}", [0.0, 1.0, 2.0, math.inf])]


async def test_samples_that_are_to_be_counted_may_not_be_left_out() -> None:
    reader = SeriesReader(RAMP)
    engine = Engine(reader, EngineOptions())
    for counts_samples, reach_ms in ((False, 3 * MINUTE), (True, 0)):
        at = EvalRange.instant(20 * MINUTE)
        query = Query("t", "last_over_time(m[3m])", at, counts_samples=counts_samples)
        result = await engine.run(query)
        (selection,) = reader.selections
        assert selection.hints.reach_ms == reach_ms
        assert result.stats.total_samples == 3


@pytest.mark.parametrize(("end_ms", "warns"), [(MINUTE, False), (2 * MINUTE - 1, True)])
async def test_a_subquery_warns_of_steps_up_to_the_end_of_the_range(
    end_ms: int, warns: bool
) -> None:
    engine = Engine(SeriesReader(RAMP), EngineOptions())
    text = "max_over_time(quantile(time() / 100, m)[30s:10s])"
    result = await engine.run(Query("t", text, EvalRange(0, end_ms, MINUTE)))
    assert any("got 1.1 " in text for text in result.warnings) == warns
