"""The public keys of an OIDC issuer, fetched in the background; the last good set is kept."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import jwt

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.texts.connection_faults import connection_fault
from promcompat.outgoing.client import system_context

_LOGGER = logging.getLogger(__name__)
_REFRESH_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 10.0
"""Between attempts, whoever wants them: nobody can make us ask the issuer more often."""
_FETCH_SECONDS: Final = 10.0
_MAX_DOCUMENT_BYTES: Final = 1 << 20
_KEY_TYPES: Final = frozenset(("RSA", "EC", "OKP"))
"""Never `oct`: who knows the key of a MAC can sign as well as check."""

Fetch = Callable[[str], Awaitable[Any]]


class IssuerError(Exception):
    """The issuer did not answer, or not with what a discovery or a key set is."""


async def fetch_json(url: str) -> Any:
    """A JSON document of the issuer; no redirects, no proxy, no `.netrc`. Raises IssuerError."""
    timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False, ssl=system_context()) as response,
        ):
            if response.status != 200:
                raise IssuerError(f"{url} answered {response.status}")
            body = await response.content.read(_MAX_DOCUMENT_BYTES + 1)
            while len(body) <= _MAX_DOCUMENT_BYTES and (more := await response.content.readany()):
                body += more
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise IssuerError(f"{url}: {connection_fault(exc)}") from exc
    if len(body) > _MAX_DOCUMENT_BYTES:
        raise IssuerError(f"{url} answered with more than {_MAX_DOCUMENT_BYTES} bytes")
    try:
        return json.loads(body)
    except ValueError as exc:
        raise IssuerError(f"{url} did not answer with JSON") from exc


class IssuerKeys:
    """The keys by their ids (`kid`)."""

    def __init__(
        self,
        issuer: str,
        jwks_url: str = "",
        fetch: Fetch = fetch_json,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `jwks_url`, the issuer's discovery document tells it."""
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def refresh_if_due(self) -> None:
        """Fetch the keys if they are five minutes old, or could not be fetched last time."""
        if self._clock() - self._fetched_at >= _REFRESH_SECONDS:
            await self._refresh()

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key with an id, which is any text that a client sent; None if there is none.

        Only keys that came after the call can say that there is none, as the issuer may have a new
        key at any time. Raises StorageUnavailableError while there are none, because the issuer
        does not answer, or was asked less than the pause before.
        """
        called_at = self._clock()
        if kid not in self._keys:
            await self._refresh()
            if kid not in self._keys and self._fetched_at < called_at:
                raise StorageUnavailableError("the keys of the issuer are not known now; try again")
        return self._keys.get(kid)

    async def _refresh(self) -> None:
        """Fetch the keys, unless that was tried lately: who waited meanwhile has its outcome."""
        async with self._lock:
            if self._clock() - self._tried_at < _PAUSE_SECONDS:
                return
            try:
                self._keys = _keys_of(await self._fetch(await self._key_set_url()))
            except IssuerError as exc:
                fields = {"issuer": self._issuer, "reason": str(exc), "keys": len(self._keys)}
                _LOGGER.warning("the keys of the issuer could not be fetched", extra=fields)
            else:
                self._fetched_at = self._clock()
            finally:
                # After the fetch, which may take as long as the pause.
                self._tried_at = self._clock()

    async def _key_set_url(self) -> str:
        if self._jwks_url:
            return self._jwks_url
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._fetch(url)
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise IssuerError(f"{url} is not about the issuer {self._issuer}")
        found = document.get("jwks_uri")
        if not isinstance(found, str) or not found.startswith(("https://", "http://")):
            raise IssuerError(f"{url} has no jwks_uri")
        if url.lower().startswith("https://") and not found.startswith("https://"):
            raise IssuerError(f"the jwks_uri of {url} is not https")
        return found


def _keys_of(document: Any) -> Mapping[str, jwt.PyJWK]:
    """The keys of a set that can check signatures. Raises IssuerError if there is none."""
    found: dict[str, jwt.PyJWK] = {}
    listed = document.get("keys") if isinstance(document, dict) else None
    for entry in listed if isinstance(listed, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") not in _KEY_TYPES:
            continue
        if entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
            continue
        try:
            found[entry["kid"]] = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            _LOGGER.warning("a key of the issuer cannot be used", extra={"kid": entry["kid"][:200]})
    if not found:
        raise IssuerError("the key set has no key with an id that can check signatures")
    return found
