"""Which native histograms are not valid, in Prometheus' words.

The rules and texts are those of `Histogram.Validate` and `FloatHistogram.Validate`.
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms import validation_kernels as faults_of
from promcompat.core.histograms.columns import Histograms
from promcompat.core.texts.strconv import format_f, format_g

LAST_SCHEMA: Final = 8
"""The finest exponential schema that is stored; finer ones up to 52 are reduced to it."""
LAST_KNOWN_SCHEMA: Final = 52
_SIDES: Final = ("positive side: ", "negative side: ", "custom buckets: ")
_WITHOUT_NUMBERS: Final = {
    faults_of.BOUNDS_OF_EXPONENTIAL: "histogram with exponential schema must not have custom "
    "bounds",
    faults_of.BOUND_INFINITE: "custom buckets: last +Inf bound must not be explicitly defined: "
    "histogram custom bounds must be finite",
    faults_of.BOUND_NAN: "custom buckets: histogram custom bounds must not be NaN",
    faults_of.CUSTOM_ZERO_COUNT: "custom buckets: must have zero count of 0",
    faults_of.CUSTOM_ZERO_THRESHOLD: "custom buckets: must have zero threshold of 0",
    faults_of.CUSTOM_NEGATIVE_SPANS: "custom buckets: must not have negative spans",
    faults_of.CUSTOM_NEGATIVE_BUCKETS: "custom buckets: must not have negative buckets",
}
_NEGATIVE_BUCKET: Final = "histogram has a bucket whose observation count is negative"


def find_faults(histograms: Histograms, schemas: NDArray[np.int64] | None = None) -> dict[int, str]:
    """What is wrong with each histogram that is not valid.

    `schemas` int64 are the schemas as they were sent, if these need not fit into the column.
    """
    found = np.zeros((len(histograms), 4), np.int64)
    parts = (
        histograms.positive_spans,
        histograms.negative_spans,
        histograms.positive,
        histograms.negative,
        histograms.bounds,
    )
    faults_of.find_histogram_faults(
        np.asarray(histograms.schemas if schemas is None else schemas, np.int64),
        histograms.is_float,
        histograms.zero_thresholds,
        histograms.zero_counts,
        histograms.counts,
        histograms.sums,
        np.stack([part.offsets for part in parts]),
        histograms.positive_spans.cells,
        histograms.negative_spans.cells,
        histograms.positive.cells,
        histograms.negative.cells,
        histograms.bounds.cells,
        found,
    )
    return {
        row: _text(found[row].tolist(), is_float=bool(histograms.is_float[row]))
        for row in np.flatnonzero(found[:, 0]).tolist()
    }


def _text(found: list[int], *, is_float: bool) -> str:
    code, side, first, second = found
    if code in _WITHOUT_NUMBERS:
        return _WITHOUT_NUMBERS[code]
    match code:
        case faults_of.SCHEMA:
            return (
                "histogram has an invalid schema, which must be between -4 and 8 for exponential "
                f"buckets, or -53 for custom buckets, got schema {first}"
            )
        case faults_of.NEGATIVE_ZERO_BUCKET:
            return f"zero bucket has observation count of {_count(first)}: {_NEGATIVE_BUCKET}"
        case faults_of.NEGATIVE_COUNT:
            # Prometheus has two spaces here.
            return (
                f"observation count is  {_count(first)}: histogram's observation count is negative"
            )
        case faults_of.COUNT_DIFFERS | faults_of.COUNT_TOO_SMALL:
            return _total_text(code, first, second)
        case _:
            return _SIDES[side] + _bucket_text(code, first, second, is_float)


def _total_text(code: int, total: int, count: int) -> str:
    rule = "should be at least the number of observations found in the buckets"
    if code == faults_of.COUNT_DIFFERS:
        rule = "should equal the number of observations found in the buckets (in absence of NaN)"
    found, counted = total % (1 << 64), count % (1 << 64)
    return (
        f"{found} observations found in buckets, but the Count field is {counted}: "
        f"histogram's observation count {rule}"
    )


def _bucket_text(code: int, first: int, second: int, is_float: bool) -> str:
    match code:
        case faults_of.SPAN_OFFSET:
            rule = "histogram has a span whose offset is negative"
            return f"span number {first} with offset {second}: {rule}"
        case faults_of.SPAN_BUCKETS:
            rule = "histogram spans specify different number of buckets than provided"
            return f"spans need {first} buckets, have {second} buckets: {rule}"
        case faults_of.NEGATIVE_BUCKET:
            count = _count(second) if is_float else str(second)
            return f"bucket number {first} has observation count of {count}: {_NEGATIVE_BUCKET}"
        case faults_of.TOO_FEW_BOUNDS:
            return (
                f"only {first} custom bounds defined which is insufficient to cover total span "
                f"length of {second}: histogram custom bounds are too few"
            )
        case _:
            before, bound = format_f(_as_float(first)), format_f(_as_float(second))
            rule = "histogram custom bounds must be in strictly increasing order"
            return f"previous bound is {before} and current is {bound}: {rule}"


def _count(bits: int) -> str:
    return format_g(_as_float(bits))


def _as_float(bits: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return value
