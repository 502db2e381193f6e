"""JSON of any text: also of one with lone surrogates, which stand for bytes that are no UTF-8."""

import json

import orjson

from promcompat.core.strconv import to_unicode


def dump_json(value: object) -> bytes:
    """`value` as UTF-8 JSON, with U+FFFD for each byte that is no UTF-8."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return to_unicode(text).encode()
