"""Binary operators: matching, filters, names, and what is refused at which step."""

import math

import pytest

from promcompat.core.errors import ExecutionError
from tests.support.factories import make_labels
from tests.unit.promql.queries import Series, rows, run, run_range, steps, vector

DATA: Series = {
    make_labels("cpu", host="a", mode="idle"): steps([3.0, 4.0]),
    make_labels("cpu", host="a", mode="user"): steps([1.0, 1.0]),
    make_labels("cpu", host="b", mode="idle"): steps([8.0, 6.0]),
    make_labels("role", host="a", role="db"): steps([1.0, 1.0]),
    make_labels("role", host="c", role="web"): steps([1.0, 1.0]),
    make_labels("limit", host="a"): steps([2.0, 5.0]),
    make_labels("limit", host="b"): steps([2.0, 5.0]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limit - on(host) limit", [('{host="a"}', 0.0), ('{host="b"}', 0.0)]),
        ("limit + ignoring(role) role", [('{host="a"}', 3.0)]),
        (
            'cpu{mode="idle"} > ignoring(mode) limit',
            [('{__name__="cpu", host="a"}', 3.0), ('{__name__="cpu", host="b"}', 8.0)],
        ),
        (
            'cpu{mode="idle"} > bool ignoring(mode) limit',
            [('{host="a"}', 1.0), ('{host="b"}', 1.0)],
        ),
        (
            "limit == limit",
            [('{__name__="limit", host="a"}', 2.0), ('{__name__="limit", host="b"}', 2.0)],
        ),
        ("limit == on(__name__, host) limit{host='a'}", [('{__name__="limit", host="a"}', 2.0)]),
        (
            "cpu * on(host) group_left(role) role",
            [
                ('{host="a", mode="idle", role="db"}', 3.0),
                ('{host="a", mode="user", role="db"}', 1.0),
            ],
        ),
        (
            "role * on(host) group_right(role) cpu",
            [
                ('{host="a", mode="idle", role="db"}', 3.0),
                ('{host="a", mode="user", role="db"}', 1.0),
            ],
        ),
        (
            "limit - on(host) group_right() cpu",
            [
                ('{host="a", mode="idle"}', -1.0),
                ('{host="a", mode="user"}', 1.0),
                ('{host="b", mode="idle"}', -6.0),
            ],
        ),
        (
            "limit < on(host) group_right() cpu{mode='idle'}",
            [
                ('{__name__="cpu", host="a", mode="idle"}', 2.0),
                ('{__name__="cpu", host="b", mode="idle"}', 2.0),
            ],
        ),
    ],
)
async def test_matching(text: str, expected: list[tuple[str, float]]) -> None:
    assert vector(await run(text, DATA)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limit * 2", [('{host="a"}', 4.0), ('{host="b"}', 4.0)]),
        ("3 - limit{host='a'}", [('{host="a"}', 1.0)]),
        ("1 < limit{host='a'}", [('{__name__="limit", host="a"}', 2.0)]),
        ("limit{host='a'} != bool 2", [('{host="a"}', 0.0)]),
        ("limit{host='a'} % 1.5", [('{host="a"}', 0.5)]),
        ("limit{host='a'} atan2 0", [('{host="a"}', math.pi / 2)]),
        ("limit{host='a'} ^ -1", [('{host="a"}', 0.5)]),
    ],
)
async def test_vector_and_scalar(text: str, expected: list[tuple[str, float]]) -> None:
    assert vector(await run(text, DATA)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu and on(host) role", ["idle", "user"]),
        ("cpu unless on(host) role", ["idle"]),
        ('cpu{mode="user"} or cpu', ["user", "idle", "idle"]),
        ("cpu and on(missing) role", ["idle", "user", "idle"]),
        ("cpu and missing", []),
        ("cpu unless missing", ["idle", "user", "idle"]),
        ("missing or cpu", ["idle", "user", "idle"]),
    ],
)
async def test_set_operators(text: str, expected: list[str]) -> None:
    found = vector(await run(text, DATA))
    assert [labels.split('mode="')[1].rstrip('"}') for labels, _ in found] == expected


async def test_set_operators_decide_step_by_step() -> None:
    data = {make_labels("a"): steps([1.0, 2.0, 3.0]), make_labels("b"): steps([10.0, 20.0, 30.0])}
    assert rows(await run_range("a > 2 or b", data, 3)) == [
        ('{__name__="a"}', [None, None, 3.0]),
        ('{__name__="b"}', [10.0, 20.0, None]),
    ]


async def test_rows_that_take_turns_become_one_series() -> None:
    data = {
        make_labels("m", h="x", pod="1"): steps([1.0, None]),
        make_labels("m", h="x", pod="2"): steps([None, 2.0]),
    }
    result = await run_range("m + on(h) m", data, 2, lookback_delta_ms=1)
    assert rows(result) == [('{h="x"}', [2.0, 4.0])]
    result = await run_range("m * on(h) group_left(pod) m", data, 2, lookback_delta_ms=1)
    assert rows(result) == [('{h="x", pod="1"}', [1.0, None]), ('{h="x", pod="2"}', [None, 4.0])]


DUPLICATE = (
    'found duplicate series for the match group {host="a"} on the right hand-side of the '
    'operation: [{__name__="cpu", host="a", mode="user"}, {__name__="cpu", host="a", mode="idle"}]'
    ";many-to-many matching not allowed: matching labels must be unique on one side"
)
NOT_EXPLICIT = (
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limit + on(host) cpu", DUPLICATE),
        (
            "cpu + on(host) group_right() limit",
            DUPLICATE.replace("the right hand-side", "the left hand-side"),
        ),
        ("cpu + on(host) limit", NOT_EXPLICIT),
        (
            "cpu + on(host) group_left(mode) limit",
            "multiple matches for labels: grouping labels must ensure unique matches",
        ),
        (
            "cpu * on() group_left(mode) count(cpu)",
            "multiple matches for labels: grouping labels must ensure unique matches",
        ),
    ],
)
async def test_ambiguous_matching_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExecutionError) as caught:
        await run(text, DATA)
    assert str(caught.value) == message


async def test_steps_with_an_empty_side_do_not_fail() -> None:
    assert vector(await run("missing + on(host) cpu", DATA)) == []


async def test_a_filter_does_not_hide_duplicates() -> None:
    assert vector(await run("cpu{mode='idle'} > on(host) limit", DATA)) == [
        ('{host="a"}', 3.0),
        ('{host="b"}', 8.0),
    ]
    with pytest.raises(ExecutionError, match="many-to-one matching must be explicit"):
        await run("cpu > on(host) limit", DATA)


async def test_ambiguity_at_any_step_fails_the_query() -> None:
    data = {
        make_labels("a", x="1"): steps([1.0, 1.0]),
        make_labels("b", x="1", y="1"): steps([1.0, 1.0]),
        make_labels("b", x="1", y="2"): steps([None, 1.0]),
    }
    assert vector(await run("a + on(x) b", data)) == [('{x="1"}', 2.0)]
    with pytest.raises(ExecutionError, match="many-to-many matching not allowed"):
        await run_range("a + on(x) b", data, 2)


async def test_equal_labels_after_the_name_is_gone_are_refused() -> None:
    data = {make_labels("a", x="1"): steps([1.0]), make_labels("b", x="1"): steps([2.0])}
    text = '{__name__=~"a|b"} * 2'
    with pytest.raises(
        ExecutionError, match=r"^vector cannot contain metrics with the same labelset$"
    ):
        await run(text, data)


async def test_names_are_removed_at_the_end_when_removal_is_delayed() -> None:
    data = {make_labels("a", x="1"): steps([1.0]), make_labels("b", x="1"): steps([2.0])}
    kept = await run(
        'label_replace({__name__=~"a|b"} * 2, "n", "$1", "__name__", "(.*)")',
        data,
        delayed_name_removal=True,
    )
    assert vector(kept) == [('{n="a", x="1"}', 2.0), ('{n="b", x="1"}', 4.0)]
    with pytest.raises(
        ExecutionError, match=r"^vector cannot contain metrics with the same labelset$"
    ):
        await run('{__name__=~"a|b"} * 2', data, delayed_name_removal=True)
