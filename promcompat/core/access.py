"""Who may do what: roles, and the principal in whose name a request is made."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol


class Role(Enum):
    """A kind of work that a principal may do. Each route needs one; see `http.route_roles`."""

    WRITE = "write"
    """Store samples, metadata and exemplars."""
    READ = "read"
    """Run queries, and read everything else that the tenant has."""
    EDIT = "edit"
    """Change definitions, rules and silences, and acknowledge alerts."""
    OPERATE = "operate"
    """Approve and cancel remediations, delete and correct samples."""
    ADMIN = "admin"
    """Manage tokens, tenants and limits."""


ALL_ROLES: Final = frozenset(Role)
_INCLUDED: Final = {
    Role.EDIT: frozenset((Role.EDIT, Role.READ)),
    Role.OPERATE: frozenset((Role.OPERATE, Role.READ)),
    Role.ADMIN: ALL_ROLES,
}


def roles_with_included(given: Iterable[Role]) -> frozenset[Role]:
    """The roles and those that they include.

    Who edits or operates must see what that concerns, so both include `read`. An administrator
    could give themselves any role, so `admin` includes all.
    """
    return frozenset(role for one in given for role in _INCLUDED.get(one, frozenset((one,))))


@dataclass(frozen=True, slots=True)
class Principal:
    """In whose name a request is made: a token, an account, or a subject of an OIDC issuer.

    `roles` contains those that the given roles include. `tenants` are the tenants the principal may
    work for; None: every tenant.
    """

    name: str
    roles: frozenset[Role]
    tenants: frozenset[str] | None

    def may_work_for(self, tenant: str) -> bool:
        """Whether the principal has access to a tenant."""
        return self.tenants is None or tenant in self.tenants


ANYBODY: Final = Principal("anonymous", ALL_ROLES, None)
"""The principal of every request while access is not restricted."""

OIDC_PREFIX: Final = "oidc:"
"""Begins the names of subjects of an issuer; names of tokens have no colon."""
OWN_NAME: Final = "promcompat"
"""The principal of the service itself, when it scrapes its own metrics."""
RESERVED_NAMES: Final = frozenset((ANYBODY.name, OWN_NAME))
"""Records tell who did something by the name, so no token may have one of these."""
_TOKEN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that is to be stored.

    `digest` is the SHA-256 of its text, which nobody can be shown again. `tenants` None: every
    tenant. `expires_at_ms` None: never.
    """

    name: str
    digest: bytes
    roles: frozenset[Role]
    tenants: frozenset[str] | None
    expires_at_ms: int | None
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it is stored; times in Unix milliseconds."""

    id: int
    name: str
    roles: frozenset[Role]
    tenants: frozenset[str] | None
    created_by: str
    created_at_ms: int
    expires_at_ms: int | None = None
    last_used_at_ms: int | None = None

    @property
    def principal(self) -> Principal:
        """Whoever shows the token."""
        return Principal(self.name, roles_with_included(self.roles), self.tenants)

    def has_expired(self, now_ms: int) -> bool:
        """Whether the token is no longer valid."""
        return self.expires_at_ms is not None and self.expires_at_ms <= now_ms


class TokenRepository(Protocol):
    """The tokens of a database. Every method raises StorageUnavailableError."""

    async def version(self) -> int:
        """A number that changes whenever a token is made or revoked."""

    async def by_digest(self) -> Mapping[bytes, Token]:
        """Every token that is not revoked, expired ones included."""

    async def create(self, new: NewToken, max_tokens: int) -> Token:
        """Store a token.

        Raises ConflictError when the name is taken, or when there are `max_tokens` already, none of
        which has expired: those that have give way.
        """

    async def revoke(self, token_id: int, revoked_by: str) -> bool:
        """Make a token useless; whether there was one that was not revoked yet."""

    async def note_uses(self, used_at_ms: Mapping[int, int]) -> None:
        """Record when tokens were used, by id; steps of less than a minute are not recorded."""


def is_token_name(name: str) -> bool:
    """Whether a token may have the name."""
    return _TOKEN_NAME.fullmatch(name) is not None and not is_reserved_name(name)


def is_reserved_name(name: str) -> bool:
    """Whether the name, in whatever case, is that of a principal who is no token."""
    return name.lower() in RESERVED_NAMES
