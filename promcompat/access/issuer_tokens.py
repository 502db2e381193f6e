"""Checks the JWTs of an OIDC issuer, and makes principals of their claims."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from promcompat.access.authenticator import RefusedTokenError, TokenVerifier
from promcompat.access.issuer_keys import IssuerKeys
from promcompat.core.access import OIDC_PREFIX, Principal, Role, roles_with_included
from promcompat.core.errors import ForbiddenError

LEEWAY_SECONDS: Final = 30
_MAX_NAME_LENGTH: Final = 200
_REQUIRED_CLAIMS: Final = ("exp", "iss", "aud", "sub")
_FAMILIES: Final = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}
"""The algorithms of each type of key, by how their names begin."""
_UNPRINTABLE: Final = re.compile(r"[^\w .@:/+-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerOptions:
    """What tokens of the issuer must be, and how their claims are read.

    `algorithms` are those that are accepted, whatever a token says. `token_type` is the `typ` that
    its header must have, empty for any. `roles` maps values of the claim `role_claim` to roles.
    With an empty `tenant_claim`, every subject has the tenants `tenants`.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    token_type: str = ""
    name_claim: str = "sub"
    role_claim: str
    roles: Mapping[str, frozenset[Role]]
    tenant_claim: str
    tenants: frozenset[str] = frozenset()


class IssuerTokens(TokenVerifier):
    """The tokens of one issuer."""

    def __init__(self, options: IssuerOptions, keys: IssuerKeys) -> None:
        self._options = options
        self._keys = keys

    async def refresh_if_due(self) -> None:
        """Keep the keys fresh."""
        await self._keys.refresh_if_due()

    async def principal(self, text: str) -> Principal:
        """Whom a token is about.

        Raises RefusedTokenError, ForbiddenError for a subject without a role or a tenant here, and
        StorageUnavailableError when the keys of the issuer are not known.
        """
        claims = await self._checked_claims(text)
        options = self._options
        roles = roles_with_included(
            role
            for value in _texts_of(_words_of(_value_at(claims, options.role_claim)))
            for role in options.roles.get(value, ())
        )
        tenants = options.tenants
        if options.tenant_claim:
            tenants = frozenset(_texts_of(_value_at(claims, options.tenant_claim)))
        name = _name_of(claims, options.name_claim)
        if not roles:
            raise ForbiddenError(f"{name} has no role here")
        if not tenants:
            raise ForbiddenError(f"{name} has no tenant here")
        return Principal(name, roles, tenants)

    async def _checked_claims(self, text: str) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(text)
        except jwt.PyJWTError as exc:
            raise RefusedTokenError(f"not a JWT: {exc}") from exc
        key = await self._key_of(header)
        try:
            claims: Mapping[str, Any] = jwt.decode(
                text,
                key.key,
                algorithms=self._algorithms_of(key),
                audience=self._options.audience,
                issuer=self._options.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(_REQUIRED_CLAIMS)},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as exc:
            raise RefusedTokenError(str(exc)) from exc
        return claims

    async def _key_of(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        """The key that a token names; what else its header says of keys (`jku`) is ignored."""
        kid, wanted = header.get("kid"), self._options.token_type
        if header.get("alg") not in self._options.algorithms:
            raise RefusedTokenError("the algorithm is not accepted")
        if "crit" in header:
            raise RefusedTokenError("the header has critical extensions")
        if wanted and str(header.get("typ", "")).lower().removeprefix("application/") != wanted:
            raise RefusedTokenError("the token has another type")
        if not isinstance(kid, str):
            raise RefusedTokenError("the token names no key")
        key = await self._keys.find(kid)
        if key is None:
            raise RefusedTokenError("the issuer has no such key")
        return key

    def _algorithms_of(self, key: jwt.PyJWK) -> list[str]:
        """The accepted algorithms that a key is for."""
        families = _FAMILIES.get(str(key.key_type), ())
        return [name for name in self._options.algorithms if name.startswith(families)]


def _name_of(claims: Mapping[str, Any], claim: str) -> str:
    named = claims.get(claim)
    text = named if isinstance(named, str) and named else str(claims["sub"])
    return OIDC_PREFIX + _UNPRINTABLE.sub("_", text)[:_MAX_NAME_LENGTH]


def _value_at(claims: Mapping[str, Any], path: str) -> Any:
    """The value of a claim, None without one.

    A path with dots, such as `realm_access.roles`, leads into objects, unless a claim has the name.
    """
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    return value


def _words_of(value: Any) -> Any:
    """The words of a text (as in `scope`), or the value itself if it is no text."""
    return value.split() if isinstance(value, str) else value


def _texts_of(value: Any) -> Iterator[str]:
    """A text, or the texts of a list; none of them is empty."""
    items = value if isinstance(value, list) else [value]
    return (item for item in items if item and isinstance(item, str))
