"""Native histograms as JSON objects of exports and imports: every bit comes back.

`{"schema":0,"count":12,"sum":18.4,"zero_threshold":0.001,"zero_count":2,`
`"positive_spans":[[0,2],[1,1]],"positive_counts":[4,3,3],"counter_reset_hint":"gauge"}`

`positive_counts` are the counts of the buckets that `positive_spans` (offset and length of each, as
in Prometheus' protobuf) name, each by itself, not as a difference; `negative_spans` and
`negative_counts` likewise. `custom_bounds` are the upper bounds of custom buckets, schema -53.
`float_counts` is true where counts are floats. What is 0, empty, false or unknown is left out, but
for schema, count and sum.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf, isfinite, isnan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import Histograms, Ragged

_HINTS: Final = ("unknown", "reset", "not_reset", "gauge")
_USUAL_NAN_BITS: Final = 0x7FF8000000000001
_TEXTS: Final = {"Infinity": inf, "-Infinity": -inf}
_NAN_WITH_BITS: Final = "NaN:"
"""Before the 16 hexadecimal digits of a NaN that is not the usual one."""
_LARGEST: Final = {"integer": (1 << 64) - 1, "offset": (1 << 31) - 1}
_HINT: Final = "counter_reset_hint"
_KEYS: Final = frozenset(
    {
        "schema",
        "count",
        "sum",
        "zero_threshold",
        "zero_count",
        "positive_spans",
        "positive_counts",
        "negative_spans",
        "negative_counts",
        "custom_bounds",
        _HINT,
        "float_counts",
    }
)
_Object = Mapping[str, Any]


def histogram_objects(histograms: Histograms) -> list[dict[str, Any]]:
    """An object for each histogram."""
    is_float = histograms.is_float
    columns = zip(
        histograms.schemas.tolist(),
        histograms.hints.tolist(),
        is_float.tolist(),
        histograms.sums,
        histograms.zero_thresholds,
        *(
            _count_lists(Ragged(np.arange(len(is_float) + 1), column), is_float)
            for column in (histograms.counts, histograms.zero_counts)
        ),
        _lists(histograms.positive_spans),
        _count_lists(histograms.positive, is_float),
        _lists(histograms.negative_spans),
        _count_lists(histograms.negative, is_float),
        _rows(histograms.bounds),
        strict=True,
    )
    return [_object_of(*row) for row in columns]


def _object_of(
    schema: int,
    hint: int,
    is_float: bool,
    sum_: np.float64,
    zero_threshold: np.float64,
    counts: list[Any],
    zero_counts: list[Any],
    positive_spans: list[Any],
    positive: list[Any],
    negative_spans: list[Any],
    negative: list[Any],
    bounds: NDArray[np.float64],
) -> dict[str, Any]:
    found = {"schema": schema, "count": counts[0], "sum": _json_float(sum_)}
    rest = {
        "zero_threshold": _json_float(zero_threshold),
        "zero_count": zero_counts[0],
        "positive_spans": positive_spans,
        "positive_counts": positive,
        "negative_spans": negative_spans,
        "negative_counts": negative,
        "custom_bounds": [_json_float(bound) for bound in bounds],
        _HINT: _HINTS[hint] if hint else "",
        "float_counts": is_float,
    }
    # -0.0 is equal to 0, but has a bit more.
    found.update((key, value) for key, value in rest.items() if value or str(value) == "-0.0")
    return found


def _rows(ragged: Ragged[Any]) -> Iterator[NDArray[Any]]:
    for first, end in pairwise(ragged.offsets.tolist()):
        yield ragged.cells[first:end]


def _lists(ragged: Ragged[Any]) -> Iterator[list[Any]]:
    return (row.tolist() for row in _rows(ragged))


def _count_lists(counts: Ragged[np.int64], is_float: NDArray[np.bool_]) -> Iterator[list[Any]]:
    for row, floats in zip(_rows(counts), is_float.tolist(), strict=True):
        if floats:
            yield [_json_float(count) for count in row.view(np.float64)]
        else:
            yield row.view(np.uint64).tolist()


def _json_float(value: np.float64) -> float | str:
    number = float(value)
    if isfinite(number):
        return number
    if not isnan(number):
        return "Infinity" if number > 0 else "-Infinity"
    bits = int(value.view(np.uint64))
    return "NaN" if bits == _USUAL_NAN_BITS else f"{_NAN_WITH_BITS}{bits:016x}"


def histograms_of(objects: Sequence[_Object]) -> Histograms:
    """The histograms of objects that `checked_object` let through."""
    is_float = np.array([bool(one.get("float_counts")) for one in objects], np.bool_)

    def counts(key: str) -> NDArray[np.int64]:
        pairs = zip(objects, is_float.tolist(), strict=True)
        return _ragged_counts([([one.get(key, 0)], floats) for one, floats in pairs]).cells

    def side(key: str) -> Ragged[np.int64]:
        pairs = zip(objects, is_float.tolist(), strict=True)
        return _ragged_counts([(one.get(key, ()), floats) for one, floats in pairs])

    return Histograms(
        np.array([one["schema"] for one in objects], np.int8),
        np.array(
            [_HINTS.index(one.get("counter_reset_hint", "unknown")) for one in objects], np.uint8
        ),
        is_float,
        _floats([one.get("zero_threshold", 0) for one in objects]),
        counts("zero_count"),
        counts("count"),
        _floats([one["sum"] for one in objects]),
        _spans([one.get("positive_spans", ()) for one in objects]),
        _spans([one.get("negative_spans", ()) for one in objects]),
        side("positive_counts"),
        side("negative_counts"),
        _ragged([_floats(one.get("custom_bounds", ())) for one in objects], np.float64),
    )


def _ragged(rows: Sequence[NDArray[Any]], dtype: Any) -> Ragged[Any]:
    lengths = np.array([len(row) for row in rows], np.int64)
    return Ragged.of_lengths(lengths, np.concatenate([np.empty(0, dtype), *rows]))


def _ragged_counts(rows: Sequence[tuple[Sequence[Any], bool]]) -> Ragged[np.int64]:
    cells = [
        (_floats(row) if floats else np.array(row, np.uint64)).view(np.int64)
        for row, floats in rows
    ]
    return _ragged(cells, np.int64)


def _spans(rows: Sequence[Sequence[Sequence[int]]]) -> Ragged[np.int32]:
    lengths = np.array([len(row) for row in rows], np.int64)
    spans = [span for row in rows for span in row]
    return Ragged.of_lengths(lengths, np.array(spans, np.int32).reshape(-1, 2))


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    bits = [struct.unpack("<q", _float_bytes(value))[0] for value in values]
    return np.array(bits, np.int64).view(np.float64)


def _float_bytes(value: float | str) -> bytes:
    if isinstance(value, str):
        if value == "NaN":
            return struct.pack("<Q", _USUAL_NAN_BITS)
        if value.startswith(_NAN_WITH_BITS):
            return struct.pack("<Q", int(value.removeprefix(_NAN_WITH_BITS), 16))
        value = _TEXTS[value]
    return struct.pack("<d", value)


def checked_object(value: _Object) -> _Object:
    """The object of a histogram; raises ValueError that says what is wrong with it."""
    if unknown := value.keys() - _KEYS:
        raise ValueError(f"a histogram has no {min(unknown)!r}; it has {', '.join(sorted(_KEYS))}")
    schema, floats = value.get("schema"), value.get("float_counts", False)
    if type(schema) is not int or not -128 <= schema <= 127:
        raise ValueError(f"the `schema` of a histogram is {schema!r}; expected -53 or -4 to 8")
    if not isinstance(floats, bool):
        raise ValueError("`float_counts` of a histogram must be true or false")
    if value.get(_HINT, _HINTS[0]) not in _HINTS:
        raise ValueError(f"`{_HINT}` of a histogram must be one of {', '.join(_HINTS)}")
    for key in ("sum", "zero_threshold"):
        _check_numbers(key, [value.get(key, 0 if key == "zero_threshold" else None)], True)
    for key in ("count", "zero_count"):
        _check_numbers(key, [value.get(key, 0 if key == "zero_count" else None)], floats)
    for key in ("positive_counts", "negative_counts", "custom_bounds"):
        _check_numbers(key, value.get(key, []), floats or key == "custom_bounds")
    for key in ("positive_spans", "negative_spans"):
        _check_spans(key, value.get(key, []))
    return value


def _check_numbers(key: str, numbers: object, floats: bool) -> None:
    if not isinstance(numbers, list):
        raise ValueError(f"`{key}` of a histogram must be an array")
    for number in numbers:
        is_number = type(number) is int and 0 <= number <= _LARGEST["integer"]
        if not is_number and not (floats and _is_float(number)):
            wanted = "a number" if floats else "a whole number of 64 bits that is not negative"
            raise ValueError(f"`{key}` of a histogram has {number!r}, which is not {wanted}")


def _is_float(value: object) -> bool:
    if isinstance(value, str):
        if value in ("NaN", *_TEXTS):
            return True
        digits = value.removeprefix(_NAN_WITH_BITS)
        is_hexadecimal = len(digits) == 16 and not set(digits) - set("0123456789abcdef")
        return value != digits and is_hexadecimal and isnan(_float_of_bits(int(digits, 16)))
    return type(value) in (int, float)


def _float_of_bits(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def _check_spans(key: str, spans: object) -> None:
    if not isinstance(spans, list):
        raise ValueError(f"`{key}` of a histogram must be an array")
    most = _LARGEST["offset"]
    for span in spans:
        match span:
            case [int(offset), int(length)] if abs(offset) <= most and 0 <= length <= most:
                continue
        raise ValueError(f"`{key}` of a histogram has {span!r}; expected [offset, length]")
