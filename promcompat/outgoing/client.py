"""HTTP connections that a policy has looked at, at the moment they are made."""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import cache
from ipaddress import ip_address
from typing import Any, Final, Self

import aiohttp

from promcompat.outgoing.names import NameResolver
from promcompat.outgoing.policy import ANYWHERE, Host, OutgoingPolicy
from promcompat.version import promcompat_version

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)
_HOST: Final[ContextVar[Host | None]] = ContextVar("called_host", default=None)
"""The host that a request calls, while its connection is made."""


@contextmanager
def calling(host: Host) -> Iterator[None]:
    """Connections that are made in the block are for this host."""
    token = _HOST.set(host)
    try:
        yield
    finally:
        _HOST.reset(token)


def client_context(authorities: str | None = None) -> ssl.SSLContext:
    """TLS of a client that trusts these authorities (PEM), or those of the system.

    As Go does, it trusts authorities whose certificates lack the extensions that RFC 5280 wants,
    as those of many organizations. Since Python 3.13 they are refused by default. Raises
    ssl.SSLError and ValueError for authorities that cannot be read.
    """
    context = ssl.create_default_context(cadata=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@cache
def system_context() -> ssl.SSLContext:
    """TLS of a client that trusts the authorities of the system; nobody may change it."""
    return client_context()


def guarded_connector(policy: OutgoingPolicy) -> aiohttp.TCPConnector:
    """A connector that checks the address of each connection before it is made.

    So it does not matter how the address was found: literally, in an unusual form, or by a name
    that is resolved anew each time. A connection is used again only for the host it was made for.
    """

    def open_socket(found: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = found
        policy.check_address(_HOST.get(), ip_address(str(target[0]).partition("%")[0]))
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        resolver=NameResolver(),
        socket_factory=open_socket,
        ssl=system_context(),
        # Whoever calls bounds how much is called at once; hosts that do not answer would otherwise
        # keep all connections from others.
        limit=0,
    )


class GuardedClient:
    """Sends requests that the policy allows. It follows no redirects and uses no proxy.

    Its session is opened by the first request. Receivers see promcompat and its version, unless a
    request says otherwise.
    """

    def __init__(self, policy: OutgoingPolicy = ANYWHERE) -> None:
        self._policy = policy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_reason: object) -> None:
        await self.close()

    @asynccontextmanager
    async def request(
        self, method: str, url: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, for the time of a block; `options` are those of aiohttp.

        Raises BadDataError for a URL that may not be called, aiohttp.ClientError and OSError (such
        as AddressRefusedError) when there is no answer.
        """
        host = self._policy.check_url(url)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=guarded_connector(self._policy),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"promcompat/{promcompat_version()}"},
                timeout=_TIMEOUT,
            )
        with calling(host):
            async with self._session.request(
                method, url, allow_redirects=False, **options
            ) as response:
                yield response

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
