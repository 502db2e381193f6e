"""The fields of protobuf messages: walks them without decoding what is in them, and writes them.

The protobuf library decodes a message in one call, during which nothing else runs: 32 MB of empty
series become 16 million objects. So large messages are counted first and decoded in pieces.
"""

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from promcompat.core.errors import BadDataError

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
MessageT = TypeVar("MessageT", bound=Message)


def parse_message(kind: type[MessageT], wire: bytes, name: str) -> MessageT:
    """The message of this kind, without unknown fields. `name` is what the protocol calls it.

    Raises BadDataError if it is malformed. That is also a known field of another wire type, as for
    Go's decoders: the library takes it for an unknown field, so that a value would be 0.
    """
    try:
        message = kind.FromString(wire)
    except DecodeError as exc:
        raise BadDataError(f"proto: cannot decode {name}") from exc
    n_bytes = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != n_bytes:
        _check_wire_types(kind.FromString(wire))
    return message


def _check_wire_types(message: Message) -> None:
    known = message.DESCRIPTOR.fields_by_number
    unknown = UnknownFieldSet(message)
    for field in (unknown[number] for number in range(len(unknown))):
        if described := known.get(field.field_number):
            raise BadDataError(
                f"proto: wrong wireType = {field.wire_type} for field {described.name}"
            )
    for described, value in message.ListFields():
        if described.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                _check_wire_types(part)


def split_fields(message: bytes, piece_bytes: int, max_fields: int, what: str) -> list[bytes]:
    """Split a message into messages of about `piece_bytes` that share out its fields, in order.

    Raises BadDataError for a malformed message, or one with more than `max_fields`; `what` names
    the fields in the error.
    """
    pieces: list[bytes] = []
    start = 0
    for end in _counted_ends(message, max_fields, what):
        if end - start >= piece_bytes:
            pieces.append(message[start:end])
            start = end
    if start < len(message):
        pieces.append(message[start:])
    return pieces


def check_field_count(message: bytes, max_fields: int, what: str) -> None:
    """Raises BadDataError as `split_fields` does."""
    for _ in _counted_ends(message, max_fields, what):
        pass


def read_fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, start of the content, and end of each field.

    The content of a field that is not delimited by a length starts after its tag.
    """
    start = 0
    for end in _field_ends(message):
        tag, first = _varint(message, start)
        if tag & 7 == _DELIMITED:
            _, first = _varint(message, first)
        yield tag >> 3, start, first, end
        start = end


def encoded_varint(number: int) -> bytes:
    """A number of at least 0."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encoded_field(tag: int, content: bytes) -> bytes:
    """A field that is delimited by its length; a tag below 128 is one byte."""
    return bytes((tag,)) + encoded_varint(len(content)) + content


def _counted_ends(message: bytes, max_fields: int, what: str) -> Iterator[int]:
    for number, end in enumerate(_field_ends(message), start=1):
        if number > max_fields:
            raise BadDataError(f"the request has more than {max_fields} {what}")
        yield end


def _field_ends(message: bytes) -> Iterator[int]:
    """The position after each field."""
    position, length = 0, len(message)
    try:
        while position < length:
            wire_type = message[position] & 7
            position = _after_varint(message, position)
            match wire_type:
                case 2:
                    size, position = _varint(message, position)
                    position += size
                case 0:
                    position = _after_varint(message, position)
                case 1:
                    position += 8
                case 5:
                    position += 4
                case _:
                    raise BadDataError("proto: the request has a field of an unknown wire type")
            if position > length:
                raise BadDataError("proto: the request ends within a field")
            yield position
    except IndexError:
        raise BadDataError("proto: the request ends within a field") from None


def _after_varint(message: bytes, position: int) -> int:
    while message[position] >= 0x80:
        position += 1
    return position + 1


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift >= 7 * _MAX_VARINT_BYTES:
            raise BadDataError("proto: the request has a varint of more than 10 bytes")
