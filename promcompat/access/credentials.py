"""What a request shows of itself, as clients of every kind send it."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from promcompat.core.errors import UnauthenticatedError

MAX_CREDENTIAL_BYTES: Final = 16_384
_BEARER_SCHEMES: Final = frozenset(("bearer", "token"))
"""InfluxDB's clients write `Token`."""
_KEY_HEADERS: Final = ("DD-API-KEY",)
"""Where Datadog's clients have their key."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A token as text, and the user name that came with it by basic authentication."""

    secret: str = field(repr=False)
    user: str = ""


def read_credential(headers: Mapping[str, str]) -> Credential | None:
    """The credential in the headers of a request, None without one.

    Raises UnauthenticatedError for one that cannot be read, or has a scheme that is not supported.
    """
    text = _text_of(headers, "Authorization")
    if not text:
        keys = (_text_of(headers, name) for name in _KEY_HEADERS)
        return next((Credential(key) for key in keys if key), None)
    scheme, _, rest = text.partition(" ")
    match scheme.lower():
        case known if known in _BEARER_SCHEMES:
            return Credential(rest.strip())
        case "basic":
            return _read_basic(rest.strip())
        case _:
            raise UnauthenticatedError(
                "the Authorization header has a scheme that is not supported; use Bearer with a "
                "token, or Basic with a token as the password"
            )


def _text_of(headers: Mapping[str, str], name: str) -> str:
    """A header's text, empty without one; bytes that are not UTF-8 are lone surrogates in it."""
    text = headers.get(name, "").strip()
    if len(text) > MAX_CREDENTIAL_BYTES:
        raise UnauthenticatedError("the credential is too long")
    if not text.isascii():
        raise UnauthenticatedError("the credential has other characters than ASCII")
    return text


def _read_basic(encoded: str) -> Credential:
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise UnauthenticatedError("the Basic credential is not valid base64 of UTF-8") from exc
    user, colon, password = pair.partition(":")
    if not colon:
        raise UnauthenticatedError("the Basic credential has no colon between user and password")
    return Credential(password, user)
