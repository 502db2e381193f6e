"""Asks targets and service discoveries over HTTP."""

import asyncio
import base64
import json
import math
import ssl
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote_plus, urlencode

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from promcompat.core.errors import BadDataError
from promcompat.core.file_states import FileState, state_of
from promcompat.core.texts.connection_faults import connection_fault
from promcompat.outgoing.client import calling, client_context, guarded_connector
from promcompat.outgoing.policy import ANYWHERE, OutgoingPolicy, host_of
from promcompat.scraping.configuration import HttpConfig, OAuth2Config, Secret, TlsConfig

_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_GZIP: Final = 16 + zlib.MAX_WBITS
_PIECE_BYTES: Final = 1 << 16
_MAX_BODY_BYTES: Final = 256 << 20
"""Of a body whose size is not limited otherwise: a small answer may unpack to any size."""
_MAX_TOKEN_BYTES: Final = 1 << 20
_EARLY_SECONDS: Final = 10.0
_NO_TOKEN: Final = (
    *(ValueError, TypeError, AttributeError, KeyError),
    *(OverflowError, RecursionError),
)
"""What reading a token raises of JSON that is something else, or a trap."""
_MAX_REDIRECTS: Final = 10
"""As Go's client."""
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))


class FetchError(Exception):
    """There was no answer that can be used; the text says why."""


class StatusError(FetchError):
    """The status of an answer was not 200."""


class BodyTooLargeError(FetchError):
    """The body is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A body, decompressed, and its type as it was sent."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class _Request:
    url: str
    headers: dict[str, str]
    max_bytes: int
    body: bytes | None = None

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"


class HttpFetcher:
    """Connections by one HTTP configuration, for the time of a block."""

    def __init__(
        self, config: HttpConfig, timeout_seconds: float, policy: OutgoingPolicy = ANYWHERE
    ) -> None:
        self._config = config
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None
        # True: aiohttp's own default context.
        self._context: ssl.SSLContext | bool = True
        self._certificates: tuple[FileState, ...] | None = None
        self._renewing = asyncio.Lock()
        self._tokens: TokenSource | None = None
        if config.oauth2 is not None:
            asking = HttpConfig(tls=config.oauth2.tls, proxy_url=config.oauth2.proxy_url)
            fetcher = HttpFetcher(asking, timeout_seconds, policy)
            self._tokens = TokenSource(config.oauth2, fetcher)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_reason: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._tokens is not None:
            await self._tokens.close()
        if self._session is not None:
            await self._session.close()

    async def get(
        self, url: str, headers: dict[str, str], max_bytes: int, timeout_seconds: float = 0.0
    ) -> Answer:
        """The body of an answer with status 200. Raises FetchError; 0 bytes stand for 256 MiB."""
        seconds = timeout_seconds or self._timeout_seconds
        return await self._fetch(_Request(url, headers, max_bytes), seconds)

    async def post_form(self, url: str, form: Mapping[str, str], headers: dict[str, str]) -> Answer:
        """As `get`, of the answer to a form."""
        body = urlencode(form).encode()
        headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        request = _Request(url, headers, _MAX_TOKEN_BYTES, body)
        return await self._fetch(request, self._timeout_seconds)

    async def _fetch(self, request: "_Request", seconds: float) -> Answer:
        asked = f'{request.method.capitalize()} "{request.url}"'
        try:
            async with asyncio.timeout(seconds):
                return await self._get(request)
        except TimeoutError:
            raise FetchError(f"{asked}: context deadline exceeded") from None
        except aiohttp.ClientConnectorError as exc:
            reason = connection_fault(exc)
            raise FetchError(f"{asked}: dial tcp {exc.host}:{exc.port}: {reason}") from exc
        except (aiohttp.ClientError, OSError, ValueError, BadDataError, zlib.error) as exc:
            raise FetchError(f"{asked}: {exc or type(exc).__name__}") from exc

    async def _get(self, request: "_Request") -> Answer:
        given = (
            await asyncio.to_thread(self._headers, request.headers)
            if self._has_files
            else self._headers(request.headers)
        )
        if self._tokens is not None:
            given["Authorization"] = await self._tokens.authorization()
        url = request.url
        for _ in range(_MAX_REDIRECTS):
            found = await self._ask(replace(request, url=url), given)
            if isinstance(found, Answer):
                return found
            url = _redirected(url, found)
        raise FetchError(f"stopped after {_MAX_REDIRECTS} redirects")

    async def _ask(self, request: "_Request", headers: CIMultiDict[str]) -> Answer | str:
        """The answer, or where it redirects to."""
        context, url = await self._tls(), request.url
        # Through a proxy, the connection that is made is one to the proxy, which the file names.
        with calling(host_of(self._config.proxy_url or url)):
            async with self._open().request(
                request.method,
                URL(url, encoded=True),
                data=request.body,
                headers=headers,
                allow_redirects=False,
                proxy=self._config.proxy_url or None,
                ssl=context,
                server_hostname=self._config.tls.server_name or None,
            ) as response:
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location and self._config.follow_redirects:
                    return location
                if response.status != 200:
                    reason = f"{response.status} {response.reason or ''}".strip()
                    raise StatusError(f"server returned HTTP status {reason}")
                body = await _read(response, request.max_bytes)
                return Answer(body, response.headers.get("Content-Type", ""))

    async def _tls(self) -> ssl.SSLContext | bool:
        """The context of the certificates as they are now.

        A connection is used again only with the context that it was made with.
        """
        tls = self._config.tls
        if tls == TlsConfig():
            return True
        async with self._renewing:
            found = await asyncio.to_thread(_states, [tls.ca, tls.cert, tls.key])
            if found != self._certificates:
                self._context = await asyncio.to_thread(tls_context, tls)
                self._certificates = found
            return self._context

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=guarded_connector(self._policy),
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
            headers["Authorization"] = _basic(user, password)
        for name, values in config.headers.items():
            for secret in values:
                headers.add(name, secret.read())
        return headers


@dataclass(frozen=True, slots=True)
class _Token:
    """The value of a header, and until when it counts, by the clock of the event loop."""

    authorization: str
    expires_at: float
    client_secret: str


class TokenSource:
    """Fetches tokens by client credentials; one is used until ten seconds before its end."""

    def __init__(self, config: OAuth2Config, fetcher: HttpFetcher) -> None:
        self._config = config
        self._fetcher = fetcher
        self._token: _Token | None = None
        self._fetching = asyncio.Lock()
        self._is_in_header = True
        """How the client tells who it is: servers differ, so that the other way is tried, too."""

    async def close(self) -> None:
        """Close the connections."""
        await self._fetcher.close()

    async def authorization(self) -> str:
        """The value of the header `Authorization`. Raises FetchError."""
        async with self._fetching:
            secret = await asyncio.to_thread(self._config.client_secret.read)
            token, now = self._token, asyncio.get_running_loop().time()
            if token is None or token.expires_at < now or token.client_secret != secret:
                token = self._token = await self._fetch(secret, now)
            return token.authorization

    async def _fetch(self, secret: str, now: float) -> _Token:
        try:
            answer = await self._ask_in_both_ways(secret)
        except FetchError as exc:
            raise FetchError(f"oauth2: cannot fetch token: {exc}") from exc
        try:
            found = json.loads(answer.body)
            kind = str(found.get("token_type") or "Bearer")
            seconds = float(found.get("expires_in") or math.inf)
            value = found["access_token"]
        except _NO_TOKEN as exc:
            reason = "the answer of the server has no access_token"
            raise FetchError(f"oauth2: cannot fetch token: {reason}") from exc
        # Go writes `bearer` as servers expect it.
        kind = "Bearer" if kind.lower() == "bearer" else kind
        return _Token(f"{kind} {value}", now + seconds - _EARLY_SECONDS, secret)

    async def _ask_in_both_ways(self, secret: str) -> Answer:
        try:
            return await self._ask(secret)
        except StatusError:
            self._is_in_header = not self._is_in_header
            return await self._ask(secret)

    async def _ask(self, secret: str) -> Answer:
        config, headers = self._config, {}
        form = {"grant_type": "client_credentials", **config.endpoint_params}
        if config.scopes:
            form["scope"] = " ".join(config.scopes)
        if self._is_in_header:
            user, password = quote_plus(config.client_id), quote_plus(secret)
            headers["Authorization"] = _basic(user, password)
        else:
            form |= {"client_id": config.client_id, "client_secret": secret}
        return await self._fetcher.post_form(config.token_url, form, headers)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _redirected(url: str, location: str) -> str:
    """The absolute URL of a redirect, which stays on its host.

    Prometheus follows redirects to other hosts. There the headers of the configuration, some of
    them secrets, are nobody's business, and the host is one that nobody has named.
    """
    target = str(URL(url, encoded=True).join(URL(location)))
    old, new = host_of(url), host_of(target)
    is_safer = url.startswith("http://") and target.startswith("https://")
    if new.name != old.name or (new.port != old.port and not is_safer):
        raise FetchError(f"redirected to another host, {new.name}:{new.port}")
    if url.startswith("https://") and not target.startswith("https://"):
        raise FetchError("redirected from https to http")
    return target


def _states(secrets: Sequence[Secret]) -> tuple[FileState, ...]:
    """The states of the files of secrets. Raises OSError."""
    return tuple(state_of(secret.file) for secret in secrets if secret.file is not None)


class _Gunzip:
    """Unpacks gzip; what follows a member is another member, as for Go."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    @property
    def is_complete(self) -> bool:
        """Whether the last member has ended."""
        return self._member.eof

    def unpack(self, data: bytes) -> tuple[bytes, bytes]:
        """A bounded piece of what the data stands for, and the data that was not needed for it."""
        if self._member.eof:
            self._member = zlib.decompressobj(_GZIP)
        piece = self._member.decompress(data, _PIECE_BYTES)
        return piece, self._member.unused_data if self._member.eof else self._member.unconsumed_tail


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body, decompressed piece by piece, so that a limit holds before memory is used."""
    is_gzip = response.headers.get("Content-Encoding", "").lower() == "gzip"
    gunzip = _Gunzip() if is_gzip else None
    pieces, n_bytes = [], 0
    async for received in response.content.iter_any():
        rest = received
        while rest:
            piece, rest = (rest, b"") if gunzip is None else gunzip.unpack(rest)
            n_bytes += len(piece)
            _check_size(n_bytes, max_bytes)
            pieces.append(piece)
            if rest:
                # Others work meanwhile, and the timeout ends a body that takes too long.
                await asyncio.sleep(0)
    if gunzip is not None and not gunzip.is_complete:
        raise FetchError("unexpected EOF: the gzip stream is cut off")
    return b"".join(pieces)


def _check_size(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > (max_bytes or _MAX_BODY_BYTES):
        advice = "" if max_bytes else f" ({_MAX_BODY_BYTES} bytes; body_size_limit sets another)"
        raise BodyTooLargeError(f"body size limit exceeded{advice}")


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """Raises OSError (ssl.SSLError is one) and ValueError for certificates that do not work."""
    authorities = config.ca.read() if config.ca else None
    if authorities == "":
        raise ValueError("unable to use specified CA cert: it is empty")
    # Those of the system are trusted only if none are given, as in Prometheus.
    context = client_context(authorities)
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
