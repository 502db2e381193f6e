"""Long lists in explanations are cut and counted."""

import pytest

from sql.samples.reading.read_explainer import format_parameter, shorten_arrays


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, "7"),
        ("text", "text"),
        ([1, 2, 3, 4, 5], "[1, 2, 3, 4, 5]"),
        (list(range(2000)), "[0, 1, 2, 3, 4, … 2,000 in all]"),
        ([], "[]"),
    ],
)
def test_parameters(value: object, shown: str) -> None:
    assert format_parameter(value) == shown


def test_arrays_of_a_plan() -> None:
    ids = ",".join(map(str, range(1, 1001)))
    plan = f"Index Cond: (series_id = ANY ('{{{ids}}}'::bigint[]))\nFilter: (a = '{{7}}')"
    assert shorten_arrays(plan) == (
        "Index Cond: (series_id = ANY ('{1, 2, 3, 4, 5, … 1,000 in all}'::bigint[]))\n"
        "Filter: (a = '{7}')"
    )
