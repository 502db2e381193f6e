"""Headers of remote-write requests."""

import pytest

from promcompat.core.errors import UnsupportedMediaTypeError
from promcompat.remote_write.negotiation import (
    WriteMessage,
    check_content_encoding,
    negotiate_message,
)


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        ("", WriteMessage.V1),
        ("application/x-protobuf", WriteMessage.V1),
        ("application/x-protobuf;proto=prometheus.WriteRequest", WriteMessage.V1),
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", WriteMessage.V2),
        ("application/x-protobuf;charset=utf-8", WriteMessage.V1),
    ],
)
def test_message_is_negotiated(content_type: str, message: WriteMessage) -> None:
    assert negotiate_message(content_type) is message


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        (
            "text/plain",
            "expected application/x-protobuf as the first (media) part, "
            "got text/plain content-type",
        ),
        (
            "application/x-protobuf;proto=x",
            "got application/x-protobuf;proto=x content type; unknown remote write protobuf "
            "message x, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request",
        ),
    ],
)
def test_other_types_are_refused_in_prometheus_words(content_type: str, text: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError) as caught:
        negotiate_message(content_type)
    assert str(caught.value) == text


@pytest.mark.parametrize("encoding", ["", "snappy", "SNAPPY", "Snappy"])
def test_snappy_is_accepted_and_assumed(encoding: str) -> None:
    check_content_encoding(encoding)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=f"{encoding} encoding .* only snappy"):
        check_content_encoding(encoding)
