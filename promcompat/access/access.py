"""Everything about access in a process, as one value."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from promcompat.access.authenticator import Authenticator
from promcompat.access.token_service import TokenService
from promcompat.access.token_table import TokenTable, TokenUses
from promcompat.core.audit import AuditRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What checks credentials, what makes tokens, the audit trail, and what loops keep fresh.

    `refresh_issuer` is None without an OIDC issuer.
    """

    authenticator: Authenticator
    tokens: TokenService
    audit: AuditRepository
    table: TokenTable
    uses: TokenUses
    refresh_issuer: Callable[[], Awaitable[None]] | None
