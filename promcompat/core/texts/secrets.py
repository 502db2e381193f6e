"""Removes secrets from addresses and texts."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote

HIDDEN: Final = "<hidden>"
_MIN_LENGTH: Final = 4
"""Shorter texts are not treated as secrets, since they would occur in every line."""
_MIN_SEGMENT_LENGTH: Final = 8
"""Of parts of secrets, which are more often ordinary words."""
_PASSWORD_OPTIONS: Final = ("password", "sslpassword")
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?:(?P<user>[^?#]*)@)?(?P<rest>[^?#]*)(?P<tail>.*)",
    re.DOTALL,
)


def public_url(url: str) -> str:
    """An address without user, password, query and fragment."""
    found = _URL.fullmatch(url)
    return found["scheme"] + found["rest"] if found else HIDDEN


def origin_of(url: str) -> str:
    """Scheme, host and port of an address whose path may hold a token."""
    scheme, separator, rest = public_url(url).partition("://")
    return scheme + separator + rest.partition("/")[0]


def url_secrets(url: str, *, is_path_secret: bool = False) -> Iterator[str]:
    """Every secret part of an address, as written and percent-decoded.

    With `is_path_secret` the path counts, as in the address of a webhook.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return
    user, _, password = (found["user"] or "").partition(":")
    tail = found["tail"].lstrip("?")
    parts = [password or user, tail]
    parts += [value for pair in re.split("[&#]", tail) if (value := pair.partition("=")[2])]
    if is_path_secret:
        _, slash, path = found["rest"].partition("/")
        parts += [slash + path] if path else []
        parts += [segment for segment in path.split("/") if len(segment) >= _MIN_SEGMENT_LENGTH]
    for part in parts:
        yield part
        yield unquote(part)


def database_secrets(url: str) -> Iterator[str]:
    """The passwords in the address of a database, as written and percent-decoded.

    Not its other options: hosts, files and modes are what an error has to name.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return
    options = (pair.partition("=") for pair in found["tail"].lstrip("?").split("&"))
    given = [value for name, _, value in options if name in _PASSWORD_OPTIONS]
    for part in ((found["user"] or "").partition(":")[2], *given):
        yield part
        yield unquote(part)


class Redactor:
    """Replaces known secrets in texts, and long words of them, such as the token of `Bearer …`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known = frozenset(part for secret in secrets for part in _parts(secret))
        # The longest first: one secret may be part of another.
        words = sorted(self._known, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(re.escape, words))) if words else None

    def also(self, secrets: Iterable[str]) -> "Redactor":
        """A redactor that hides these secrets too."""
        return Redactor((*self._known, *secrets))

    def hide(self, text: str) -> str:
        """The text without the secrets."""
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)

    def hide_cut(self, text: str) -> str:
        """As `hide`, for a text that was cut at its end, perhaps within a secret."""
        longest = max(map(len, self._known), default=0)
        for length in range(min(longest, len(text)), _MIN_LENGTH - 1, -1):
            end = text[-length:]
            if any(secret.startswith(end) for secret in self._known):
                return self.hide(text[:-length]) + HIDDEN
        return self.hide(text)

    def hide_bytes(self, body: bytes, *, is_cut: bool) -> str:
        """A body as text without the secrets."""
        decoder = getincrementaldecoder("utf-8")("replace")
        # What is left of a character that was cut is left out.
        text = decoder.decode(body, final=not is_cut)
        return self.hide_cut(text) if is_cut else self.hide(text)


def _parts(secret: str) -> Iterator[str]:
    if len(secret) >= _MIN_LENGTH:
        yield secret
        yield from (word for word in secret.split() if len(word) >= _MIN_SEGMENT_LENGTH)
