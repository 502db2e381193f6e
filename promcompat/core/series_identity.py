"""What identifies a series in the database, apart from its tenant."""

import hashlib
from itertools import chain

import orjson

from promcompat.core.model import METRIC_NAME, Labels, SeriesIdentity


def fingerprint_of(labels: Labels) -> bytes | None:
    """The 16 bytes that identify a label set in the database, or None if it cannot be stored.

    PostgreSQL's text has no NUL, so a label with one has no fingerprint, and a lone surrogate is no
    text.
    """
    joined = "\0".join(chain.from_iterable(labels.pairs))
    if joined.count("\0") != max(0, 2 * len(labels) - 1):
        return None
    try:
        return fingerprint_of_text(joined.encode())
    except UnicodeEncodeError:
        return None


def fingerprint_of_text(text: bytes) -> bytes:
    """BLAKE2b-128 of names and values in order of name, as UTF-8, separated by NUL.

    It is stored, so it may never change.
    """
    return hashlib.blake2b(text, digest_size=16).digest()


def identity_of(labels: Labels) -> SeriesIdentity | None:
    """The identity of a label set, or None if it cannot be stored."""
    fingerprint = fingerprint_of(labels)
    if fingerprint is None:
        return None
    document = orjson.dumps({name: value for name, value in labels if name != METRIC_NAME})
    return SeriesIdentity(fingerprint, labels.get(METRIC_NAME), document.decode())
