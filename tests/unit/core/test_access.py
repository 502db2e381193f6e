"""Roles and what they include."""

from typing import Any

import pytest

from promcompat.access.token_service import TokenRequest, TokenService
from promcompat.core.access import ALL_ROLES, Principal, Role, is_token_name, roles_with_included
from promcompat.core.errors import BadDataError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ()),
        ((Role.WRITE,), (Role.WRITE,)),
        ((Role.READ,), (Role.READ,)),
        ((Role.EDIT,), (Role.EDIT, Role.READ)),
        ((Role.OPERATE, Role.WRITE), (Role.OPERATE, Role.READ, Role.WRITE)),
        ((Role.ADMIN,), tuple(ALL_ROLES)),
    ],
)
def test_roles_include_others(given: tuple[Role, ...], expected: tuple[Role, ...]) -> None:
    assert roles_with_included(given) == frozenset(expected)


def test_tenants_of_a_principal() -> None:
    one = Principal("one", ALL_ROLES, frozenset(("a",)))
    assert (one.may_work_for("a"), one.may_work_for("b")) == (True, False)
    assert Principal("all", ALL_ROLES, None).may_work_for("b")


@pytest.mark.parametrize("name", ["prometheus-1", "ana@example.org", "A", "0", "x" * 100])
def test_names_of_tokens(name: str) -> None:
    assert is_token_name(name)


@pytest.mark.parametrize("name", ["promcompat", "anonymous", "Anonymous"])
async def test_names_of_others_are_reserved(name: str) -> None:
    assert not is_token_name(name)
    unused: Any = None
    operator = Principal("operator", ALL_ROLES, None)
    request = TokenRequest(name=name, roles=frozenset((Role.READ,)), tenants=None)
    with pytest.raises(BadDataError, match=f"the name {name} is reserved"):
        await TokenService(unused, None, 1).create(request, operator)


@pytest.mark.parametrize("name", ["", "oidc:ana", "a b", "a\n", "-a", "ä", "x" * 101])
def test_what_is_no_name_of_a_token(name: str) -> None:
    assert not is_token_name(name)
