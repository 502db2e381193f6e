"""The metadata of metric families in a remote-write request."""

from collections.abc import Sequence

from promcompat.core.limits.label_limits import LabelFault
from promcompat.core.model import MetricMetadata
from promcompat.core.texts.storable_text import storable_text
from promcompat.remote_write.remote_pb2 import MetricMetadata as WireMetadata

_SHOWN_CHARACTERS = 200


def decode_metadata(
    entries: Sequence[WireMetadata], max_bytes: int
) -> tuple[tuple[MetricMetadata, ...], list[str]]:
    """The last entry of each family, and the reasons why other entries are refused.

    Family names and units of more than `max_bytes` are refused; a longer help text is truncated.
    """
    decoded: dict[str, MetricMetadata] = {}
    refusals: list[str] = []
    for entry in entries:
        too_long = _too_long(entry, max_bytes)
        if too_long:
            refusals.append(LabelFault.of("max_metadata_length", too_long))
        elif family := _text(entry.metric_family_name):
            help_text = _text(entry.help[:max_bytes])
            decoded[family] = MetricMetadata(
                family, _type_word(entry.type), help_text, _text(entry.unit)
            )
    return tuple(decoded.values()), refusals


def _too_long(entry: WireMetadata, max_bytes: int) -> str:
    for what, raw in (("metric name", entry.metric_family_name), ("unit", entry.unit)):
        if len(raw) > max_bytes:
            shown = _text(raw[:_SHOWN_CHARACTERS])
            return f'metadata: {what} "{shown}…" has {len(raw)} bytes; the limit is {max_bytes}'
    return ""


def _type_word(number: int) -> str:
    known = number in WireMetadata.MetricType.values()
    return WireMetadata.MetricType.Name(number).lower() if known else "unknown"


def _text(raw: bytes) -> str:
    return storable_text(raw.decode(errors="replace"))
