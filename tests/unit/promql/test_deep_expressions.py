"""Expressions as deep as generated dashboards have them; Prometheus 3.5.3 gives these answers.

An exhausted stack of C would end the whole test run here.
"""

from collections.abc import Sequence

import pytest

from promcompat.api.ast_json import expr_json
from promcompat.core.errors import QueryTimeoutError
from promql.ast import Expr, Nested, NumberLiteral, fold, run_nested, walk
from promql.parsing.parser import parse_expr
from tests.support.factories import make_labels
from tests.unit.promql.queries import rows, run, run_range, steps, vector

N = 2_000
SERIES = {
    make_labels("up", job="a"): steps([1.0, 2.0]),
    make_labels("up", job="b"): steps([3.0, 4.0]),
}


def nested(opening: str, closing: str = "", depth: int = N) -> str:
    return opening * depth + "up" + closing * depth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+".join(["up"] * N), [N, 3 * N]),
        ("-".join(["up"] * N), [2 - N, 3 * (2 - N)]),
        ("up" + "+ 1" * N, [1 + N, 3 + N]),
        (" >= ".join(["up"] * N), [1, 3]),
        (" or ".join(["up"] * N), [1, 3]),
        (" and ".join(["up"] * N), [1, 3]),
        ("up" + " unless nope" * N, [1, 3]),
        (nested("(", "+ 1)"), [1 + N, 3 + N]),
        (nested("1 + (", ")"), [1 + N, 3 + N]),
        (nested("-(", ")"), [1, 3]),
        (nested("-"), [1, 3]),
        ("^".join(["up", *["1"] * N]), [1, 3]),
        (nested("abs(", ")"), [1, 3]),
        (nested("sum by (job) (", ")"), [1, 3]),
        (nested("absent(absent(", "))", N // 2), [1]),
        (nested("info(", ")", 500), [1, 3]),
        (nested("last_over_time(", "[1m:1m])", 300), [1, 3]),
    ],
    ids=lambda value: value[:10] if isinstance(value, str) else "",
)
async def test_deep_expression_has_its_value(text: str, expected: Sequence[float]) -> None:
    result = await run(text, SERIES)
    assert [value for _, value in vector(result)] == expected


async def test_deep_expression_at_every_step() -> None:
    result = await run_range("+".join(["up", *["up @ 0"] * N]), SERIES, 2)
    assert [values for _, values in rows(result)] == [[N + 1, N + 2], [3 * N + 3, 3 * N + 4]]


async def test_invariant_chain_is_evaluated_once() -> None:
    result = await run_range("+".join(["up @ 0"] * N), SERIES, 2)
    assert [values for _, values in rows(result)] == [[N, N], [3 * N, 3 * N]]
    assert result.stats.samples_per_step is not None
    assert result.stats.samples_per_step.tolist() == [2 * N, 2 * N]


async def test_chain_of_metrics_reads_each_once() -> None:
    series = {make_labels(f"m{k}", k=str(k)): steps([float(k)]) for k in range(300)}
    result = await run(" or ".join(f"m{k}" for k in [*range(300), *range(300)]), series)
    assert [value for _, value in vector(result)] == [float(k) for k in range(300)]
    assert result.stats.total_samples == 600


async def test_deep_expression_runs_out_of_time() -> None:
    with pytest.raises(QueryTimeoutError):
        await run("+".join(["up"] * 3_000), SERIES, timeout_seconds=0.001)


def test_deep_tree_as_json() -> None:
    leaf = b'{"type":"numberLiteral","val":"1"}'
    assert expr_json(parse_expr("(" * N + "1" + ")" * N)) == (
        b'{"type":"parenExpr","expr":' * N + leaf + b"}" * N
    )
    chain = expr_json(parse_expr("+".join(["1"] * N)))
    assert chain.startswith(b'{"type":"binaryExpr","op":"+","matching":null,"bool":false,"lhs":{')
    assert chain.endswith(b',"rhs":' + leaf + b"}")


def test_walk_is_in_the_order_of_the_text() -> None:
    expr = parse_expr("1 + abs(2 - max_over_time(a[5m:])) or topk(3, b)")
    numbers = [node.value for node in walk(expr) if isinstance(node, NumberLiteral)]
    assert numbers == [1, 2, 3]
    assert next(iter(walk(expr))) is expr


def test_fold_goes_from_the_leaves_up() -> None:
    def depth(_node: Expr, parts: list[int]) -> int:
        return 1 + max(parts, default=0)

    assert fold(parse_expr("1 + (2 * 3)"), depth) == 4
    assert fold(parse_expr("^".join(["1"] * N)), depth) == N


def test_nested_computations_receive_their_results() -> None:
    def count_leaves(depth: int) -> Nested[int, int]:
        if depth <= 0:
            return 1
        left = yield depth - 1
        right = yield depth - 1_000
        return left + right

    assert run_nested(count_leaves, 2_000) == 502_501


def test_error_of_a_nested_computation_ends_all() -> None:
    def failing(n: int) -> Nested[int, int]:
        if n == 0:
            raise ZeroDivisionError
        return (yield n - 1)

    with pytest.raises(ZeroDivisionError):
        run_nested(failing, 5_000)
