"""Records the changes that commands make in the audit trail."""

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from promcompat.core.audit import MAX_TARGET_LENGTH, AuditEntry, AuditRepository

_DONE: Final = 200
_REFUSED: Final = 400


@asynccontextmanager
async def recorded(
    audit: AuditRepository, command: str, change: str, tenant: str = ""
) -> AsyncIterator[None]:
    """Record a change before the block makes it, and its end: 200, or 400 if it raised.

    The actor is the account of the machine, by its number where it has no name, as in a container.
    Raises StorageUnavailableError.
    """
    entry = AuditEntry(
        actor=f"command:{_account()}",
        tenant=tenant,
        action=command,
        target=change[:MAX_TARGET_LENGTH],
    )
    record_id = await audit.begin(entry)
    try:
        yield
    except Exception:
        await audit.end(record_id, _REFUSED, "")
        raise
    await audit.end(record_id, _DONE, "")


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
