"""Connections are bounded in number, in time and in what they hold."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from aiohttp import web

from promcompat.http.bodies import next_chunk
from promcompat.http.connection import ConnectionServer
from promcompat.http.request_heads import MAX_HEAD_BYTES, MAX_HELD_HEAD_BYTES
from promcompat.http.server import make_runner

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE_BYTES = 30_000_000
SLOW = REQUEST.replace(b"/ ", b"/slow ", 1)


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Connect]:
    """A server of `/` and of `/slow`, which answers never."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def never(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()

    async def answer_much(_request: web.Request) -> web.Response:
        return web.Response(body=io.BytesIO(bytes(LARGE_BYTES)))

    async def take(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app.add_routes([web.get("/", answer), web.get("/slow", never), web.get("/large", answer_much)])
    app.add_routes([web.post("/body", take)])
    runner = make_runner(app, 0.1, **limits)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        await runner.cleanup()


async def asked(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> int:
    """The status of an answer on a connection that stays open."""
    reader, writer = connection
    writer.write(REQUEST)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    await reader.readexactly(2)
    return int(head.split()[1])


async def let_in(connect: Connect) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that was answered, which stays open; the server may have no room at first."""
    async with asyncio.timeout(60):
        while True:
            connection = await connect()
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                if await asked(connection) == 200:
                    return connection
            await asyncio.sleep(0.05)


async def test_the_connection_that_is_idle_for_longest_makes_room() -> None:
    async with serving(max_connections=3) as connect:
        first, second, third = [await connect() for _ in range(3)]
        for connection in (second, first, third):
            assert await asked(connection) == 200
        newcomer = await connect()
        assert await asked(newcomer) == 200
        assert await asyncio.wait_for(second[0].read(), 30) == b""
        assert await asked(first) == 200


async def test_a_half_sent_request_makes_room_too() -> None:
    async with serving(max_connections=1) as connect:
        reader, writer = await connect()
        writer.write(REQUEST[:-2])
        await writer.drain()
        assert await asked(await connect()) == 200
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_without_an_idle_connection_a_new_one_gets_503() -> None:
    async with serving(max_connections=2) as connect:
        busy = [await connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(SLOW)
            await writer.drain()
        await asyncio.sleep(0.1)
        reader, _ = await connect()
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1" in answer
        assert answer.endswith(b"\r\n\r\ntoo many connections\n")
        busy[0][1].close()
        await asyncio.sleep(0.1)
        assert await asked(await connect()) == 200


async def test_clients_that_are_silent_within_a_request_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ConnectionServer, "patience_seconds", 0.0)
    body = b"Host: x\r\nContent-Length: 9\r\n\r\nbody"
    async with serving(max_connections=3) as connect:
        held = [await connect() for _ in range(3)]
        held[0][1].write(SLOW)
        held[1][1].write(b"POST /body HTTP/1.1\r\n" + body)
        cast(asyncio.Transport, held[2][1].transport).pause_reading()
        held[2][1].write(REQUEST.replace(b"/ ", b"/large ", 1))
        await let_in(connect)
        # The one that is idle makes room before those that are in the middle of something.
        _, writer = await let_in(connect)
        writer.write(SLOW)
        await asyncio.sleep(0.1)
        await let_in(connect)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(held[1][0].read(), 30) == b""
        cast(asyncio.Transport, held[2][1].transport).resume_reading()
        with suppress(ConnectionError):
            assert len(await asyncio.wait_for(held[2][0].read(), 30)) < LARGE_BYTES
        # What waits for the service itself stays.
        assert not held[0][0].at_eof()


async def test_half_sent_and_idle_connections_end() -> None:
    async with serving(idle_seconds=0.2) as connect:
        for sent in (b"", REQUEST[:-2], REQUEST[:5]):
            reader, writer = await connect()
            writer.write(sent)
            assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with serving(stall_seconds=0.3) as connect:
        reader, writer = await connect()
        cast(asyncio.Transport, writer.transport).pause_reading()
        writer.write(REQUEST.replace(b"/ ", b"/large ", 1))
        await asyncio.sleep(1.5)
        cast(asyncio.Transport, writer.transport).resume_reading()
        with suppress(ConnectionError):
            assert len(await asyncio.wait_for(reader.read(), 30)) < LARGE_BYTES
        assert await asked(await connect()) == 200


async def test_a_client_that_reads_a_little_again_and_again_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ConnectionServer, "piece_seconds", 0.0)
    async with serving(stall_seconds=1.0) as connect:
        reader, writer = await connect()
        writer.write(REQUEST.replace(b"/ ", b"/large ", 1))
        n_bytes = 0
        with suppress(ConnectionError):
            while chunk := await reader.read(LARGE_BYTES // 30):
                n_bytes += len(chunk)
                await asyncio.sleep(0.2)
        assert n_bytes < LARGE_BYTES


async def test_a_client_that_reads_slowly_gets_all_of_its_answer() -> None:
    async with serving(stall_seconds=1.0) as connect:
        reader, writer = await connect()
        writer.write(REQUEST.replace(b"/ ", b"/large ", 1))
        n_bytes = 0
        while n_bytes < LARGE_BYTES and (chunk := await reader.read(LARGE_BYTES)):
            n_bytes += len(chunk)
            await asyncio.sleep(0.005)
        assert n_bytes >= LARGE_BYTES


async def test_heads_that_are_not_complete_are_bounded_together() -> None:
    async with serving() as connect:
        part = REQUEST[:-2] + b"X: " + b"x" * (MAX_HEAD_BYTES - 100)
        held = []
        for _ in range(MAX_HELD_HEAD_BYTES // len(part) + 1):
            held.append(await connect())
            held[-1][1].write(part)
            await held[-1][1].drain()
        answers = [asyncio.create_task(reader.read()) for reader, _ in held]
        done, waiting = await asyncio.wait(answers, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        ended = done.pop()
        # The answer is lost when the client was still sending.
        is_reset = isinstance(ended.exception(), ConnectionError)
        assert is_reset or ended.result().split()[1] == b"503"
        for task in waiting:
            task.cancel()
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        reader, writer = await connect()
        writer.write(part)
        writer.write(b"\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_body_whose_connection_is_closed_is_a_connection_error() -> None:
    """The guard of both APIs takes it for a client that went away, and logs no fault."""
    raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def read_late(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(0.05)  # The loop closes it in one of its next passes.
        try:
            await next_chunk(request)
        except ConnectionError as exc:
            raised.set_result(exc)
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/", read_late)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        assert isinstance(await asyncio.wait_for(raised, 30), ConnectionError)
        writer.close()
    finally:
        await runner.cleanup()
