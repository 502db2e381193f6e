"""When tokens were last used, written once a minute in one statement."""

from promcompat.core.access import TokenRepository


class TokenUses:
    """The uses of a process that are not written yet."""

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
