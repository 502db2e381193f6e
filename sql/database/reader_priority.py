"""Lowers the priority of reads: backends that answer queries run with a higher niceness.

Measured on two cores with four hostile clients: a write spent nine tenths of its time waiting for a
core that read backends occupied. Only for a server of our own on this machine: process ids of any
other server mean nothing here.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

import asyncpg

_LOGGER: Final = logging.getLogger(__name__)
NICENESS: Final = 4
"""Gives four tenths of a busy process' share of the processor. With 10, which gives a tenth, reads
starved on a busy machine: an alert took 13 to 28 times Prometheus' time instead of 3 to 5."""
_PROC: Final = Path("/proc")
_ATTEMPTS: Final = 3
_RETRY_SECONDS: Final = 0.11
"""The kernel accepts one change of a session's niceness per 100 ms from ordinary users."""


async def lower_priority(connection: asyncpg.Connection) -> None:
    """Lower the priority of the process behind a connection; without effect where that fails."""
    process_id: int = connection.get_server_pid()
    if not _is_backend(process_id):
        return
    try:
        os.setpriority(os.PRIO_PROCESS, process_id, NICENESS)
        await _set_session_niceness(process_id)
    except OSError as exc:
        _LOGGER.debug("priority of a reader not lowered", extra={"reason": str(exc)})


def _is_backend(process_id: int) -> bool:
    try:
        return (_PROC / str(process_id) / "comm").read_text().strip() == "postgres"
    except OSError:
        return False


async def _set_session_niceness(process_id: int) -> None:
    """Where the kernel shares the processor among sessions, the niceness of the session counts.

    Each backend leads a session of its own (sched(7), "The autogroup feature").
    """
    path = _PROC / str(process_id) / "autogroup"
    if not path.exists():
        return
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            path.write_text(str(NICENESS))
        except BlockingIOError:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
