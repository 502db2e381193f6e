"""JSON of tokens."""

from typing import Annotated

from pydantic import Field

from native_api.contract.parameters import StoredText, TimeField
from native_api.contract.route import BodyModel, ReplyModel
from native_api.contract.times import format_optional_time_ms, format_time_ms
from promcompat.access.token_service import TokenRequest
from promcompat.core.access import Role, Token

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


class TokenListReply(ReplyModel):
    """Tokens."""

    tokens: list[TokenReply]
