"""Making, listing and revoking tokens, in the name of a principal."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from promcompat.access.token_table import TokenTable
from promcompat.access.token_text import digest_of, new_token_text
from promcompat.core.access import (
    NewToken,
    Principal,
    Role,
    Token,
    TokenRepository,
    is_reserved_name,
    is_token_name,
)
from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import (
    BadDataError,
    ConflictError,
    FieldFault,
    ForbiddenError,
    InvalidFieldsError,
    NotFoundError,
    StorageUnavailableError,
)
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits
from promcompat.core.tenants import tenant_name_fault

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a new token shall be; `tenants` None: every tenant, `expires_at_ms` None: never."""

    name: str
    roles: frozenset[Role]
    tenants: frozenset[str] | None
    expires_at_ms: int | None = None


class TokenService:
    """The tokens that a principal may see: those of tenants which they have access to."""

    def __init__(
        self,
        repository: TokenRepository,
        table: TokenTable | None,
        max_tokens: int,
        limits: Limits = NO_LIMITS,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`table` is what this process checks requests with; it learns at once of each change.

        `max_tokens` is for all tenants together, `limits` has those of each tenant.
        """
        self._repository = repository
        self._table = table
        self._max_tokens = max_tokens
        self._limits = limits
        self._now_ms = now_ms

    async def create(self, request: TokenRequest, by: Principal) -> tuple[Token, str]:
        """A new token and its text, which cannot be shown again.

        Raises BadDataError for a request that makes no sense, ForbiddenError for more than the
        principal has, ConflictError for a name in use or too many tokens.
        """
        _check(request, by, self._now_ms())
        await self._check_limits(request)
        text = new_token_text()
        new = NewToken(
            name=request.name,
            digest=digest_of(text),
            roles=request.roles,
            tenants=request.tenants,
            expires_at_ms=request.expires_at_ms,
            created_by=by.name,
        )
        token = await self._repository.create(new, self._max_tokens)
        _LOGGER.info("a token was made", extra={"token": token.name, "by": by.name})
        await self._refresh()
        return token, text

    async def _check_limits(self, request: TokenRequest) -> None:
        """What has expired does not count. Concurrent requests may exceed the limit a little."""
        if request.tenants is None:
            return
        now_ms, stored = self._now_ms(), (await self._repository.by_digest()).values()
        tenants_of_valid = [one.tenants or () for one in stored if not one.has_expired(now_ms)]
        for tenant in sorted(request.tenants):
            limit = self._limits.of(tenant).max_tokens
            if 0 < limit <= sum(tenant in tenants for tenants in tenants_of_valid):
                raise ConflictError(self._limits.refuse(tenant, "max_tokens"))

    async def list(self, by: Principal) -> list[Token]:
        """The tokens that the principal may see, in the order in which they were made."""
        found = (await self._repository.by_digest()).values()
        return sorted((token for token in found if _covers(by, token)), key=lambda one: one.id)

    async def revoke(self, token_id: int, by: Principal) -> Token:
        """Make a token useless. Raises NotFoundError if the principal sees no such token."""
        token = next((one for one in await self.list(by) if one.id == token_id), None)
        return await self._revoke(token, f"with the id {token_id}", by)

    async def revoke_named(self, name: str, by: Principal) -> Token:
        """The same for the token with a name."""
        token = next((one for one in await self.list(by) if one.name == name), None)
        return await self._revoke(token, f"named {name!r}", by)

    async def _revoke(self, token: Token | None, wanted: str, by: Principal) -> Token:
        if token is None or not await self._repository.revoke(token.id, by.name):
            raise NotFoundError(f"there is no token {wanted}")
        _LOGGER.info("a token was revoked", extra={"token": token.name, "by": by.name})
        await self._refresh()
        return token

    async def _refresh(self) -> None:
        """Let the table learn of a change; it was made, so if that fails the table learns later."""
        if self._table is not None:
            with suppress(StorageUnavailableError):
                await self._table.refresh()


def _covers(by: Principal, token: Token) -> bool:
    if by.tenants is None:
        return True
    return token.tenants is not None and token.tenants <= by.tenants


def _check(request: TokenRequest, by: Principal, now_ms: int) -> None:
    if is_reserved_name(request.name):
        raise BadDataError(f"the name {request.name} is reserved; choose another one")
    if not is_token_name(request.name):
        raise BadDataError(
            "the name of a token must be 1 to 100 letters, digits and . _ @ -, and begin with a "
            "letter or a digit"
        )
    if not request.roles:
        raise BadDataError("a token needs at least one role")
    if request.tenants is not None and not request.tenants:
        raise BadDataError("a token needs at least one tenant")
    for tenant in sorted(request.tenants or ()):
        if found := tenant_name_fault(tenant):
            raise InvalidFieldsError([FieldFault("tenants", found, "names that tenants can have")])
    if request.expires_at_ms is not None and request.expires_at_ms <= now_ms:
        raise InvalidFieldsError([FieldFault("expires_at", "has passed", "a time in the future")])
    if by.tenants is not None and (request.tenants is None or not request.tenants <= by.tenants):
        raise ForbiddenError("a token cannot have tenants that its maker has no access to")
