"""From exemplars on the wire to those that are stored."""

from collections.abc import Sequence
from typing import Final

from promcompat.core.exemplars import Exemplar, SeriesExemplar
from promcompat.core.model import Labels
from promcompat.remote_write.left_series import WireExemplar
from promcompat.remote_write.remote_pb2 import Exemplar as WireMessage
from promcompat.remote_write.series_key import decode_series_key
from promcompat.remote_write.wire_fields import parse_message

MAX_EXEMPLARS: Final = 10_000
"""Of one piece of a request; the others are dropped, because so many say nothing more."""


def decode_exemplars(exemplars: Sequence[WireExemplar]) -> list[SeriesExemplar]:
    """The exemplars of a piece in their order. Raises BadDataError if one is malformed.

    Bytes that are not UTF-8 are replaced.
    """
    labels_of_key: dict[bytes, Labels] = {}
    decoded = []
    for key, wire in exemplars[:MAX_EXEMPLARS]:
        series = labels_of_key.get(key)
        if series is None:
            series = labels_of_key[key] = decode_series_key(key)
        decoded.append(SeriesExemplar(series, _decode(wire)))
    return decoded


def _decode(wire: bytes) -> Exemplar:
    message = parse_message(WireMessage, wire, "prometheus.Exemplar")
    pairs = {
        label.name.decode(errors="replace"): label.value.decode(errors="replace")
        for label in message.labels
    }
    return Exemplar(Labels.of(pairs), message.value, message.timestamp)
