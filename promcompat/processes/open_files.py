"""The files that a process has open: the standard ones, and room for those of connections.

Beyond the limit of open files the kernel accepts a connection that no program can take: uvloop
closes it without an answer and without a line in the log, and a query finds no connection to the
database.
"""

import logging
import os
import resource
import sys
from contextlib import suppress
from typing import Final

from promcompat.core.errors import PromcompatError

_LOGGER = logging.getLogger(__name__)
_OTHER_FILES: Final = 100
"""Of a process: up to 31 connections to the database, pipes to processes that evaluate, senders of
notifications, sockets and libraries. A service that just started has 34 open."""
_FEWEST_CONNECTIONS: Final = 28
_HOW: Final = "ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of a container"


class OpenFilesError(PromcompatError):
    """The process may have too few files open to serve."""


def open_standard_files() -> None:
    """Open the standard files that whoever started the process closed, without content.

    Otherwise a socket or the database's connection gets the number of standard error, and libuv
    ends a process that closes one of these numbers.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest free number, which is this one.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def raise_open_files(max_connections: int) -> None:
    """Raise the soft limit of open files to the hard one, as programs in Go do.

    Raises OpenFilesError when even that is too low to serve; the message says what
    `max_connections` would need.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # Some systems have a hard limit that nobody may use.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = _limit()
    if limit is not None and limit < _OTHER_FILES + _FEWEST_CONNECTIONS:
        raise OpenFilesError(
            f"cannot serve with a limit of {limit} open files: it has to be "
            f"{_OTHER_FILES + _FEWEST_CONNECTIONS} at least, and {_OTHER_FILES + max_connections} "
            f"for all connections that PROMCOMPAT_MAX_CONNECTIONS allows ({_HOW})"
        )


def allowed_connections(wanted: int) -> int:
    """How many of the `wanted` connections the limit of open files leaves room for.

    Logs a warning if these are fewer than wanted.
    """
    limit = _limit()
    if limit is None or limit >= wanted + _OTHER_FILES:
        return wanted
    allowed = limit - _OTHER_FILES
    _LOGGER.warning(
        "fewer connections than PROMCOMPAT_MAX_CONNECTIONS, by the limit of open files",
        extra={
            "connections": allowed,
            "open_files": limit,
            "open_files_wanted": wanted + _OTHER_FILES,
        },
    )
    return allowed


def _limit() -> int | None:
    """The soft limit of open files; None if there is none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
