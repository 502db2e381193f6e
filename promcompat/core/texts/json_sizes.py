"""How many objects a JSON document stands for, before they are made."""

from typing import Final

MAX_JSON_TOKENS: Final = 1_000_000
"""Commas and opening brackets; the JSON library creates their objects in one call."""
JSON_TOKENS_TEXT: Final = f"more than {MAX_JSON_TOKENS:,} commas and opening brackets"


def has_many_tokens(document: bytes) -> bool:
    """Whether a document has more tokens than may be read in one call.

    Two bytes may stand for an object: 32 MB of `{},` take a second, during which nothing else runs,
    and a gigabyte.
    """
    return document.count(b",") + document.count(b"[") + document.count(b"{") > MAX_JSON_TOKENS
