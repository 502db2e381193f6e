"""Native histograms in answers to queries: facts of Prometheus' JSON."""

import json

import numpy as np

from promcompat.api.result_json import query_data_parts
from promcompat.core.histograms.columns import histogram_cells
from promcompat.core.model import SampleBlock
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix, QueryResult
from tests.support.factories import make_labels
from tests.support.formats.remote_write import WireHistogram, columns_of
from tests.support.histograms import histogram

EXPONENTIAL = histogram(
    0,
    count=12.5,
    total=-1.5e-7,
    positive=[(0, 1), (1, 0), (2, 4)],
    negative=[(1, 2.5), (2, 3)],
    zero=(0.75, 2),
)
EXPONENTIAL_JSON = {
    "count": "12.5",
    "sum": "-1.5e-07",
    "buckets": [
        [1, "-4", "-2", "3"],
        [1, "-2", "-1", "2.5"],
        [3, "-0.75", "0.75", "2"],
        [0, "0.75", "1", "1"],
        [0, "2", "4", "4"],
    ],
}
CUSTOM = histogram(count=3, total=float("nan"), bounds=[1.0, 1e22], positive=[(0, 1), (2, 2)])
CUSTOM_JSON = {
    "count": "3",
    "sum": "NaN",
    "buckets": [[3, "-Inf", "1", "1"], [0, "1e+22", "+Inf", "2"]],
}
EMPTY = histogram(count=0, total=0)
EMPTY_JSON = {"count": "0", "sum": "0"}
HISTOGRAMS = HistogramColumns.joined([EXPONENTIAL, CUSTOM, EMPTY])


def cell(number: int) -> float:
    found: float = histogram_cells(np.array([number]))[0]
    return found


def answer(result: QueryResult) -> list[dict[str, object]]:
    document = json.loads(b"".join(query_data_parts(result, False)))
    items: list[dict[str, object]] = document["result"]
    return items


def test_an_instant_vector_has_histograms_in_place_of_values() -> None:
    values = np.array([[cell(0)], [1.5], [cell(2)], [cell(1)]])
    labels = tuple(make_labels("m", i=str(i)) for i in range(4))
    matrix = Matrix(labels, values, np.ones((4, 1), bool), np.zeros(4, bool), HISTOGRAMS)
    found = answer(QueryResult(matrix, np.array([1500]), False))
    assert [item["metric"] for item in found] == [dict(one) for one in labels]
    assert found[0]["histogram"] == [1.5, EXPONENTIAL_JSON]
    assert (found[1]["value"], "histogram" in found[1]) == ([1.5, "1.5"], False)
    assert (found[2]["histogram"], "value" in found[2]) == ([1.5, EMPTY_JSON], False)
    assert found[3]["histogram"] == [1.5, CUSTOM_JSON]


def test_a_series_of_both_kinds_has_both_lists_and_others_only_theirs() -> None:
    values = np.array([[cell(1), 1.0, cell(0)], [7.0, 8.0, 9.0], [cell(2), 0.0, 0.0]])
    present = np.array([[True, True, True], [True, False, True], [True, False, False]])
    labels = tuple(make_labels("m", i=str(i)) for i in range(3))
    matrix = Matrix(labels, values, present, np.zeros(3, bool), HISTOGRAMS)
    mixed, floats, only = answer(QueryResult(matrix, np.array([0, 1000, 2000]), True))
    assert mixed["values"] == [[1, "1"]]
    assert mixed["histograms"] == [[0, CUSTOM_JSON], [2, EXPONENTIAL_JSON]]
    assert (floats["values"], "histograms" in floats) == ([[0, "7"], [2, "9"]], False)
    assert (only["histograms"], "values" in only) == ([[0, EMPTY_JSON]], False)


def test_more_histograms_than_are_written_at_once_stay_in_order() -> None:
    n = 600
    columns = HistogramColumns.joined([histogram(count=i, total=i) for i in range(n)])
    values = histogram_cells(np.arange(n)[::-1].copy()).reshape(2, n // 2)
    matrix = Matrix(
        (make_labels("a"), make_labels("b")),
        values,
        np.ones(values.shape, bool),
        np.zeros(2, bool),
        columns,
    )
    times = np.arange(n // 2) * 1000
    found = answer(QueryResult(matrix, times, True))
    counts = [point[1]["count"] for item in found for point in item["histograms"]]  # type: ignore[attr-defined]
    assert counts == [str(i) for i in range(n)][::-1]


def test_raw_samples_of_a_range_selector() -> None:
    stored = columns_of(
        [
            WireHistogram(count=1, zero_count=1, zero_threshold=0.5),
            WireHistogram(count=2, sum=3.0, positive_spans=((1, 1),), positive=(2,)),
        ]
    )
    block = SampleBlock(
        (make_labels("a"), make_labels("b")),
        np.array([0, 1000, 2000]),
        np.array([cell(1), 5.0, cell(0)]),
        np.array([0, 2, 3]),
        histograms=stored,
    )
    first, second = answer(QueryResult(block, np.array([2000]), False))
    assert first["values"] == [[1, "5"]]
    assert first["histograms"] == [[0, {"count": "2", "sum": "3", "buckets": [[0, "1", "2", "2"]]}]]
    assert second["histograms"] == [
        [2, {"count": "1", "sum": "0", "buckets": [[3, "-0.5", "0.5", "1"]]}]
    ]
