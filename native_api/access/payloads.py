"""JSON of tokens, of who has them, and of the audit trail."""

from typing import Annotated

from pydantic import Field

from native_api.contract.pages import PageQuery
from native_api.contract.parameters import StoredText, TimeField, TimeParameter
from native_api.contract.route import BodyModel, ReplyModel
from native_api.contract.times import format_optional_time_ms
from promcompat.access.token_service import TokenRequest
from promcompat.core.access import Principal, Role, Token
from promcompat.core.audit import AuditFilter, AuditRecord
from promcompat.core.texts.times import format_time_ms

_TenantName = Annotated[StoredText, Field(min_length=1, max_length=150)]


class TokenPayload(BodyModel):
    """A token that is to be made."""

    name: StoredText = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$",
        description="What the token is for; recorded wherever it does something. No other token "
        "that is not revoked has the name.",
    )
    roles: Annotated[list[Role], Field(min_length=1, max_length=10, strict=False)] = Field(
        description="What the token may do. `edit` and `operate` include `read`, `admin` includes "
        "every role.",
    )
    tenants: Annotated[list[_TenantName], Field(min_length=1, max_length=1000)] | None = Field(
        description="The tenants that the token has access to; null: every tenant.",
    )
    expires_at: TimeField | None = Field(
        None, description="When the token stops being valid. Default: never."
    )

    def to_request(self) -> TokenRequest:
        """What the service makes."""
        return TokenRequest(
            name=self.name,
            roles=frozenset(self.roles),
            tenants=None if self.tenants is None else frozenset(self.tenants),
            expires_at_ms=self.expires_at,
        )


class TokenReply(ReplyModel):
    """A token without its text, which nobody can be shown again."""

    id: int
    name: str
    roles: list[Role]
    tenants: list[str] | None = Field(description="null: every tenant.")
    created_by: str
    created_at: str
    expires_at: str | None = Field(description="null: never.")
    last_used_at: str | None = Field(description="Up to a minute late; null: never used.")

    @classmethod
    def of_token(cls, token: Token) -> "TokenReply":
        """The reply about a token."""
        return cls(
            id=token.id,
            name=token.name,
            roles=sorted(token.roles, key=lambda role: role.value),
            tenants=None if token.tenants is None else sorted(token.tenants),
            created_by=token.created_by,
            created_at=format_time_ms(token.created_at_ms),
            expires_at=format_optional_time_ms(token.expires_at_ms or 0),
            last_used_at=format_optional_time_ms(token.last_used_at_ms or 0),
        )


class NewTokenReply(ReplyModel):
    """A new token."""

    token: str = Field(description="The text of the token; keep it, it is not shown again.")
    about: TokenReply


class WhoAmIReply(ReplyModel):
    """Who makes the request."""

    name: str = Field(description="The name that is recorded for what the request changes.")
    roles: list[Role] = Field(description="With the roles that these include.")
    tenants: list[str] | None = Field(description="null: every tenant.")
    tenant: str = Field(description="The tenant of this request.")

    @classmethod
    def of_principal(cls, principal: Principal, tenant: str) -> "WhoAmIReply":
        """The reply about a principal that asks for a tenant."""
        return cls(
            name=principal.name,
            roles=sorted(principal.roles, key=lambda role: role.value),
            tenants=None if principal.tenants is None else sorted(principal.tenants),
            tenant=tenant,
        )


class TokenListReply(ReplyModel):
    """Tokens."""

    tokens: list[TokenReply]


class AuditQuery(PageQuery):
    """Parameters of the audit trail."""

    actor: StoredText | None = Field(None, description="Only what this token or person did.")
    action: StoredText | None = Field(
        None, description="Only this action, such as `PUT /api/v1/limits`."
    )
    start: TimeParameter | None = Field(None, description="Only from this time on.")
    end: TimeParameter | None = Field(None, description="Only before this time.")
    all_tenants: bool = Field(
        False,
        description="Of every tenant, and what is about the whole service; for who has access to "
        "all tenants.",
    )

    def to_filter(self, tenant: str) -> AuditFilter:
        """What is asked of the trail."""
        return AuditFilter(
            tenant=None if self.all_tenants else tenant,
            actor=self.actor,
            action=self.action,
            start_ms=self.start,
            end_ms=self.end,
        )


class AuditReply(ReplyModel):
    """A change that somebody asked for."""

    id: int
    at: str
    actor: str = Field(
        description="The name of the token, or of the subject of the issuer; the address of the "
        "client while access is not restricted, or `command:` and the account of the machine."
    )
    tenant: str = Field(description="Empty for what is about the whole service.")
    action: str = Field(description="The method and the path of the route, or the command.")
    target: str = Field(description="The path and its parameters.")
    status: int | None = Field(description="Of the answer; null while the outcome is unknown.")
    request: str = Field(description="The beginning of the body, at most 4,096 bytes of it.")

    @classmethod
    def of_record(cls, record: AuditRecord) -> "AuditReply":
        """The reply about a record."""
        return cls(
            id=record.id,
            at=format_time_ms(record.at_ms),
            actor=record.actor,
            tenant=record.tenant,
            action=record.action,
            target=record.target,
            status=record.status,
            request=record.request,
        )


class AuditListReply(ReplyModel):
    """A page of the audit trail, newest first."""

    records: list[AuditReply]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )
