"""How the names of other hosts become addresses."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

_MAX_THREADS: Final = 16


class NameResolver(AbstractResolver):
    """Asks the system for addresses, in threads of its own.

    A name server that does not answer keeps a thread for tens of seconds, longer than a request
    waits for it. In the few threads that all work of a process shares, such names would stop
    everything else.
    """

    def __init__(self) -> None:
        # They end with the resolver.
        self._threads = ThreadPoolExecutor(_MAX_THREADS, "names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError."""
        ask = partial(
            socket.getaddrinfo,
            host,
            port,
            family,
            socket.SOCK_STREAM,
            # No addresses of a version of IP that this machine does not have.
            flags=socket.AI_ADDRCONFIG,
        )
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except UnicodeError as exc:
            # A part of the name is empty or has more than 63 bytes.
            raise socket.gaierror(socket.EAI_NONAME, "this cannot be the name of a host") from exc
        return [_result(host, *one) for one in found]

    async def close(self) -> None:
        """Look up nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _result(
    name: str, family: int, _kind: int, protocol: int, _name: str, address: tuple[Any, ...]
) -> ResolveResult:
    text = str(address[0])
    if family == socket.AF_INET6 and address[3]:
        text = f"{text}%{address[3]}"
    return ResolveResult(
        hostname=name,
        host=text,
        port=int(address[1]),
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
