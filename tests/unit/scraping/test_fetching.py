"""Answers are unpacked within bounds, and certificates are those that the files have now."""

import asyncio
import gzip
import shutil
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from promcompat.scraping import fetching
from promcompat.scraping.configuration import HttpConfig, Secret, TlsConfig
from promcompat.scraping.fetching import BodyTooLargeError, FetchError, HttpFetcher

ZEROS = gzip.compress(bytes(16 << 20))


def answering(body: bytes) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    return answer


async def fetched(body: bytes, max_bytes: int = 0) -> bytes:
    server = RawTestServer(answering(body), host="127.0.0.1")
    async with server, HttpFetcher(HttpConfig(), 30) as fetcher:
        return (await fetcher.get(str(server.make_url("/")), {}, max_bytes)).body


async def test_every_member_of_gzip_is_read() -> None:
    first, second = gzip.compress(b"a" * 100_000), gzip.compress(b"b")
    assert await fetched(first + second) == b"a" * 100_000 + b"b"
    with pytest.raises(FetchError, match="is cut off"):
        await fetched(first + second[:-1])
    with pytest.raises(FetchError, match="incorrect header check"):
        await fetched(first + b"no gzip")


async def test_a_body_without_a_limit_of_its_own_is_bounded_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "_MAX_BODY_BYTES", 1 << 20)
    with pytest.raises(BodyTooLargeError, match="body_size_limit sets another"):
        await fetched(ZEROS)
    assert len(await fetched(ZEROS, 16 << 20)) == 16 << 20


async def test_others_work_while_a_body_is_unpacked() -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    server = RawTestServer(answering(ZEROS), host="127.0.0.1")
    async with server, HttpFetcher(HttpConfig(), 30) as fetcher:
        await fetcher.get(str(server.make_url("/")), {}, 0)
        working = asyncio.create_task(work())
        await fetcher.get(str(server.make_url("/")), {}, 0)
        working.cancel()
    assert turns > (16 << 20) // fetching._PIECE_BYTES


def self_signed(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """The certificate of 127.0.0.1 with a new key, and the context of a server that shows it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = [openssl, "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2", "-subj", "/CN=x"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", str(key)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


async def test_renewed_certificates_are_read(tmp_path: Path) -> None:
    first, first_context = self_signed(tmp_path, "first")
    second, second_context = self_signed(tmp_path, "second")
    trusted = tmp_path / "ca.pem"
    shutil.copy(first, trusted)
    before = RawTestServer(answering(gzip.compress(b"a 1")), scheme="https", host="127.0.0.1")
    after = RawTestServer(answering(gzip.compress(b"a 1")), scheme="https", host="127.0.0.1")
    await before.start_server(ssl=first_context)
    await after.start_server(ssl=second_context)
    async with before, after, HttpFetcher(with_ca(trusted), 30) as fetcher:
        assert (await fetcher.get(str(before.make_url("/")), {}, 0)).body == b"a 1"
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetcher.get(str(after.make_url("/")), {}, 0)
        trusted.unlink()
        shutil.copy(second, trusted)
        assert (await fetcher.get(str(after.make_url("/")), {}, 0)).body == b"a 1"
        # A connection that the old certificate was good for is not used any more.
        with pytest.raises(FetchError, match="certificate verify failed"):
            await fetcher.get(str(before.make_url("/")), {}, 0)


def with_ca(file: Path) -> HttpConfig:
    return HttpConfig(tls=TlsConfig(ca=Secret(file=file)))


async def test_an_empty_list_of_authorities_does_not_stand_for_those_of_the_system(
    tmp_path: Path,
) -> None:
    (tmp_path / "ca.pem").touch()
    async with HttpFetcher(with_ca(tmp_path / "ca.pem"), 30) as fetcher:
        with pytest.raises(FetchError, match="unable to use specified CA cert"):
            await fetcher.get("https://127.0.0.1:1/", {}, 0)


def test_the_system_s_own_errors_are_named_and_no_others() -> None:
    assert fetching._reason_of(ConnectionRefusedError(111, "x")) == "connection refused"
    assert "not known" in fetching._reason_of(socket.gaierror(-2, "Name not known"))
    assert "in the future" in fetching._reason_of(ssl.SSLError(1, "in the future"))
