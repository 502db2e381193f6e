"""JSON of any text, including lone surrogates, which stand for bytes that are not UTF-8."""

import json

import orjson

from promcompat.core.texts.strconv import to_unicode


def dump_json(value: object) -> bytes:
    """`value` as UTF-8 JSON, with U+FFFD for each byte that is not UTF-8."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return to_unicode(text).encode()
