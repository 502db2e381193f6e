"""Lines over UDP and TCP, and what happens when an address cannot be used."""

import asyncio
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress

import pytest

from promcompat.listeners.line_sockets import ListenerError, listening_for_lines

HOST = "127.0.0.1"


async def test_lines_come_whole_whatever_the_pieces_they_are_sent_in() -> None:
    taken: list[str] = []
    seen = asyncio.Event()

    def take(lines: Sequence[str]) -> None:
        taken.extend(line for line in lines if line)
        if len(taken) >= 4:
            seen.set()

    async with listening_for_lines(HOST, 0, take) as port:
        _, writer = await asyncio.open_connection(HOST, port)
        for piece in (b"one\ntw", b"o\nthr", b"ee"):
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"four\n", (HOST, port))
        await asyncio.wait_for(seen.wait(), 30)
    assert sorted(taken) == ["four", "one", "three", "two"]


async def test_another_connection_takes_the_place_of_the_one_that_was_silent_for_longest() -> None:
    arrived: asyncio.Queue[str] = asyncio.Queue()

    def take(lines: Sequence[str]) -> None:
        for line in filter(None, lines):
            arrived.put_nowait(line)

    async with listening_for_lines(HOST, 0, take, max_connections=2) as port:
        opened = []
        for number in (0, 1, 0, 2):
            if number == len(opened):
                opened.append(await asyncio.open_connection(HOST, port))
            opened[number][1].write(b"%d\n" % number)
            assert await asyncio.wait_for(arrived.get(), 30) == str(number)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(opened[1][0].read(), 30) == b""
        for _, writer in opened:
            writer.close()


async def test_an_address_in_use_is_named_and_nothing_stays_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, 0))
        port = other.getsockname()[1]
        with pytest.raises(ListenerError, match=f"cannot listen on {HOST}:{port}: "):
            async with listening_for_lines(HOST, port, lambda _lines: None):
                pass
        with socket.socket() as tcp:
            # Binding it would fail if it is the port of somebody's outgoing connection.
            assert tcp.connect_ex((HOST, port)) == errno.ECONNREFUSED
