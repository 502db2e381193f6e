"""Which texts PostgreSQL can hold: Unicode without U+0000 and without lone surrogates."""

import re
from typing import Final

UNICODE_TEXT: Final = "Unicode text without U+0000 or lone surrogates"
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def is_storable_text(text: str) -> bool:
    """Whether the database can hold the text."""
    return _UNSTORABLE.search(text) is None


def text_fault(text: str) -> str | None:
    """Why the text cannot be stored; None if it can."""
    found = _UNSTORABLE.search(text)
    if found is None:
        return None
    if found.group() == "\0":
        return "contains U+0000, which the database cannot store"
    return "is not valid Unicode: it contains a lone surrogate"


def storable_text(text: str) -> str:
    """The text with U+FFFD in place of what the database cannot hold: for texts for people."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)
