"""The HTTP server over TLS: certificates that change, client certificates, and bad handshakes."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import ValidationError

from promcompat.http.listening import base_url, bind_socket
from promcompat.http.server import HttpServer
from promcompat.http.tls import CertificateError, ServerTls, TlsFiles
from promcompat.telemetry.telemetry import Telemetry
from tests.support.programs.certificates import Certificate, make_authority, make_certificate
from tests.support.services.http_service import GivenSettings


@dataclass(frozen=True, slots=True)
class Certificates:
    """Two authorities, and a server's certificate of each."""

    first: Certificate
    second: Certificate
    of_first: Certificate
    of_second: Certificate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    first, second = make_authority(folder, "first"), make_authority(folder, "second")
    return Certificates(
        first,
        second,
        make_certificate(folder, "of-first", first),
        make_certificate(folder, "of-second", second),
    )


@pytest.fixture
def files(made: Certificates, tmp_path: Path) -> TlsFiles:
    """The files of a server, at first with the certificate of the first authority."""
    files = TlsFiles(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    made.of_first.copy_to(files.certificate, files.key)
    return files


@asynccontextmanager
async def serving(tls: ServerTls) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.scheme)

    app = web.Application()
    app.router.add_get("/", answer)
    bound = bind_socket("127.0.0.1", 0)
    server = HttpServer(app, bound, 1.0, max_connections=10, read_seconds=30.0, tls=tls)
    await server.start()
    try:
        yield base_url(bound, is_tls=True)
    finally:
        await server.stop()


async def is_answered(url: str, context: ssl.SSLContext) -> bool:
    """Whether a new connection is made and its request answered."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url, ssl=context) as response:
                return await response.text() == "https"
        except (aiohttp.ClientError, OSError):
            return False


def values(telemetry: Telemetry) -> tuple[float | None, float | None]:
    """When the certificate was loaded, and whether the last attempt succeeded."""
    sample = telemetry.registry.get_sample_value
    name = "promcompat_tls_certificate"
    return sample(f"{name}_loaded_timestamp_seconds"), sample(f"{name}_reload_successful")


async def test_a_changed_certificate_is_shown_in_the_next_handshake(
    made: Certificates, files: TlsFiles
) -> None:
    telemetry, times = Telemetry(), iter((100.0, 200.0))
    tls, trusting = ServerTls(files, telemetry.tls, lambda: next(times)), made.first.trusting()
    async with serving(tls) as url, aiohttp.ClientSession() as session:
        async with session.get(url, ssl=trusting) as response:
            assert response.status == 200
        assert not tls.refresh()
        made.of_second.copy_to(files.certificate, files.key)
        assert tls.refresh()
        assert values(telemetry) == (200.0, 1.0)
        assert await is_answered(url, made.second.trusting())
        assert not await is_answered(url, made.first.trusting())
        # A connection that was open before lives on.
        async with session.get(url, ssl=trusting) as response:
            assert response.status == 200


@pytest.mark.parametrize("fault", ["another key", "no certificate", "a file is missing"])
async def test_files_that_cannot_be_used_leave_the_last_good_ones(
    made: Certificates, files: TlsFiles, fault: str
) -> None:
    telemetry = Telemetry()
    tls = ServerTls(files, telemetry.tls, lambda: 100.0)
    async with serving(tls) as url:
        match fault:
            case "another key":
                made.of_second.copy_to(files.certificate, made.of_second.key.with_suffix(".copy"))
            case "no certificate":
                files.certificate.write_text("nothing")
            case _:
                files.key.unlink()
        for _ in range(2):
            with pytest.raises(CertificateError, match="tls"):
                tls.refresh()
        assert values(telemetry) == (100.0, 0.0)
        assert await is_answered(url, made.first.trusting())
        made.of_second.copy_to(files.certificate, files.key)
        assert tls.refresh()
        assert values(telemetry) == (100.0, 1.0)
        assert await is_answered(url, made.second.trusting())


async def test_clients_show_a_certificate_of_an_authority_that_may_change(
    made: Certificates, files: TlsFiles, tmp_path: Path
) -> None:
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(made.first.file.read_bytes())
    files = replace(files, client_authorities=authorities, client_auth="RequireAndVerifyClientCert")
    tls = ServerTls(files, Telemetry().tls)
    async with serving(tls) as url:
        known, unknown = (made.first.trusting(of) for of in (made.of_first, made.of_second))
        assert await is_answered(url, known)
        assert not await is_answered(url, unknown)
        assert not await is_answered(url, made.first.trusting())
        authorities.write_bytes(made.second.file.read_bytes() + b"\n")
        assert tls.refresh()
        assert not await is_answered(url, known)
        assert await is_answered(url, unknown)


async def test_a_session_ends_with_the_authority_that_it_was_verified_by(
    made: Certificates, files: TlsFiles, tmp_path: Path
) -> None:
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(made.first.file.read_bytes())
    files = replace(files, client_authorities=authorities, client_auth="RequireAndVerifyClientCert")
    tls = ServerTls(files, Telemetry().tls)
    client = made.first.trusting(made.of_first)
    # The newest version in which a server knows sessions by an id, without tickets.
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    def connect(port: int, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            client.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
        ):
            return connection.session

    async with serving(tls) as url:
        port = int(url.rpartition(":")[2])
        session = await asyncio.to_thread(connect, port, None)
        assert session is not None
        authorities.write_bytes(made.second.file.read_bytes() + b"\n")
        assert tls.refresh()
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(connect, port, session)


async def test_a_certificate_may_be_optional(made: Certificates, files: TlsFiles) -> None:
    files = replace(
        files, client_authorities=made.first.file, client_auth="VerifyClientCertIfGiven"
    )
    async with serving(ServerTls(files, Telemetry().tls)) as url:
        assert await is_answered(url, made.first.trusting())
        assert await is_answered(url, made.first.trusting(made.of_first))
        assert not await is_answered(url, made.first.trusting(made.of_second))


async def test_old_versions_of_tls_are_refused(made: Certificates, files: TlsFiles) -> None:
    files = replace(files, min_version="TLS13")
    async with serving(ServerTls(files, Telemetry().tls)) as url:
        context = made.first.trusting()
        assert await is_answered(url, context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not await is_answered(url, context)


async def test_what_is_no_handshake_disturbs_nobody(made: Certificates, files: TlsFiles) -> None:
    async with serving(ServerTls(files, Telemetry().tls)) as url:
        host, port = url.removeprefix("https://").split(":")
        for sent in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\xff\xff", b""):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert await is_answered(url, made.first.trusting())


def test_a_service_does_not_start_without_its_certificate(files: TlsFiles) -> None:
    files.key.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(CertificateError, match=r"tls\.key"):
        ServerTls(files, Telemetry().tls)


@pytest.mark.parametrize(
    "settings",
    [
        {"tls_cert_file": "a"},
        {"tls_key_file": "a"},
        {"tls_client_ca_file": "a", "tls_client_auth": "VerifyClientCertIfGiven"},
        {"tls_cert_file": "a", "tls_key_file": "a", "tls_client_ca_file": "a"},
        {
            "tls_cert_file": "a",
            "tls_key_file": "a",
            "tls_client_auth": "RequireAndVerifyClientCert",
        },
    ],
)
def test_settings_that_belong_together_are_set_together(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"together|needs"):
        GivenSettings(**settings)
