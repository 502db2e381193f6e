"""Named blocks of SQL, migrations and routines as they lie in the package."""

import re
from collections import defaultdict
from importlib import resources

import pytest

from sql.query_loader import load_migrations, load_queries, load_routines, parse_queries


def test_parse_queries_splits_blocks_and_drops_descriptions() -> None:
    text = "-- one --\n-- First.\n-- More.\nSELECT 1\n\n-- two --\n-- Second.\nSELECT\n    2\n"
    assert parse_queries(text) == {"one": "SELECT 1", "two": "SELECT\n    2"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1\n-- one --\n-- D.\nSELECT 1\n", "before the first"),
        ("-- one --\n-- D.\nSELECT 1\n-- one --\n-- D.\nSELECT 2\n", "twice"),
        ("-- one --\nSELECT 1\n", "no description"),
        ("-- one --\n-- D.\n", "no statement"),
        ("-- one --\n", "no description"),
    ],
)
def test_parse_queries_refuses_unclear_files(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_queries(text)


def test_a_statement_stands_in_one_place() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in (resources.files("sql") / "queries").iterdir():
        group = path.name.removesuffix(".sql")
        for name, statement in load_queries(group).items():
            places[" ".join(statement.split())].append(f"{group}: {name}")
    assert len(places) > 200
    assert [found for found in places.values() if len(found) > 1] == []


def test_migrations_have_ascending_numbers_of_their_own() -> None:
    versions = [migration.version for migration in load_migrations()]
    assert versions == sorted(set(versions))
    assert versions[0] == 1


def test_routines_come_in_order_and_have_distinct_names() -> None:
    routines = load_routines()
    assert [routine.version for routine in routines] == sorted(r.version for r in routines)
    assert len({routine.name for routine in routines}) == len(routines) > 0


def test_few_stored_pages_has_the_statement_of_stored_pages() -> None:
    """One is planned for each COPY, the plan of the other is kept; they must not differ."""
    statement = load_queries("blocks")["stored_pages"]
    [routine] = [one.text for one in load_routines() if "FUNCTION few_stored_pages(" in one.text]
    _, _, function = routine.partition("FUNCTION few_stored_pages(")
    parameters, _, rest = function.partition(") RETURNS TABLE")
    names = re.findall(r"^ +(\w+) ", parameters, re.MULTILINE)
    _, _, body = rest.partition("RETURN QUERY")
    body, _, _ = body.partition(";")
    written = re.sub(r"\$(\d)", lambda found: names[int(found[1]) - 1], statement)
    assert body.split() == written.split()
