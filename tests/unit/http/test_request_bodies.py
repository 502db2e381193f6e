"""What is read and unpacked of request bodies, and what is refused."""

import gzip

import pytest

from promcompat.api.forms import MAX_PARAMETERS, parse_form
from promcompat.core.errors import BadDataError, PayloadTooLargeError
from promcompat.http.bodies import unpack_gzip

URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("sizes", [[], [0], [1], [100_000, 0, 3], [1_000_000], [7] * 500])
def test_members_are_unpacked_one_after_the_other(sizes: list[int]) -> None:
    contents = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    body = b"".join(map(gzip.compress, contents))
    assert unpack_gzip(body, sum(sizes)) == b"".join(contents)
    if sum(sizes):
        with pytest.raises(PayloadTooLargeError):
            unpack_gzip(body, sum(sizes) - 1)


def test_200_000_members_are_refused_by_their_number() -> None:
    with pytest.raises(BadDataError, match="more than 10000 members"):
        unpack_gzip(gzip.compress(b"") * 200_000, 1 << 25)


@pytest.mark.parametrize(
    "body",
    [b"junk", gzip.compress(b"x" * 1000, mtime=0)[:-1], gzip.compress(b"", mtime=0) + b"x"],
    ids=["no gzip", "cut off", "more behind it"],
)
def test_what_is_no_gzip_is_refused_in_our_words(body: bytes) -> None:
    with pytest.raises(BadDataError, match=r"^the (gzip )?body is (not valid gzip|truncated)$"):
        unpack_gzip(body, 1 << 20)


def test_urlencoded_bodies_come_before_the_url() -> None:
    form = parse_form("query=url&x=1", URLENCODED, b"query=body&query=other")
    assert (form.get("query"), form.all("query"), form.get("x")) == (
        "body",
        ["body", "other", "url"],
        "1",
    )


def test_bodies_are_decoded_as_in_one_piece() -> None:
    for body in ("query=" + "aü😀" * 100_000).encode(), b"query=" + b"\xf0\x9f" * 200_000:
        assert parse_form("", URLENCODED, body).get("query") == body[6:].decode(errors="replace")


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\nup{a="\xc3\xbc"}\r\n'
    b"--b\r\ncontent-type: text/plain\r\ncontent-disposition: form-data; name=time\r\n"
    b"\r\n1\r\n2\r\n"
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nfile\r\n'
    b"--b\r\n\r\nno name\r\n--b--\r\nafter the end"
)


def test_multipart_fields_come_after_the_url() -> None:
    form = parse_form("", 'multipart/form-data; boundary="b"', MULTIPART)
    assert (form.get("query"), form.get("time"), form.get("f")) == ('up{a="ü"}', "1\r\n2", "")
    form = parse_form("query=url", "multipart/form-data; boundary=b", MULTIPART)
    assert form.all("query") == ["url", 'up{a="ü"}']


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_multipart_without_a_boundary_is_ignored(content_type: str) -> None:
    assert parse_form("query=url", content_type, MULTIPART).all("query") == ["url"]


@pytest.mark.parametrize(
    ("query_string", "content_type", "body"),
    [
        ("a&" * MAX_PARAMETERS, "", b""),
        ("", URLENCODED, b"a&" * 5_000_000),
        ("", "multipart/form-data; boundary=b", b"\r\n--b" * 1_000_000),
    ],
)
def test_too_many_parameters_are_refused_by_their_number(
    query_string: str, content_type: str, body: bytes
) -> None:
    with pytest.raises(BadDataError, match="more than 10000 parameters"):
        parse_form(query_string, content_type, body)


@pytest.mark.parametrize("position", [0, 262_142, 262_143, 262_144, 262_145, 600_000])
def test_a_bad_escape_is_found_wherever_it_is(position: int) -> None:
    text = "%41" * 100_000
    text = text + "a" * (position - len(text)) if position > len(text) else "a" * position
    form = parse_form("query=" + text + "%4z", "", b"")
    assert form.get("query") == ""
    with pytest.raises(BadDataError, match='invalid URL escape "%4z"'):
        form.check()
    assert parse_form("query=" + "a" * position + "%41", "", b"").get("query").endswith("A")
