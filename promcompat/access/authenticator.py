"""Finds the principal in whose name a request is made, from the credentials it shows."""

import hmac
import logging
from collections.abc import Callable
from typing import Final, Protocol

from cachetools import TTLCache

from promcompat.access.credentials import Credential
from promcompat.access.token_table import TokenTable, TokenUses
from promcompat.access.token_text import digest_of, is_token_text
from promcompat.core.access import OWN_NAME, Principal, Role
from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import UnauthenticatedError

_LOGGER = logging.getLogger(__name__)
_REFUSED: Final = "the credential is not valid"
"""The same for every reason, which only the log has."""
_LOG_PAUSE_SECONDS: Final = 60.0


class TokenVerifier(Protocol):
    """Checks the tokens of an issuer."""

    async def principal(self, text: str) -> Principal:
        """Whom a token is about.

        Raises RefusedTokenError, ForbiddenError for a subject without a role here, and
        StorageUnavailableError when the issuer's keys are not known.
        """


class RefusedTokenError(Exception):
    """A token was checked and is wrong; the message is for the log and for counting."""


class Authenticator:
    """Checks credentials: tokens of the service, those of an issuer, and the process' own one."""

    def __init__(
        self,
        tokens: TokenTable,
        uses: TokenUses,
        *,
        own_secret: str = "",
        issuer: TokenVerifier | None = None,
        count_failure: Callable[[str], None] = lambda reason: None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`own_secret` is what the service shows itself, when it scrapes its own metrics."""
        self._tokens = tokens
        self._uses = uses
        self._own_secret = own_secret.encode()
        self._issuer = issuer
        self._count_failure = count_failure
        self._now_ms = now_ms
        self._logged: TTLCache[tuple[str, str], bool] = TTLCache(1000, _LOG_PAUSE_SECONDS)

    async def principal(self, credential: Credential | None) -> Principal:
        """Whose credential it is.

        Raises UnauthenticatedError for one that was checked and is wrong, ForbiddenError for a
        subject of the issuer who has no role here, and StorageUnavailableError for a credential
        that cannot be checked now.
        """
        if credential is None or not credential.secret:
            raise self._refusal("missing", message="a token is needed: Authorization: Bearer TOKEN")
        text = credential.secret
        if self._own_secret and hmac.compare_digest(text.encode(), self._own_secret):
            return Principal(OWN_NAME, frozenset((Role.READ,)), None)
        if is_token_text(text):
            return await self._principal_of_token(text)
        if self._issuer is not None and text.count(".") == 2:
            return await self._principal_of_issuer(text)
        raise self._refusal("malformed")

    async def _principal_of_token(self, text: str) -> Principal:
        token = await self._tokens.find(digest_of(text))
        if token is None:
            raise self._refusal("unknown")
        now_ms = self._now_ms()
        if token.has_expired(now_ms):
            raise self._refusal("expired", token.name)
        self._uses.note(token.id, now_ms)
        return token.principal

    async def _principal_of_issuer(self, text: str) -> Principal:
        assert self._issuer is not None
        try:
            return await self._issuer.principal(text)
        except RefusedTokenError as exc:
            raise self._refusal("issuer", str(exc)) from exc

    def _refusal(self, reason: str, detail: str = "", message: str = _REFUSED) -> Exception:
        """Count and log a failure, the latter once a minute for each reason and token."""
        self._count_failure(reason)
        if (reason, detail) not in self._logged:
            self._logged[reason, detail] = True
            fields = {"reason": reason, "token": detail} if detail else {"reason": reason}
            _LOGGER.info("a credential was refused", extra=fields)
        return UnauthenticatedError(message)
