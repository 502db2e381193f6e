"""docs/access.md names the role of every route, and no page a route that does not exist."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from promcompat.http.route_roles import NEED_OF_ROUTE, Need

_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = _DOCS / "access.md"
PAGES = [_DOCS.parent / "README.md", *sorted(_DOCS.rglob("*.md"))]
_ROW = re.compile(r"^\| `/[^`]*` \| [A-Z*, ]+ \| .+ \|$", re.MULTILINE)


def documented_rows() -> list[str]:
    """The rows that the page should have, in the order of paths."""
    methods: dict[tuple[str, Need], list[str]] = defaultdict(list)
    for route, need in NEED_OF_ROUTE.items():
        method, _, path = route.partition(" ")
        methods[path, need].append(method)
    return sorted(
        f"| `{path}` | {', '.join(sorted(found))} | {_need_text(need)} |"
        for (path, need), found in methods.items()
    )


def _need_text(need: Need) -> str:
    role = "none" if need.role is None else f"`{need.role.value}`"
    return f"{role} of all tenants" if need.is_service_wide else role


def test_the_page_has_a_row_for_every_route() -> None:
    assert _ROW.findall(_PAGE.read_text(encoding="utf-8")) == documented_rows()


_NAMED = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`\s?]*)[^`]*`")
_BELOW_NATIVE = "/api/v1/metrics"


def is_route(method: str, path: str) -> bool:
    """Whether there is such a route, at the root or in the native API; `…` stands for any end."""
    wanted = re.sub(r"<\w+>", "{id}", path)
    shape = re.escape(wanted).replace("…", ".*")
    shape = re.sub(r"\\\{[^{}]*\\\}", r"\\{[^/]+\\}", shape)
    pattern = re.compile(rf"({re.escape(_BELOW_NATIVE)})?{shape}")
    return any(
        known.partition(" ")[0] in (method, "*") and pattern.fullmatch(known.partition(" ")[2])
        for known in NEED_OF_ROUTE
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_routes_that_pages_name_exist(page: Path) -> None:
    named = set(_NAMED.findall(page.read_text(encoding="utf-8")))
    assert {route for route in named if not is_route(*route)} == set()
