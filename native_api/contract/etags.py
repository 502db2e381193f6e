"""ETags of versions, and the preconditions of RFC 9110 over them."""

import re

from aiohttp import hdrs, web

from native_api.contract.problem import InvalidRequestError, fault
from promcompat.core.preconditions import Precondition

_TAG = re.compile(r'(W/)?"([^"]*)"')
_LIST = re.compile(r'\s*(?:W/)?"[^"]*"\s*(?:,\s*(?:W/)?"[^"]*"\s*)*')
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


def etag_of(version: int) -> str:
    """The strong ETag of a version."""
    return f'"{version}"'


def precondition_of(request: web.Request) -> Precondition:
    """The precondition of If-Match and If-None-Match. Raises InvalidRequestError.

    Weak tags and unknown tags match nothing.
    """
    match = request.headers.get(hdrs.IF_MATCH)
    none_match = request.headers.get(hdrs.IF_NONE_MATCH)
    versions, must_exist = None, False
    if match is not None:
        must_exist = match.strip() == "*"
        versions = None if must_exist else _versions(match)
    if none_match is not None and none_match.strip() != "*":
        raise InvalidRequestError(
            [fault("header", "If-None-Match", 'is not "*"', '"*", or no If-None-Match header')]
        )
    return Precondition(
        versions=versions, must_exist=must_exist, must_not_exist=none_match is not None
    )


def is_not_modified(request: web.Request, version: int) -> bool:
    """Whether the client already has this version (If-None-Match of a GET)."""
    header = request.headers.get(hdrs.IF_NONE_MATCH, "")
    return header.strip() == "*" or version in {
        int(tag) for _, tag in _TAG.findall(header) if _VERSION.fullmatch(tag)
    }


def _versions(header: str) -> frozenset[int]:
    if not _LIST.fullmatch(header):
        raise InvalidRequestError(
            [
                fault(
                    "header",
                    hdrs.IF_MATCH,
                    "is not a list of quoted ETags",
                    '"*", or quoted ETags separated by commas',
                )
            ]
        )
    return frozenset(
        int(tag) for weak, tag in _TAG.findall(header) if not weak and _VERSION.fullmatch(tag)
    )
