"""Asks targets and service discoveries over HTTP."""

import asyncio
import os
import ssl
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from promcompat.scraping.configuration import HttpConfig, Secret, TlsConfig

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_GZIP: Final = 16 + zlib.MAX_WBITS
_PIECE_BYTES: Final = 1 << 16


class FetchError(Exception):
    """There was no answer that can be used; the text says why."""


class BodyTooLargeError(FetchError):
    """The body is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, decompressed, and its type as it was sent."""

    body: bytes
    content_type: str


class HttpFetcher:
    """Connections by one HTTP configuration, for the time of a block."""

    def __init__(self, config: HttpConfig, timeout_seconds: float) -> None:
        self._config = config
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_reason: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(
        self, url: str, headers: dict[str, str], max_bytes: int, timeout_seconds: float = 0.0
    ) -> Answer:
        """The body of an answer with status 200. Raises FetchError; 0 bytes set no limit."""
        seconds = timeout_seconds or self._timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._get(url, headers, max_bytes)
        except TimeoutError:
            raise FetchError(f'Get "{url}": context deadline exceeded') from None
        except aiohttp.ClientConnectorError as exc:
            number = exc.os_error.errno
            reason = os.strerror(number).lower() if number else str(exc.os_error)
            raise FetchError(f'Get "{url}": dial tcp {exc.host}:{exc.port}: {reason}') from exc
        except (aiohttp.ClientError, OSError, ValueError, zlib.error) as exc:
            raise FetchError(f'Get "{url}": {exc or type(exc).__name__}') from exc

    async def _get(self, url: str, headers: dict[str, str], max_bytes: int) -> Answer:
        session = await self._open()
        async with session.get(
            URL(url, encoded=True),
            headers=await asyncio.to_thread(self._headers, headers)
            if self._has_files
            else self._headers(headers),
            allow_redirects=self._config.follow_redirects,
            proxy=self._config.proxy_url or None,
            server_hostname=self._config.tls.server_name or None,
        ) as response:
            if response.status != 200:
                reason = f"{response.status} {response.reason or ''}".strip()
                raise FetchError(f"server returned HTTP status {reason}")
            body = await _read(response, max_bytes)
            return Answer(body, response.headers.get("Content-Type", ""))

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The driver has one context for all that need nothing special: making one takes 50 ms.
            context: ssl.SSLContext | bool = True
            if self._config.tls != TlsConfig():
                context = tls_context(self._config.tls)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=context),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
            )
        return self._session

    @property
    def _has_files(self) -> bool:
        config = self._config
        secrets = [config.username, config.password, config.credentials]
        secrets += [secret for values in config.headers.values() for secret in values]
        return any(secret.file is not None for secret in secrets)

    def _headers(self, given: dict[str, str]) -> CIMultiDict[str]:
        config, headers = self._config, CIMultiDict(given)
        if config.credentials:
            headers["Authorization"] = f"{config.authorization_type} {config.credentials.read()}"
        elif config.username or config.password:
            user, password = config.username.read(), config.password.read()
            headers["Authorization"] = aiohttp.BasicAuth(user, password, "utf-8").encode()
        for name, values in config.headers.items():
            for secret in values:
                headers.add(name, secret.read())
        return headers


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body, decompressed piece by piece, so that a limit holds before memory is used."""
    is_gzip = response.headers.get("Content-Encoding", "").lower() == "gzip"
    unpack = zlib.decompressobj(_GZIP) if is_gzip else None
    pieces, n_bytes = [], 0
    async for received in response.content.iter_any():
        rest = received
        while rest:
            if unpack is None:
                piece, rest = rest, b""
            else:
                piece = unpack.decompress(rest, _PIECE_BYTES)
                rest = unpack.unconsumed_tail
            n_bytes += len(piece)
            if max_bytes and n_bytes > max_bytes:
                raise BodyTooLargeError("body size limit exceeded")
            pieces.append(piece)
    if unpack is not None and not unpack.eof:
        raise FetchError("unexpected EOF: the gzip stream is cut off")
    return b"".join(pieces)


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) and ValueError for certificates that do not work."""
    context = ssl.create_default_context()
    if config.ca:
        context.load_verify_locations(cadata=config.ca.read())
    if config.cert:
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(
                _file_of(config.cert, Path(folder) / "cert"),
                _file_of(config.key, Path(folder) / "key"),
            )
    if config.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.min_version:
        context.minimum_version = _VERSIONS[config.min_version]
    if config.max_version:
        context.maximum_version = _VERSIONS[config.max_version]
    return context


def _file_of(secret: Secret, fallback: Path) -> Path:
    """OpenSSL reads certificates of clients from files only."""
    if secret.file is not None:
        return secret.file
    fallback.touch(mode=0o600)
    fallback.write_text(secret.text)
    return fallback
