"""The settings of access: who may use the service, by which tokens."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings

from promcompat.configuration.types import LabelList, Names, parse_labels
from promcompat.core.access import Role

_ALGORITHMS = frozenset(
    (
        *(f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)),
        "EdDSA",
    )
)
"""What an issuer may sign with: nothing symmetric, and not `none`."""


class AccessSettings(BaseSettings):
    """Whether credentials are needed, and the OIDC issuer whose tokens count."""

    tenancy: Literal["single", "header"] = Field(
        "single",
        description="single: everything belongs to the tenant `default`. header: every request "
        "names its tenant in X-Scope-OrgID.",
    )
    access: Literal["off", "tokens", "gateway"] = Field(
        "off",
        description="Who may use the service. off: everybody who reaches it. tokens: whoever has a "
        "token (promcompat token create) or a JWT of the OIDC issuer, with the roles and tenants "
        "of that. gateway: everybody who reaches it, because a gateway before it has checked them "
        "and sets the tenant.",
    )
    max_tokens: Annotated[PositiveInt, Field(le=100_000)] = Field(
        1_000,
        description="Most tokens that are not revoked; another one is refused with 409, unless one "
        "of them has expired and gives way.",
    )
    oidc_issuer: str = Field(
        "",
        description="URL of an OIDC issuer whose JWTs are accepted as tokens; equal to the claim "
        "iss. Empty: none.",
    )
    oidc_audience: str = Field(
        "", description="What the claim aud of these JWTs must contain. Required with an issuer."
    )
    oidc_jwks_url: str = Field(
        "",
        description="URL of the issuer's keys. Default: what its discovery document "
        "(/.well-known/openid-configuration) tells.",
    )
    oidc_algorithms: Names = Field(
        ("RS256", "ES256"),
        description="Algorithms that the issuer may sign with, comma-separated: RS, PS and ES with "
        "256, 384 or 512, and EdDSA.",
    )
    oidc_token_type: str = Field(
        "",
        description="The typ that the header of a JWT must have, such as at+jwt; empty for any. "
        "Set it where the issuer marks access tokens, so that ID tokens are not accepted.",
    )
    oidc_name_claim: str = Field(
        "sub", description="Claim with the name that is recorded, with oidc: before it."
    )
    oidc_role_claim: str = Field(
        "roles",
        description="Claim with the roles: a list, or words in a text; dots lead into objects, as "
        "in realm_access.roles.",
    )
    oidc_roles: LabelList = Field(
        "",
        description="The role that each value of that claim means, as value=role,value=role; other "
        "values mean nothing. Required with an issuer.",
    )
    oidc_tenant_claim: str = Field(
        "",
        description="Claim with the name of the tenant, or a list of names. Empty: the tenant "
        "`default`; required with tenancy=header.",
    )

    @field_validator("oidc_issuer", "oidc_jwks_url")
    @classmethod
    def _check_issuer_urls(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must start with https:// or http://")
        return value

    @field_validator("oidc_algorithms")
    @classmethod
    def _check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - _ALGORITHMS)
        if unknown or not value:
            named = ", ".join(unknown) or "an empty list"
            usable = ", ".join(sorted(_ALGORITHMS))
            raise ValueError(f"{named} cannot be used; use some of {usable}")
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _check_roles(cls, value: str) -> str:
        known = {role.value for role in Role}
        for _, role in parse_labels(value):
            if role not in known:
                raise ValueError(f"{role} is not a role; use {', '.join(sorted(known))}")
        return value

    @model_validator(mode="after")
    def _check_issuer(self) -> Self:
        if not self.oidc_issuer:
            return self
        needed = {"oidc_audience": self.oidc_audience, "oidc_roles": self.oidc_roles}
        if self.tenancy == "header":
            needed["oidc_tenant_claim"] = self.oidc_tenant_claim
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ValueError(f"oidc_issuer needs {' and '.join(missing)} too")
        if self.access != "tokens":
            raise ValueError("oidc_issuer needs access=tokens: otherwise nobody is asked for one")
        return self

    @property
    def oidc_role_map(self) -> dict[str, frozenset[Role]]:
        """The roles by the values of the claim."""
        return {value: frozenset((Role(role),)) for value, role in parse_labels(self.oidc_roles)}
