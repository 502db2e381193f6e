"""All tokens of the database in the memory of a process, and when they were last used.

So no request waits for the database, and what nobody made costs at most one short question at a
time, however often it is tried.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from promcompat.core.access import Token, TokenRepository
from promcompat.core.errors import PromcompatError, StorageUnavailableError

MAX_AGE_SECONDS: Final = 5.0
"""How long a token may be used after it was revoked, if the database does not answer. Otherwise
that is the pause of the loop that calls `refresh`."""


class TokenTable:
    """What the database had of tokens a moment ago."""

    def __init__(
        self, repository: TokenRepository, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._version: int | None = None
        self._by_digest: Mapping[bytes, Token] = {}
        self._known_at = float("-inf")
        self._lock = asyncio.Lock()
        self._n_begun = 0
        self._ended = 0
        self._failure: PromcompatError | None = None

    async def refresh(self) -> None:
        """Ask the database, in a question that begins after this call; callers share it.

        Raises StorageUnavailableError.
        """
        wanted = self._n_begun + 1
        async with self._lock:
            # A question whose caller went away did not end: then the next one asks itself.
            if self._ended < wanted:
                self._n_begun += 1
                await self._load()
                self._ended = self._n_begun
            if self._failure is not None:
                raise StorageUnavailableError(f"tokens cannot be checked now: {self._failure}")

    def forget(self) -> None:
        """The database stepped back, so that a known version says nothing."""
        self._version = None
        self._known_at = float("-inf")

    async def find(self, digest: bytes) -> Token | None:
        """The token with a digest, None if there is none.

        Raises StorageUnavailableError when that cannot be known now.
        """
        if self._clock() - self._known_at > MAX_AGE_SECONDS:
            await self.refresh()
        found = self._by_digest.get(digest)
        if found is None:
            # It may have been made since. Without this, its first user would be refused, and a
            # Prometheus would drop what it sent.
            await self.refresh()
            found = self._by_digest.get(digest)
        return found

    async def _load(self) -> None:
        asked_at = self._clock()
        try:
            version = await self._repository.version()
            if version != self._version:
                # The tokens may be newer than the version; then they are read once more.
                self._by_digest = await self._repository.by_digest()
                self._version = version
        except PromcompatError as exc:
            self._failure = exc
            return
        self._failure = None
        self._known_at = asked_at


class TokenUses:
    """The uses of tokens that a process has not written yet; a loop does, in one statement."""

    def __init__(self, repository: TokenRepository) -> None:
        self._repository = repository
        self._used_at_ms: dict[int, int] = {}

    def note(self, token_id: int, now_ms: int) -> None:
        """A token was used just now."""
        self._used_at_ms[token_id] = now_ms

    async def write(self) -> None:
        """Write what has been noted. Raises StorageUnavailableError, and then keeps it."""
        if not self._used_at_ms:
            return
        noted, self._used_at_ms = self._used_at_ms, {}
        try:
            await self._repository.note_uses(noted)
        except BaseException:
            self._used_at_ms = noted | self._used_at_ms
            raise
