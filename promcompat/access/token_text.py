"""The text of tokens: `promcompat_<32 letters and digits>_<CRC-32 in 8 hexadecimal digits>`.

The random part has 190 bits, so that nobody can guess it from its digest, and one SHA-256 is enough
to store it. The prefix and the checksum let scanners of repositories find tokens, and tell a typing
error without a look into the database.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import Final

_ALPHABET: Final = string.ascii_letters + string.digits
_N_RANDOM: Final = 32
_TOKEN: Final = re.compile(r"(promcompat_[A-Za-z0-9]{32})_([0-9a-f]{8})", re.ASCII)


def new_token_text() -> str:
    """A token that nobody has had before."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_N_RANDOM))
    return _with_checksum(f"promcompat_{random}")


def is_token_text(text: str) -> bool:
    """Whether a text can be a token: it has the form, and its checksum is right."""
    found = _TOKEN.fullmatch(text)
    return found is not None and _with_checksum(found[1]) == text


def digest_of(text: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(text.encode()).digest()


def _with_checksum(start: str) -> str:
    return f"{start}_{zlib.crc32(start.encode()):08x}"
