"""Faults of connections are told in words, without addresses in the form of a library."""

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import aiohttp
import pytest

from promcompat.core.texts.connection_faults import connection_fault


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"), "connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
        (ssl.SSLError(1, "unknown ca"), "unknown ca"),
        (TimeoutError(), "no answer in time"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (urllib.error.URLError(ConnectionRefusedError(111, "x")), "connection refused"),
    ],
)
def test_the_cause_is_named(error: Exception, text: str) -> None:
    assert text in connection_fault(error)


@pytest.fixture
def unused_url() -> Iterator[str]:
    """Nobody listens there, and nobody else can meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


async def test_aiohttp_names_a_port_on_which_nobody_listens(unused_url: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await session.get(unused_url)
    assert connection_fault(refused.value) == "connection refused"


def test_urllib_names_a_port_on_which_nobody_listens(unused_url: str) -> None:
    with pytest.raises(urllib.error.URLError) as refused:
        urllib.request.urlopen(unused_url, timeout=5)
    assert connection_fault(refused.value) == "connection refused"
