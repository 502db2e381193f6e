"""Who checks credentials, by the settings."""

from typing import TYPE_CHECKING

from promcompat.access.access import Access
from promcompat.access.authenticator import Authenticator
from promcompat.access.token_service import TokenService
from promcompat.access.token_table import TokenTable, TokenUses
from promcompat.configuration.settings import Settings
from promcompat.core.limits.tenant_limits import Limits
from promcompat.http.context import DEFAULT_TENANT
from promcompat.telemetry.serving import AccessMetrics
from sql.database.database import Database
from sql.repositories.audit_repository import PostgresAudit
from sql.repositories.token_repository import PostgresTokenRepository

if TYPE_CHECKING:
    from promcompat.access.issuer_tokens import IssuerTokens


def build_access(
    settings: Settings,
    database: Database,
    metrics: AccessMetrics,
    limits: Limits,
    own_secret: str,
) -> Access:
    """The tokens of a database; `own_secret` is what the service shows itself."""
    repository = PostgresTokenRepository(database)
    table, uses = TokenTable(repository), TokenUses(repository)
    database.guard.on_step_back(table.forget)
    issuer = _build_issuer(settings)
    authenticator = Authenticator(
        table, uses, own_secret=own_secret, issuer=issuer, count_failure=metrics.count_failure
    )
    return Access(
        authenticator=authenticator,
        tokens=TokenService(repository, table, settings.max_tokens, limits),
        audit=PostgresAudit(database),
        table=table,
        uses=uses,
        refresh_issuer=None if issuer is None else issuer.refresh_if_due,
    )


def _build_issuer(settings: Settings) -> "IssuerTokens | None":
    if not settings.oidc_issuer:
        return None
    # Late, because the library of JWTs loads one of cryptography, which others need not wait for.
    from promcompat.access.issuer_keys import IssuerKeys
    from promcompat.access.issuer_tokens import IssuerOptions, IssuerTokens

    options = IssuerOptions(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithms=settings.oidc_algorithms,
        token_type=settings.oidc_token_type.lower(),
        name_claim=settings.oidc_name_claim,
        role_claim=settings.oidc_role_claim,
        roles=settings.oidc_role_map,
        tenant_claim=settings.oidc_tenant_claim,
        tenants=frozenset((DEFAULT_TENANT,)),
    )
    return IssuerTokens(options, IssuerKeys(settings.oidc_issuer, settings.oidc_jwks_url))
