"""What is kept of the label sets of a block changes no answer, and is not computed again."""

import pickle
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import ExecutionError
from promcompat.core.model import EvalRange, Labels, LabelSets, PartialLabelSets, SampleBlock
from promql.aggregation.grouping import group_series
from promql.budget import QueryBudget
from promql.evaluation.evaluator import EvaluationOptions
from promql.evaluation.stages import QueryText, evaluate_query, parse_query, plan_query
from promql.features import DEFAULT_FEATURES
from promql.values.matrix import Matrix
from tests.support.factories import make_labels

N_SERIES = 60
QUERIES = (
    "rate(x_total[5m])",
    "rate(x_total[5m]) > 0.1",
    "sum by (job) (rate(x_total[5m]))",
    "sum by (instance, job) (x_total)",
    "sum by (none) (x_total)",
    "count without (instance) (x_total)",
    "-x_total",
)


def block_of(labels: list[object]) -> SampleBlock:
    n_samples = 20
    times = np.tile(np.arange(n_samples, dtype=np.int64) * 15_000, len(labels))
    values = np.arange(len(times), dtype=np.float64)
    offsets = np.arange(len(labels) + 1, dtype=np.int64) * n_samples
    return SampleBlock(tuple(labels), times, values, offsets)


def evaluate(text: str, block: SampleBlock) -> Matrix:
    query = QueryText(
        text=text,
        eval_range=EvalRange.instant(285_000),
        is_range=False,
        options=EvaluationOptions(lookback_ms=300_000),
        features=DEFAULT_FEATURES,
        default_subquery_step_ms=60_000,
        trusts_reset_hints=False,
    )
    budget = QueryBudget(time.monotonic() + 60, 1 << 40)
    plan = plan_query(query, parse_query(query, budget))
    value = evaluate_query(query, plan, [block], budget).value
    assert isinstance(value, Matrix)
    return value


@pytest.mark.parametrize("text", QUERIES)
def test_answers_are_those_without_it(text: str) -> None:
    rows = [make_labels("x_total", instance=f"i{n}", job=f"j{n % 3}") for n in range(N_SERIES)]
    plain = block_of(rows)
    kept = SampleBlock(LabelSets(rows), plain.timestamps, plain.values, plain.offsets)
    expected = evaluate(text, plain)
    for _ in range(3):
        found = evaluate(text, kept)
        assert list(found.labels) == list(expected.labels)
        np.testing.assert_array_equal(found.values, expected.values)


def test_series_that_differ_by_name_only_are_refused_each_time() -> None:
    rows = LabelSets([make_labels("x_total", a="1"), make_labels("y_total", a="1")])
    plain = block_of(list(rows))
    block = SampleBlock(rows, plain.timestamps, plain.values, plain.offsets)
    for _ in range(2):
        with pytest.raises(ExecutionError, match="same labelset"):
            evaluate('rate({a="1"}[5m])', block)


def test_groups_are_kept_if_they_are_few() -> None:
    rows = LabelSets(
        make_labels("x", instance=f"i{n}", job=f"j{n % 3}", zone=f"z{n % 2}")
        for n in range(N_SERIES)
    )
    few = group_series(rows, ("job", "zone"), without=False)
    assert group_series(rows, ("zone", "job"), without=False) is few
    many = group_series(rows, ("instance",), without=False)
    assert group_series(rows, ("instance",), without=False) is not many


def test_a_bounded_number_is_kept_and_none_goes_to_another_process() -> None:
    rows = LabelSets([make_labels("x")])
    n_computed = 0

    def compute() -> int:
        nonlocal n_computed
        n_computed += 1
        return n_computed

    first = [rows.kept(number, compute) for number in range(20)]
    again = [rows.kept(number, compute) for number in range(20)]
    n_kept = sum(one == other for one, other in zip(first, again, strict=True))
    assert 0 < n_kept < 10
    copied = pickle.loads(pickle.dumps(rows))
    assert copied == rows
    assert isinstance(copied, LabelSets)
    assert copied.kept(0, lambda: -1) == -1


VALUES = st.sampled_from(["", "1", "2", "3"])


@given(
    rows=st.lists(st.builds(lambda a, b, n: make_labels(n, a=a, b=b), VALUES, VALUES, VALUES)),
    names=st.lists(st.sampled_from(["__name__", "a", "b", "none"]), max_size=3),
    without=st.booleans(),
    is_changed=st.booleans(),
)
def test_partial_label_sets_have_the_groups_of_all(
    rows: list[Labels], names: list[str], without: bool, is_changed: bool
) -> None:
    partial, plain = PartialLabelSets(rows), tuple(rows)
    if is_changed:
        partial = partial.changed(Labels.without_metadata)
        plain = tuple(labels.without_metadata() for labels in rows)
    assert partial == plain
    assert list(partial.distinct) == list(dict.fromkeys(plain))
    assert tuple(partial.distinct[place] for place in partial.place_of) == plain
    found = group_series(partial, names, without)
    expected = group_series(plain, names, without)
    assert list(found.labels) == list(expected.labels)
    assert found.group_of.tolist() == expected.group_of.tolist()
