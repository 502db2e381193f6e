"""Types of expressions and signatures; the texts of type errors are in `test_parser_errors`."""

import pytest

from promql.ast import AGGREGATIONS, ValueType
from promql.functions.registry import FUNCTIONS
from promql.parsing.parser import parse_expr
from promql.parsing.type_checker import value_type


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("1", ValueType.SCALAR),
        ("-(1 + 5m)", ValueType.SCALAR),
        ("1 < bool 2", ValueType.SCALAR),
        ("time() * pi()", ValueType.SCALAR),
        ("scalar(foo)", ValueType.SCALAR),
        ('"a"', ValueType.STRING),
        ("foo", ValueType.VECTOR),
        ("1 + foo", ValueType.VECTOR),
        ("foo > 1", ValueType.VECTOR),
        ("-(foo and bar)", ValueType.VECTOR),
        ("vector(1)", ValueType.VECTOR),
        ("sum(foo)", ValueType.VECTOR),
        ("foo[5m]", ValueType.MATRIX),
        ("(foo[5m])", ValueType.MATRIX),
        ("foo[5m:1m]", ValueType.MATRIX),
    ],
)
def test_value_type_follows_the_parts(query: str, expected: ValueType) -> None:
    assert value_type(parse_expr(query)) is expected


@pytest.mark.parametrize(
    ("operand", "expected"), [("1", ValueType.SCALAR), ("vector(1)", ValueType.VECTOR)]
)
def test_deep_query_has_a_type(operand: str, expected: ValueType) -> None:
    deep = " + ".join([operand, *["-(1)"] * 5_000])
    assert value_type(parse_expr(deep)) is expected


@pytest.mark.parametrize(
    "query",
    [
        "info(foo, {})",
        'info(foo, {a=""})',
        "round(foo)",
        "hour()",
        'label_join(foo, "a", "b")',
        'label_join(foo, "a", "b", "c", "d", "e")',
        'sort_by_label_desc(foo, "a", "b", "c")',
        "limitk(1, foo) and limit_ratio(-0.5, bar)",
        "foo and ignoring() bar",
        "foo or on(a) bar",
        "foo == bool on(a) group_left(b) bar",
    ],
)
def test_well_typed_query_is_accepted(query: str) -> None:
    assert value_type(parse_expr(query)) is ValueType.VECTOR


def test_every_function_can_be_called_with_its_types() -> None:
    sample = {
        ValueType.VECTOR: "foo",
        ValueType.SCALAR: "1",
        ValueType.STRING: '"a"',
        ValueType.MATRIX: "foo[5m]",
    }
    for function in FUNCTIONS.values():
        args = [sample[arg_type] for arg_type in function.arg_types]
        if function.name == "info":
            args[1] = "{}"
        call = parse_expr(f"{function.name}({', '.join(args)})")
        assert value_type(call) is function.return_type


def test_functions_are_those_of_prometheus() -> None:
    assert len(FUNCTIONS) == 90
    assert len(AGGREGATIONS) == 14
