"""Making and revoking tokens."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from promcompat.access.token_service import TokenRequest, TokenService
from promcompat.access.token_table import TokenTable
from promcompat.core.access import NewToken, Principal, Role, Token
from promcompat.core.errors import BadDataError, ConflictError, StorageUnavailableError
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits

CHIEF = Principal("chief", frozenset((Role.ADMIN,)), None)


class FailingVersion:
    """Tokens in memory; the database is away whenever the table asks for their version."""

    def __init__(self) -> None:
        self.tokens: dict[bytes, Token] = {}

    async def version(self) -> int:
        raise StorageUnavailableError("down")

    async def by_digest(self) -> Mapping[bytes, Token]:
        return self.tokens

    async def create(self, new: NewToken, max_tokens: int) -> Token:
        token = Token(
            id=1,
            name=new.name,
            roles=new.roles,
            tenants=new.tenants,
            created_by=new.created_by,
            created_at_ms=0,
            expires_at_ms=new.expires_at_ms,
        )
        self.tokens[new.digest] = token
        return token

    async def revoke(self, token_id: int, revoked_by: str) -> bool:
        self.tokens.clear()
        return True

    async def note_uses(self, used_at_ms: Mapping[int, int]) -> None:
        """Never called."""


async def test_a_change_that_was_made_does_not_fail_because_the_table_cannot_learn_of_it() -> None:
    repository = FailingVersion()
    service = TokenService(repository, TokenTable(repository), 10)
    request = TokenRequest(name="t", roles=frozenset((Role.READ,)), tenants=None)
    token, text = await service.create(request, CHIEF)
    assert text
    assert list(repository.tokens.values()) == [token]
    assert await service.revoke_named("t", CHIEF) == token


async def test_a_tenant_has_at_most_as_many_tokens_as_its_limit_says() -> None:
    repository = FailingVersion()
    limits = Limits(SameLimits(TenantLimits(max_tokens=2)))
    service = TokenService(repository, None, 100, limits)

    async def create(name: str, *tenants: str) -> None:
        roles = frozenset((Role.READ,))
        request = TokenRequest(name=name, roles=roles, tenants=frozenset(tenants))
        await service.create(request, CHIEF)

    await create("a", "red")
    await create("b", "red", "blue")
    with pytest.raises(ConflictError, match=r"^the tenant already has 2 tokens"):
        await create("c", "blue", "red")
    await create("d", "blue")


async def test_expired_tokens_do_not_count_towards_the_limit_of_a_tenant() -> None:
    repository, now_ms = FailingVersion(), 1_000
    limits = Limits(SameLimits(TenantLimits(max_tokens=1)))
    service = TokenService(repository, None, 100, limits, lambda: now_ms)

    async def create(name: str, expires_at_ms: int | None) -> None:
        tenants, roles = frozenset(("red",)), frozenset((Role.READ,))
        request = TokenRequest(name=name, roles=roles, tenants=tenants, expires_at_ms=expires_at_ms)
        await service.create(request, CHIEF)

    await create("a", 2_000)
    with pytest.raises(ConflictError, match=r"^the tenant already has 1 tokens"):
        await create("b", None)
    now_ms = 2_000
    await create("b", None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires_at_ms": 1_000}, "expires_at: has passed"),
        ({"expires_at_ms": 0}, "expires_at: has passed"),
        ({"tenants": frozenset(("a b",))}, "tenants: tenant ID contains unsupported character ' '"),
        ({"tenants": frozenset(("",))}, "tenants: tenant ID is empty"),
        ({"tenants": frozenset(("a", ".."))}, r"tenants: tenant ID '\.\.' is not allowed"),
        ({"tenants": frozenset(("a" * 151,))}, "tenants: tenant ID is too long"),
    ],
)
async def test_a_token_that_would_open_nothing_is_not_made(
    changes: dict[str, Any], reason: str
) -> None:
    service = TokenService(FailingVersion(), None, 100, now_ms=lambda: 1_000)
    request = TokenRequest(name="t", roles=frozenset((Role.READ,)), tenants=None)
    with pytest.raises(BadDataError, match=f"^{reason}"):
        await service.create(replace(request, **changes), CHIEF)
    await service.create(replace(request, expires_at_ms=1_001), CHIEF)
