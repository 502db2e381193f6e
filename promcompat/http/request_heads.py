"""Accepts requests that Go's `net/http` accepts and aiohttp's stricter parser does not.

Users of Prometheus rely on what its server accepts: label values in raw UTF-8 in a URL
(`curl -g '…?query=c{city="München"}'`), headers up to 1 MiB together, a header field continued on
the next line, `Content-Length` twice with the same value. The head of a request is normalized to
the form of RFC 9112 before aiohttp parses it; a head already in that form is left alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, http_exceptions, web
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEAD_BYTES: Final = (1 << 20) + 4096
"""Go's `DefaultMaxHeaderBytes` plus the slack it adds."""
MAX_HEADERS: Final = 10_000
MAX_PATH_BYTES: Final = 16 << 10
"""The limit of a URL up to its question mark. aiohttp looks up every prefix of a path, which takes
minutes for a megabyte of slashes."""
MAX_PIPELINED: Final = 100
"""Requests that one read from a connection may bring. No client of ours pipelines at all."""
MAX_HELD_HEAD_BYTES: Final = 32 << 20
"""For all connections together."""

_HEAD_ENDS: Final = (b"\n\r\n", b"\n\n")
_LONGEST_END: Final = 3
_MAX_UNUSUAL_HEAD_BYTES: Final = 64 << 10
"""Normalizing more would delay other requests."""
_MANY_BYTES: Final = 4 << 10
_TINY_CHUNK_BYTES: Final = 8
"""Half of the overhead of a chunk is its content then; senders use chunks of kilobytes."""
_CONTINUE: Final = "100-continue"
_CONTENT_LENGTH: Final = b"content-length"
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]+")
_CONTINUATION: Final = re.compile(rb"(?<![ \t])[ \t]*\r?\n[ \t]+")
"""Matches from the start of a run of blanks only; from each blank, it would take quadratic time."""
_VERSION: Final = re.compile(rb" HTTP/(\d)\.(\d)$")


class RefusedRequestError(HttpProcessingError):
    """A request is refused before it has been read; `code` is the status of the answer."""


class HeadTooLargeError(RefusedRequestError):
    """The request line and the headers take more than `MAX_HEAD_BYTES`."""

    code = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class PathTooLongError(RefusedRequestError):
    """The path of the URL takes more than `MAX_PATH_BYTES`."""

    code = HTTPStatus.REQUEST_URI_TOO_LONG


class UnknownExpectationError(RefusedRequestError):
    """An `Expect` that is not `100-continue`; aiohttp would quote its content in the response."""

    code = HTTPStatus.EXPECTATION_FAILED


class UnsupportedVersionError(RefusedRequestError):
    """Neither HTTP/1.0 nor HTTP/1.1."""

    code = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED


class TooManyPipelinedError(RefusedRequestError):
    """More than `MAX_PIPELINED` requests came at once, none of them waiting for its response."""

    code = HTTPStatus.TOO_MANY_REQUESTS


class TooManyHeadBytesError(RefusedRequestError):
    """The incomplete heads of all requests take too much memory."""

    code = HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(slots=True)
class HeldHeads:
    """The bytes of incomplete heads, of all connections."""

    n_bytes: int = 0


class HeadNormalizer:
    """Stands in front of aiohttp's parser and holds the head of a request until it is complete.

    The head of a pipelined request goes to the parser unchanged.
    """

    def __init__(self, parser: Any, held: HeldHeads) -> None:
        self._parser = parser
        self._held = held
        self._head = bytearray()
        self._n_held = 0
        self._is_in_body: Callable[[], bool] = _nothing_is_read
        self._chunked: Any = None
        """The payload of the last message if it is chunked."""
        self.is_refused = False
        """Whether the body that is being read is refused; what else comes is discarded."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """As aiohttp's parser: the messages that are complete, whether the protocol changes, the
        bytes that are left. Raises HttpProcessingError.
        """
        if not data:
            return self._feed_one(data)
        messages: list[Any] = []
        for _ in range(MAX_PIPELINED):
            more, is_upgraded, data = self._feed_one(data)
            messages += more
            if is_upgraded or not data:
                return messages, is_upgraded, data
        raise TooManyPipelinedError

    def _feed_one(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Feed the rest of a body, or the data up to the end of one head.

        The bytes that are left come after that head.
        """
        if self.is_refused:
            return (), False, b""
        if not data or self._is_in_body():
            return self._feed_body(data)
        searched = 0
        received: bytes | bytearray = data
        if self._head:
            searched = max(len(self._head) - _LONGEST_END, 0)
            self._head += data
            received = self._head
        else:
            received = data.lstrip(b"\r\n")  # What some clients send after a body (RFC 9112, 2.2).
            if received and not _TOKEN.match(received):
                raise http_exceptions.BadStatusLine  # TLS on this port, for example.
        end = _head_end(received, searched)
        if (end or len(received)) > MAX_HEAD_BYTES:
            self.let_go()
            raise HeadTooLargeError
        if not end:
            self._hold(received)
            return (), False, b""
        head, rest = bytes(received[:end]), bytes(received[end:])
        self.let_go()
        messages, is_upgraded, tail = self._feed(normalized_head(head))
        return messages, is_upgraded, tail + rest

    @property
    def is_in_body(self) -> bool:
        """Whether a part of the body of the last request has not come yet."""
        return self._is_in_body()

    def let_go(self) -> None:
        """Drop the held part of a head."""
        self._head.clear()
        self._held.n_bytes -= self._n_held
        self._n_held = 0

    def _hold(self, head: bytes | bytearray) -> None:
        if head is not self._head:
            self._head += head
        self._held.n_bytes += len(self._head) - self._n_held
        self._n_held = len(self._head)
        if self._held.n_bytes > MAX_HELD_HEAD_BYTES:
            raise TooManyHeadBytesError

    def _feed_body(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Feed a part of a body, unless its chunks are so small that parsing them is an attack.

        256 KiB of one-byte chunks would block all other requests for 0.2 s.
        """
        if self._chunked is not None and _has_tiny_chunks(data):
            self.is_refused = True
            self._chunked.set_exception(
                web.RequestPayloadError("the chunks of the request body are too small")
            )
            return (), False, b""
        return self._feed(data)

    def _feed(self, data: bytes) -> tuple[Any, bool, bytes]:
        messages, is_upgraded, tail = self._parser.feed_data(data)
        for message, _ in messages:
            if len(message.path.partition("?")[0]) > MAX_PATH_BYTES:
                raise PathTooLongError
            if message.headers.get(hdrs.EXPECT, _CONTINUE).lower() != _CONTINUE:
                raise UnknownExpectationError
        if messages:
            message, last = messages[-1]
            self._is_in_body = lambda: not last.is_eof()
            self._chunked = last if message.chunked else None
        if is_upgraded:
            self._is_in_body = lambda: True
        return messages, is_upgraded, tail


def _nothing_is_read() -> bool:
    return False


def _has_tiny_chunks(data: bytes) -> bool:
    """Whether most chunks hold only a few bytes, judged by the two line ends of each."""
    return len(data) >= _MANY_BYTES and data.count(b"\r\n") * _TINY_CHUNK_BYTES > len(data)


def _head_end(data: bytes | bytearray, start: int) -> int:
    """The position after the first empty line, 0 when there is none yet."""
    head_end = 0
    for mark in _HEAD_ENDS:
        # Not beyond the end found first: the rest is the body.
        position = data.find(mark, start, head_end or len(data))
        if position >= 0:
            head_end = position + len(mark)
    return head_end


def _is_unusual(head: bytes) -> bool:
    """Whether there is raw UTF-8, a line that ends with LF alone, or a continued field.

    Regular expressions would take 0.1 s for a megabyte.
    """
    return (
        not head.isascii()
        or head.count(b"\n") != head.count(b"\r\n")
        or b"\n " in head
        or b"\n\t" in head
    )


def normalized_head(head: bytes) -> bytes:
    """The head of a request, up to its empty line, as RFC 9112 wants it.

    Raises BadStatusLine, UnsupportedVersionError for anything but HTTP/1, and HeadTooLargeError for
    a large one that is not in that form.
    """
    request_line, _, fields = head.partition(b"\n")
    request_line = request_line.rstrip(b"\r")
    version = _VERSION.search(request_line)
    if version is None:
        raise http_exceptions.BadStatusLine
    if version[1] != b"1":
        raise UnsupportedVersionError
    is_later = version[2] > b"1"
    lengths = head.lower().count(b"\n" + _CONTENT_LENGTH)
    if not is_later and lengths < 2 and not _is_unusual(head):
        return head
    if len(head) > _MAX_UNUSUAL_HEAD_BYTES:
        raise HeadTooLargeError
    if is_later:
        request_line = request_line[: version.start()] + b" HTTP/1.1"
    request_line = _NOT_ASCII.sub(
        lambda found: b"%" + found[0].hex("%").upper().encode(), request_line
    )
    lines = _CONTINUATION.sub(b" ", fields).replace(b"\r\n", b"\n").split(b"\n")
    return b"\r\n".join([request_line, *_without_repeated_length(lines)])


def _without_repeated_length(lines: list[bytes]) -> list[bytes]:
    """The fields without a Content-Length that repeats the first one's value (RFC 9110, 8.6)."""
    kept: list[bytes] = []
    length: bytes | None = None
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == _CONTENT_LENGTH:
            if length == value.strip():
                continue
            length = length or value.strip()
        kept.append(line)
    return kept
