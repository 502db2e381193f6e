"""Numbers as the humanizing functions take them: numeric values or their texts."""

import re
from typing import Final

from promcompat.alerting.templates.go_format import go_text
from promcompat.alerting.templates.values import type_name

_HEX_FLOAT: Final = re.compile(r"[+-]?0[xX][0-9a-fA-F_]*\.?[0-9a-fA-F_]*[pP][+-]?[0-9]+")
_FLOAT: Final = re.compile(
    r"[+-]?(?:inf(?:inity)?|nan|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)", re.IGNORECASE
)


def parse_go_number(value: object) -> float:
    """The float of a number or of its text. Raises ValueError in Prometheus' words."""
    match value:
        case bool():
            raise ValueError(f"can't convert {type_name(value)} to float")
        case int() | float():
            return float(value)
        case str():
            if _HEX_FLOAT.fullmatch(value):
                return _hex_float(value)
            if _FLOAT.fullmatch(value):
                return float(value)
            raise ValueError(f'strconv.ParseFloat: parsing "{go_text(value)}": invalid syntax')
        case _:
            raise ValueError(f"can't convert {type_name(value)} to float")


def _hex_float(text: str) -> float:
    try:
        return float.fromhex(text.replace("_", ""))
    except OverflowError as exc:
        raise ValueError(f'strconv.ParseFloat: parsing "{text}": value out of range') from exc
