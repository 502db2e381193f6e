"""docs/access.md names the role of every route, and no route that does not exist."""

import re
from collections import defaultdict
from pathlib import Path

from promcompat.http.route_roles import NEED_OF_ROUTE, Need

_PAGE = Path(__file__).parents[2] / "docs" / "access.md"
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
