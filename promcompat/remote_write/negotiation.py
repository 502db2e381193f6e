"""Checks the headers of a remote-write request before its body is read."""

from enum import StrEnum

from promcompat.core.errors import UnsupportedMediaTypeError

PROTOBUF_MEDIA_TYPE = "application/x-protobuf"
_MAX_HEADER = 1_000
"""Characters."""


class WriteMessage(StrEnum):
    """The protobuf messages of remote write, by their names in `proto=`."""

    V1 = "prometheus.WriteRequest"
    V2 = "io.prometheus.write.v2.Request"


def check_content_encoding(header: str) -> None:
    """Raises UnsupportedMediaTypeError for a Content-Encoding other than snappy.

    Names of codings are case-insensitive (RFC 9110, 8.4.1). Some senders (Telegraf) omit the
    header, but send snappy.
    """
    if header.lower() not in ("", "snappy"):
        raise UnsupportedMediaTypeError(
            f"{header[:_MAX_HEADER]} encoding (compression) is not accepted by this server; "
            "only snappy is acceptable"
        )


def negotiate_message(content_type: str) -> WriteMessage:
    """Which message the body contains; version 1 if the header is missing or does not say.

    Raises UnsupportedMediaTypeError for another media type or message.
    """
    if not content_type:
        return WriteMessage.V1
    if len(content_type) > _MAX_HEADER:
        raise UnsupportedMediaTypeError("the Content-Type header is too long")
    media_type, *parameters = (part.strip() for part in content_type.split(";"))
    if media_type != PROTOBUF_MEDIA_TYPE:
        raise UnsupportedMediaTypeError(
            f"expected {PROTOBUF_MEDIA_TYPE} as the first (media) part, "
            f"got {content_type} content-type"
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "proto":
            return _message_named(value, content_type)
    return WriteMessage.V1


def _message_named(name: str, content_type: str) -> WriteMessage:
    try:
        return WriteMessage(name)
    except ValueError as exc:
        raise UnsupportedMediaTypeError(
            f"got {content_type} content type; unknown remote write protobuf message {name}, "
            f"supported: {', '.join(message.value for message in WriteMessage)}"
        ) from exc
