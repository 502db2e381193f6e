"""Reads the bodies of requests for both HTTP APIs, within bounds of size, time and memory.

Work that is linear in the size of a body runs in one of a few threads, so that other requests are
served in the meantime. The bytes of all bodies held in memory are counted.
"""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Final, ParamSpec, TypeVar

from aiohttp import hdrs, web

from promcompat.core.errors import (
    BadDataError,
    OverloadedError,
    PayloadTooLargeError,
    RequestTimeoutError,
)
from promcompat.core.limits.turns import Claim, Turns
from promcompat.core.value_classes import value_class
from promcompat.http.audit import keep_body
from promcompat.http.context import tenant_of, tenant_or_none

P = ParamSpec("P")
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_THREADS: Final = 2
"""More would not be faster: the threads share the interpreter with the event loop."""
_IN_THREAD_FROM_BYTES: Final = 1 << 14
"""Work on fewer bytes is done before a thread would have started."""
_PARSED_LIKE: Final = 8
"""At worst, parsing one byte in Python takes as long as other work on this many bytes."""
_MAX_STALL_SECONDS: Final = 30.0
"""How long a client may pause in the middle of a body. Remote-write senders give up after 30 s
themselves."""
_GZIP_WINDOW: Final = 31
"""zlib's `wbits` for a window of 32 KiB with a gzip header."""
MAX_GZIP_MEMBERS: Final = 10_000
_FIRST_SLICE_BYTES: Final = 512
_LARGEST_SLICE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """`max_held_bytes` bounds all bodies in memory together, compressed and decompressed.

    `read_timeout_seconds` is how long a client may take to send one body.
    """

    max_held_bytes: int
    read_timeout_seconds: float


@dataclass(slots=True)
class HeldBytes:
    """The share of one request in the memory for bodies."""

    bodies: "RequestBodies"
    n_bytes: int = 0

    def take(self, n_bytes: int) -> None:
        """Hold more. Raises OverloadedError when all requests together would hold too much."""
        self.bodies.n_held += n_bytes
        self.n_bytes += n_bytes
        if self.bodies.n_held > self.bodies.limits.max_held_bytes:
            raise OverloadedError("the request bodies in flight take too much memory; try again")

    def give_back(self, n_bytes: int) -> None:
        """Hold less."""
        self.bodies.n_held -= n_bytes
        self.n_bytes -= n_bytes


@dataclass(slots=True)
class RequestBodies:
    """The bodies of all requests of a process.

    Tenants take turns for the threads: while others have requests, the threads of one tenant
    compete with the event loop for a core as one.
    """

    limits: BodyLimits
    n_held: int = 0
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2 * _THREADS, "request-body")
    )
    loop_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by what is called on the event loop, until the next pass of it."""
    _turns: Turns = field(default_factory=lambda: Turns(_THREADS, _THREADS))

    async def read(self, request: web.Request, max_bytes: int) -> bytes:
        """The whole body as it was sent; it counts as held until the request ends.

        Raises PayloadTooLargeError as soon as it is known to be too large, OverloadedError when
        too much is held already, and RequestTimeoutError when it does not arrive in time.
        """
        too_large = PayloadTooLargeError(f"the request body is larger than {max_bytes} bytes")
        if (request.content_length or 0) > max_bytes:
            raise too_large
        if request.content.is_eof():
            # It came with the head, as that of most queries: there is nothing to wait for.
            body = await request.content.readany()
            if len(body) > max_bytes:
                raise too_large
            held_by(request).take(len(body))
            keep_body(request, body)
            return body
        chunks: list[bytes] = []
        size, held = 0, held_by(request)
        ends_at = time.monotonic() + self.limits.read_timeout_seconds
        try:
            while chunk := await next_chunk(request, ends_at - time.monotonic()):
                size += len(chunk)
                if size > max_bytes:
                    raise too_large
                held.take(len(chunk))
                chunks.append(chunk)
        except TimeoutError as exc:
            raise RequestTimeoutError("the request body did not arrive in time") from exc
        body = b"".join(chunks)
        keep_body(request, body)
        return body

    async def read_unpacked(
        self, request: web.Request, max_bytes: int, max_unpacked_bytes: int
    ) -> bytes:
        """The content of a gzip body, unpacked when it is its tenant's turn.

        Raises like `read` and `tenant_of`, and BadDataError if it is not gzip.
        """
        body = await self.read(request, max_bytes)
        threads = self.of(tenant_of(request))
        unpacked = await threads.in_thread(unpack_gzip, body, max_unpacked_bytes)
        held_by(request).take(len(unpacked))
        keep_body(request, unpacked)
        return unpacked

    def of(self, tenant: str) -> "TenantWork":
        """The work of one tenant, which waits for its turn; "": of requests that name none."""
        return TenantWork(self, tenant)

    def note(self, tenant: str) -> None:
        """A tenant has work that needs no thread."""
        self._turns.note(tenant)

    def is_alone(self, tenant: str) -> bool:
        """Whether no other tenant has work, or had some seconds ago."""
        return not self._turns.has_others(tenant)

    async def in_thread(self, tenant: str, work: Callable[[], T]) -> T:
        """Call a function in a thread, once it is the tenant's turn."""
        async with self._turns.turn(Claim(tenant=tenant)):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


@value_class(frozen=True, slots=True)
class TenantWork:
    """The work of one tenant."""

    bodies: RequestBodies
    tenant: str

    async def work(
        self, n_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that processes `n_bytes`; in a thread if that may take long."""
        if n_bytes < _IN_THREAD_FROM_BYTES:
            self.note()
            return function(*args, **kwargs)
        return await self.in_thread(function, *args, **kwargs)

    async def parse(
        self, n_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `work`, for a parser in Python: two bytes may stand for a histogram.

        Even the worst kilobytes of any format take the event loop for less than 20 ms.
        """
        return await self.work(_PARSED_LIKE * n_bytes, function, *args, **kwargs)

    @property
    def is_alone(self) -> bool:
        """Whether no other tenant has work, or had some seconds ago."""
        return self.bodies.is_alone(self.tenant)

    async def on_loop(
        self, n_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function on the event loop that takes a nanosecond a byte at most.

        At most one such call is made in each pass of the loop, so that queries do not wait for
        several.
        """
        self.note()
        if n_bytes < _IN_THREAD_FROM_BYTES:
            return function(*args, **kwargs)
        async with self.bodies.loop_turn:
            result = function(*args, **kwargs)
            await asyncio.sleep(0)
        return result

    def note(self) -> None:
        """The tenant has work that needs no thread."""
        self.bodies.note(self.tenant)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread."""
        return await self.bodies.in_thread(self.tenant, lambda: function(*args, **kwargs))


BODIES = web.AppKey("request_bodies", RequestBodies)
_HELD = web.RequestKey("held_body_bytes", HeldBytes)


def work_of(request: web.Request) -> TenantWork:
    """The work of a request's tenant; of a request that names none, with all such requests."""
    return request.app[BODIES].of(tenant_or_none(request))


def held_by(request: web.Request) -> HeldBytes:
    """The memory a request holds; released by `hold_bodies`."""
    return request[_HELD]


@web.middleware
async def hold_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: the body of a request counts as held until the request is answered."""
    held = HeldBytes(request.app[BODIES])
    request[_HELD] = held
    try:
        return await handler(request)
    finally:
        held.give_back(held.n_bytes)


def media_type(request: web.Request) -> str:
    """The media type of the body in lower case, "" when the header is missing.

    aiohttp's `content_type` parses the parameters too, which takes quadratic time.
    """
    return request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


async def next_chunk(request: web.Request, within_seconds: float = inf) -> bytes:
    """The bytes received so far, at least one; empty at the end.

    Raises TimeoutError if the client pauses too long, or for these seconds, and ConnectionError if
    the connection is closed.
    """
    content = request.content
    # A timer costs more than the chunks that are there already.
    if (received := content.read_nowait()) or content.is_eof():
        return received
    if request.transport is None:  # The client has gone, or gave way to another one.
        raise ConnectionResetError("the connection was closed")
    async with asyncio.timeout(min(_MAX_STALL_SECONDS, within_seconds)):
        return await content.readany()


def unpack_gzip(body: bytes, max_bytes: int) -> bytes:
    """The content of one or more gzip members, the last one complete.

    Raises PayloadTooLargeError beyond `max_bytes`, and BadDataError if it is not valid gzip.
    """
    parts: list[bytes] = []
    size = position = 0
    view = memoryview(body)
    while position < len(body):
        if len(parts) == MAX_GZIP_MEMBERS:
            raise BadDataError(f"the gzip body has more than {MAX_GZIP_MEMBERS} members")
        part, position = _unpack_member(view, position, max_bytes - size)
        size += len(part)
        if size > max_bytes:
            raise PayloadTooLargeError(f"the decompressed body is larger than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def _unpack_member(view: memoryview, position: int, max_bytes: int) -> tuple[bytes, int]:
    """The content of the member at a position, at most one byte too many, and its end.

    It is fed in growing slices, because zlib copies the rest of a slice after the end of a member.
    """
    stream = zlib.decompressobj(_GZIP_WINDOW)
    parts: list[bytes] = []
    left, slice_bytes = max_bytes + 1, _FIRST_SLICE_BYTES
    while not stream.eof and left:
        piece = view[position : position + slice_bytes]
        if not piece:
            raise BadDataError("the gzip body is truncated")
        try:
            part = stream.decompress(piece, left)
        except zlib.error as exc:
            raise BadDataError("the body is not valid gzip") from exc
        parts.append(part)
        left -= len(part)
        position += len(piece) - len(stream.unused_data) - len(stream.unconsumed_tail)
        slice_bytes = min(2 * slice_bytes, _LARGEST_SLICE_BYTES)
    return b"".join(parts), position
