"""Parameters as literals: all of them for a COPY, some for a plan that is kept."""

import numpy as np
import pytest

from sql.database.statements import (
    IdRanges,
    Statement,
    inline_parameters,
    inline_some,
    short_ids,
)


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (None, "NULL"),
        (5, "'5'"),
        (-1.5, "'-1.5'"),
        (True, "'true'"),
        ("it's $1 \\", "'it''s $1 \\'"),
        ([1, -2], "'{1,-2}'"),
        ([], "'{}'"),
        (['a"b', "c\\", "d'e", None], '\'{"a\\"b","c\\\\","d\'\'e",NULL}\''),
    ],
)
def test_value_becomes_a_quoted_literal(value: object, literal: str) -> None:
    assert inline_parameters(Statement("SELECT $1", (value,))) == f"SELECT {literal}"


def test_parameters_are_told_apart_by_their_whole_number() -> None:
    text = inline_parameters(Statement("$1 $10 $2", tuple(range(1, 11))))
    assert text == "'1' '10' '2'"


def test_value_without_a_literal_is_refused() -> None:
    with pytest.raises(TypeError, match="no literal for a bytes"):
        inline_parameters(Statement("$1", (b"x",)))


def test_some_parameters_become_literals_and_the_others_are_numbered_anew() -> None:
    statement = Statement("$1 $2 $3 $4 $3", ("a", 7, "c", None))
    assert inline_some(statement, (2, 4)) == Statement("$1 '7' $2 NULL $2", ("a", "c"))


@pytest.mark.parametrize(
    ("ids", "short"),
    [
        ([], []),
        ([7], [7]),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 2, 3, 4], IdRanges([1], [4])),
        ([1, 3, 5, 7], [1, 3, 5, 7]),
        ([-2, -1, 0, 1, 5, 7, 8, 9, 10, 11, 12, 13], IdRanges([-2, 5, 7], [1, 5, 13])),
    ],
)
def test_neighbouring_ids_become_ranges(ids: list[int], short: object) -> None:
    assert short_ids(np.array(ids, np.int64)) == short
