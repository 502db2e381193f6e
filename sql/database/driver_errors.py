"""The errors of the driver: which of them pass, and their translation into ours."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from promcompat.core.cancellation import is_cancelled
from promcompat.core.errors import (
    ConnectionLostError,
    PromcompatError,
    QueryTimeoutError,
    StorageUnavailableError,
)

_LOGGER = logging.getLogger(__name__)
UNAVAILABLE: Final = "the database is not available; try again"
CONNECTION_FAULTS: Final = (
    OSError,  # Includes TimeoutError, of the driver and of asyncio.
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # The server became a standby; connecting again finds its successor.
    asyncpg.ReadOnlySQLTransactionError,
    # The server has other prepared statements than the driver knows of: something else used the
    # session, or a migration changed what a statement gives, in the middle of a transaction.
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidCachedStatementError,
)
"""Errors after which the other connections of the pool cannot be trusted either."""
TRANSIENT_ERRORS: Final = (
    *CONNECTION_FAULTS,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ObjectInUseError,
    asyncpg.LockNotAvailableError,
    asyncpg.PostgresSystemError,
)
"""Errors that pass: the sender retries, and nothing is lost."""
DRIVER_ERRORS: Final = (asyncpg.PostgresError, *TRANSIENT_ERRORS)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate driver errors into ours, and log the driver's message.

    A statement that the server cut for its time is QueryTimeoutError; what will pass is
    StorageUnavailableError (ConnectionLostError, where the connection ended); the rest is a fault
    of ours, PromcompatError. In a task that is cancelled they are CancelledError: the end of its
    transaction may have failed.
    """
    try:
        yield
    except DRIVER_ERRORS as exc:
        if is_cancelled():
            raise asyncio.CancelledError from exc
        raise _translation(exc) from exc


def _translation(exc: Exception) -> PromcompatError:
    if isinstance(exc, asyncpg.QueryCanceledError):
        return QueryTimeoutError("query timed out in expression evaluation")
    if not isinstance(exc, TRANSIENT_ERRORS):
        return PromcompatError("the database rejected a statement, see the server log")
    if isinstance(exc, ValueError):  # A parameter the driver could not encode.
        return PromcompatError("a value cannot be stored, see the server log")
    log_fault(exc)
    # After a timeout a read is not repeated: the caller has waited long enough.
    if isinstance(exc, CONNECTION_FAULTS) and not isinstance(exc, TimeoutError):
        return ConnectionLostError(UNAVAILABLE)
    return StorageUnavailableError(UNAVAILABLE)


def log_fault(exc: BaseException) -> None:
    """Log an error after which the database counts as unavailable."""
    _LOGGER.warning("the database is not available", extra={"reason": describe_error(exc)})


def describe_error(exc: BaseException) -> str:
    """What the driver says, for the log."""
    if isinstance(exc, asyncpg.InterfaceError) and exc.__context__ is not None:
        # The end of a transaction only reports a closed connection; its context has the cause.
        return describe_error(exc.__context__)
    if isinstance(exc, TimeoutError):
        return "no response in time"
    state = getattr(exc, "sqlstate", None)
    text = str(exc) or type(exc).__name__
    return f"{text} (SQLSTATE {state})" if state else text
