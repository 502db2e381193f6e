"""Answers are unpacked within bounds, and certificates are those that the files have now."""

import asyncio
import base64
import gzip
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from promcompat.scraping import fetching
from promcompat.scraping.configuration import HttpConfig, OAuth2Config, Secret, TlsConfig
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


class TokenServer:
    """Gives tokens for a client that tells who it is in the way that is wanted, and takes them."""

    def __init__(self, *, in_header: bool, seconds: float) -> None:
        self.in_header, self.seconds = in_header, seconds
        self.forms: list[dict[str, str]] = []
        self.used: list[str] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        authorization = request.headers.get("Authorization", "")
        if request.path == "/metrics":
            self.used.append(authorization)
            return web.Response(text="a 1")
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        basic = "Basic " + base64.b64encode(b"client%2F1:s+%C3%B6").decode()
        told = authorization == basic if self.in_header else "client_secret" in form
        if not told:
            return web.Response(status=401)
        found = {"access_token": f"t{len(self.forms)}", "token_type": "bearer"}
        return web.json_response(found | {"expires_in": self.seconds})


@pytest.mark.parametrize("in_header", [True, False])
async def test_a_token_of_oauth2_is_used_until_it_ends(in_header: bool) -> None:
    for seconds, n_fetched in ((3600, 1), (5, 3)):
        tokens = TokenServer(in_header=in_header, seconds=seconds)
        async with RawTestServer(tokens.answer, host="127.0.0.1") as server:
            config = OAuth2Config(
                client_id="client/1",
                client_secret=Secret(text="s ö"),
                token_url=str(server.make_url("/token")),
                scopes=("a", "b"),
                endpoint_params={"audience": "x"},
            )
            async with HttpFetcher(HttpConfig(oauth2=config), 30) as fetcher:
                for _ in range(3):
                    await fetcher.get(str(server.make_url("/metrics")), {}, 0)
        n_refused = 0 if in_header else 1
        assert len(tokens.forms) == n_fetched + n_refused
        numbers = [1 + n_refused + (n if n_fetched > 1 else 0) for n in range(3)]
        assert tokens.used == [f"Bearer t{number}" for number in numbers]
        form = {"grant_type": "client_credentials", "scope": "a b", "audience": "x"}
        given = {} if in_header else {"client_id": "client/1", "client_secret": "s ö"}
        assert tokens.forms[-1] == form | given


async def test_a_password_is_sent_as_utf_8() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text=request.headers["Authorization"])

    config = HttpConfig(username=Secret(text="u"), password=Secret(text="p:ö"))
    async with (
        RawTestServer(answer, host="127.0.0.1") as server,
        HttpFetcher(config, 30) as fetcher,
    ):
        found = (await fetcher.get(str(server.make_url("/")), {}, 0)).body.decode()
    assert base64.b64decode(found.removeprefix("Basic ")).decode() == "u:p:ö"


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (400, '{"error":"invalid_client"}', ".* 400 Bad Request"),
        (200, '{"error":"none"}', "the answer .* no access_token"),
        (200, "[" * 100_000, "the answer .* no access_token"),
        (200, f'{{"access_token":"t","expires_in":1{"0" * 400}}}', "the answer .* no access_token"),
    ],
    ids=["refused", "error", "nested", "endless"],
)
async def test_without_a_token_nothing_is_asked(status: int, text: str, reason: str) -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        assert request.path == "/token"
        return web.Response(text=text, status=status)

    async with RawTestServer(refuse, host="127.0.0.1") as server:
        config = OAuth2Config(
            client_id="a", client_secret=Secret(), token_url=str(server.make_url("/token"))
        )
        async with HttpFetcher(HttpConfig(oauth2=config), 30) as fetcher:
            with pytest.raises(FetchError, match=f"oauth2: cannot fetch token: {reason}"):
                await fetcher.get(str(server.make_url("/metrics")), {}, 0)
