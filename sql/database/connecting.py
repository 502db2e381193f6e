"""Connections whose waits are all bounded, and the errors for connections that fail.

A network can be cut without a word: a firewall forgets a connection, a host freezes. TCP by itself
notices after hours, so the kernel is asked to look sooner (`SOCKET_OPTIONS`), and every statement
has an end of its own (`BoundedConnection`), because a frozen server or a proxy still acknowledges.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
from asyncpg.protocol import NO_TIMEOUT

from promcompat.core.errors import (
    DatabaseRefusedError,
    PromcompatError,
    StorageUnavailableError,
)
from sql.query_loader import load_queries

SCHEMA: Final = "promcompat"
"""Where all our tables, views and functions live."""
CONNECT_SECONDS: Final = 10.0
"""How long one attempt to connect may take, name look-up and password exchange included."""
GOODBYE_SECONDS: Final = 2.0
"""How long cancelling a statement, resetting or closing a session may take."""
SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 25_000),
)
"""An unreachable peer is noticed in 25 seconds; options missing on a platform are skipped."""
SESSION_KEEPALIVES: Final = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""The same for the server, which holds the locks of a vanished client until it notices."""
SESSION_DEFAULTS: Final = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    **SESSION_KEEPALIVES,
}
"""What every session of ours sets, as a role or a database may have other defaults."""
NO_TRANSACTION_TIMEOUT: Final = load_queries("database")["no_transaction_timeout"]
"""What every session of ours executes first, and after each reset, for the same reason."""
CONNECT_FAULTS: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ValueError,
)
"""What an attempt to connect may raise; `connect_fault` translates it."""
_INVALID_ADDRESS: Final = (
    "the database URL is not valid; use postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with "
    "special characters in user and password percent-encoded (%2F for /, %40 for @), and an IPv6 "
    "address in brackets"
)
"""It leaves out the URL: parts of one that cannot be parsed may contain the password."""
_FILE_OPTIONS: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_FATAL_LOOK_UPS: Final = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)
}


class WatchedConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection with TCP keepalives."""

    __slots__ = ()

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        """Called by the driver."""
        super().__init__(protocol, transport, *rest)
        _watch(transport.get_extra_info("socket"))

    async def close(self, **options: Any) -> None:
        """End the session, or abort the connection when the server does not answer in time."""
        with suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
            await super().close(**{"timeout": GOODBYE_SECONDS, **_given(options)})


class BoundedConnection(WatchedConnection):
    """A connection on which every statement ends, or raises TimeoutError after its limit.

    Other exchanges (cancelling, introspection of types) are bounded by the driver's
    `command_timeout`, which is set to `GOODBYE_SECONDS` when connecting.
    """

    __slots__ = ("_sending", "idle_since", "limit_seconds")

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        """Called by the driver."""
        super().__init__(protocol, transport, *rest)
        self.limit_seconds = CONNECT_SECONDS
        self.idle_since = 0.0
        self._sending: asyncio.Timeout | None = None

    def cut(self) -> None:
        """Abort the connection, and the statement that is waiting on it."""
        if self._sending is None:
            self.terminate()
        else:
            # The driver would not notice: it is waiting for room in the send buffer.
            self._sending.reschedule(asyncio.get_running_loop().time())

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        """Like the driver's method, within the limit."""
        return await super().execute(query, *args, **self._within_limit(options))

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """Like the driver's method, within the limit."""
        return await super().fetch(query, *args, **self._within_limit(options))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """Like the driver's method, within the limit."""
        return await super().fetchrow(query, *args, **self._within_limit(options))

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """Like the driver's method, within the limit."""
        return await super().fetchval(query, *args, **self._within_limit(options))

    def cursor(self, query: str, *args: Any, **options: Any) -> Any:
        """Like the driver's method, within the limit; each `fetch` of the cursor needs it too."""
        return super().cursor(query, *args, **self._within_limit(options))

    def _within_limit(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"timeout": self.limit_seconds, **_given(options)}

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> Any:
        """Like the driver's method, within the limit.

        The driver's own timeout would cost a task for each 7 kB that arrive.
        """
        async with asyncio.timeout(self.limit_seconds):
            return await super().copy_from_query(query, *args, timeout=NO_TIMEOUT, **options)

    async def copy_to_table(self, table_name: str, **options: Any) -> Any:
        """Like the driver's method, within the limit.

        The driver's own timeout does not end its wait for room in the send buffer.
        """
        try:
            async with asyncio.timeout(self.limit_seconds) as self._sending:
                return await super().copy_to_table(table_name, timeout=NO_TIMEOUT, **options)
        finally:
            self._sending = None


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _watch(connected: Any) -> None:
    if connected is None or connected.family == socket.AF_UNIX:
        return
    for level, name, value in SOCKET_OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            connected.setsockopt(level, option, value)


def describe_place(dsn: str) -> str:
    """Which database an address names, without its password: `database "x" at h:5432 as user "u"`.

    What the address leaves open (to PGHOST and the like) is left out.
    """
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "the database"
    if "@" in parts.path + parts.query + parts.fragment:
        # A password with an unescaped `/`, `?` or `#`, of which the beginning looks like a port.
        return "the database"
    userinfo, _, hosts = parts.netloc.rpartition("@")
    options = parse_qs(parts.query)
    hosts = ",".join(filter(None, [hosts, *options.get("host", ())]))
    user = unquote(userinfo.partition(":")[0]) or _first(options.get("user"))
    name = unquote(parts.path.lstrip("/")) or _first(options.get("dbname"))
    text = f'database "{name}"' if name else "the database"
    if hosts:
        text += f" at {unquote(hosts)}"
    return f'{text} as user "{user}"' if user else text


def _first(values: Sequence[str] | None) -> str:
    return values[0] if values else ""


def connect_fault(exc: BaseException, dsn: str) -> PromcompatError:
    """Our error for a failed attempt to connect to `dsn`.

    DatabaseRefusedError, with the server's words, where trying again cannot help;
    StorageUnavailableError where it can.
    """
    # ClientConfigurationError of the driver is one; errors of certificates are both.
    place = describe_place(dsn)
    if isinstance(exc, ValueError) and not isinstance(exc, OSError):
        # Among the driver's words these name settings and files only; others may have a password.
        said = str(exc).partition("\n")[0]
        is_of_tls = said.startswith(("`ssl", "root certificate file"))
        return DatabaseRefusedError(
            f"cannot use {place}: {said}" if is_of_tls else _INVALID_ADDRESS
        )
    refusal = _missing_file(dsn) if isinstance(exc, FileNotFoundError) else _refusal(exc)
    if refusal is not None:
        said = f" (the server says: {exc})" if isinstance(exc, asyncpg.PostgresError) else ""
        return DatabaseRefusedError(f"cannot use {place}: {refusal}{said}")
    return StorageUnavailableError(f"cannot reach {place}: {_hindrance(exc)}")


def _missing_file(dsn: str) -> str | None:
    """Which file of TLS, of those that an address names, does not exist."""
    options = parse_qs(urlsplit(dsn).query)
    for name in _FILE_OPTIONS:
        path = _first(options.get(name))
        if path and not Path(path).exists():
            return f"{name} in the URL is {path}, and there is no such file"
    return None


def _refusal(exc: BaseException) -> str | None:
    """Why no later attempt can succeed; None if one may."""
    match exc:
        case asyncpg.InvalidPasswordError():
            return "the password is wrong, or the user does not exist"
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "the server does not accept this user from this machine; see its pg_hba.conf"
        case asyncpg.InvalidCatalogNameError():
            return "this database does not exist"
        case asyncpg.InsufficientPrivilegeError():
            return "the user is not allowed to connect to it"
        case asyncpg.UndefinedObjectError() | asyncpg.InvalidParameterValueError():
            return "its URL has an option that the server does not know, or a value it refuses"
        case asyncpg.ProtocolViolationError():
            return _pooler_refusal(str(exc))
        case socket.gaierror() if exc.errno in _FATAL_LOOK_UPS:
            return "there is no host with this name"
        case ssl.SSLCertVerificationError():
            return "the certificate of the server is not trusted; see sslmode and sslrootcert"
        case ConnectionError() if "rejected SSL upgrade" in str(exc):
            return "the server does not offer TLS, which sslmode in the URL requires"
        case _:
            return None


def _pooler_refusal(text: str) -> str:
    if "startup parameter" in text:
        return (
            "a connection pooler (PgBouncer) in front of it rejects our session settings; "
            "connect to PostgreSQL directly"
        )
    return "it is not a PostgreSQL server, or it is a connection pooler without this database"


def _hindrance(exc: BaseException) -> str:
    """Why this attempt failed."""
    match exc:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "no answer"
        case socket.gaierror():
            return "its name cannot be resolved at the moment"
        case asyncpg.CannotConnectNowError():
            return "it is starting up or shutting down"
        case asyncpg.TooManyConnectionsError():
            return "it has no free connection"
        case asyncpg.TargetServerAttributeNotMatched():
            return "none of its hosts matches target_session_attrs"
        case FileNotFoundError():
            return "its socket does not exist"
        case PermissionError():
            return "permission denied, for its socket or a file of TLS that the URL names"
        case ssl.SSLError():
            return f"TLS failed ({exc.reason or exc})"
        case _:
            return "the connection failed"
