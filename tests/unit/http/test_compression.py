"""Which clients get compressed answers, of whichever API."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from isal import igzip
from multidict import CIMultiDict

from native_api.contract.responses import json_response
from promcompat.http.compression import accepts_gzip, packed, packed_pieces

READS = (
    ("gzip",),
    ("GZIP",),
    ("deflate, gzip",),
    ("br, gzip;q=0.5",),
    ("gzip; q=0.001",),
    ("x-gzip",),
    ("br", "gzip"),
)
READS_NOT = (
    (),
    ("",),
    ("deflate",),
    ("identity",),
    ("gzip;q=0",),
    ("gzip ; Q=0.000",),
    ("gzippy",),
    ("br;q=1, gzip;q=0",),
)


def request_with(encodings: tuple[str, ...]) -> web.Request:
    headers = CIMultiDict([("Accept-Encoding", encoding) for encoding in encodings])
    return make_mocked_request("GET", "/", headers)


@pytest.mark.parametrize("encodings", READS)
def test_who_names_gzip_gets_it_from_both_apis(encodings: tuple[str, ...]) -> None:
    request = request_with(encodings)
    assert accepts_gzip(request)
    response = json_response(request, b"[" + b"1," * 500 + b"1]")
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("encodings", READS_NOT)
def test_who_refuses_gzip_or_does_not_name_it_gets_plain_answers(
    encodings: tuple[str, ...],
) -> None:
    request = request_with(encodings)
    assert not accepts_gzip(request)
    response = json_response(request, b"[" + b"1," * 500 + b"1]")
    assert "Content-Encoding" not in response.headers


def test_pieces_are_one_member() -> None:
    pieces = [b"a" * 100_000, b"", b"b" * 3]
    whole = b"".join(pieces)
    assert igzip.decompress(b"".join(packed_pieces(pieces))) == whole
    assert igzip.decompress(packed(whole)) == whole
