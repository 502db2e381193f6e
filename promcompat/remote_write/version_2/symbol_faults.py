"""What is wrong with a series of remote write 2.0, in Prometheus' words."""

from collections.abc import Callable, Sequence
from typing import Final

from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import Labels
from promcompat.remote_write.version_2.remote_v2_pb2 import Metadata, TimeSeries
from promcompat.remote_write.version_2.symbol_label_kernels import (
    EXEMPLAR_REFS,
    LABELS_TOO_LONG,
    METADATA_REF_OUTSIDE,
    NO_SAMPLES,
)

_SHOWN_REFS: Final = 20
_SHOWN_BYTES: Final = 100
"""Of a name or a value."""


def describe_fault(
    fault: int,
    series: TimeSeries,
    symbol: Callable[[int], bytes],
    n_symbols: int,
    limits: LabelLimits,
) -> str:
    """The text for a fault of `symbol_kernels`; `symbol` gives the symbols of the request."""
    refs = series.labels_refs
    if fault == METADATA_REF_OUTSIDE:
        return (
            f"parsing metadata for series {_shown(refs)}: "
            f"{_outside_metadata(series.metadata, n_symbols)}"
        )
    if fault == EXEMPLAR_REFS:
        faults = (_refs_fault(exemplar.labels_refs, n_symbols) for exemplar in series.exemplars)
        return f"parsing exemplar for series {_shown(refs)}: {next(filter(None, faults), '')}"
    if fault == NO_SAMPLES:
        text = _series_text(refs, symbol)
        return f"TimeSeries must contain at least one sample or histogram for series {text}"
    if fault == LABELS_TOO_LONG:
        return (
            f"the labels of a series take more than {limits.max_key_bytes} bytes, more than the "
            f"limits allow: series {_series_text(refs, symbol)}"
        )
    return f"parsing labels for series {_shown(refs)}: {_refs_fault(refs, n_symbols)}"


def _refs_fault(refs: Sequence[int], n_symbols: int) -> str:
    if len(refs) % 2:
        return f"invalid labelRefs length {len(refs)}"
    for name, value in zip(refs[::2], refs[1::2], strict=True):
        if name >= n_symbols or value >= n_symbols:
            return (
                f"labelRefs {name} (name) = {value} (value) outside of symbols table "
                f"(size {n_symbols})"
            )
    return ""


def _outside_metadata(metadata: Metadata, n_symbols: int) -> str:
    which, ref = "help_ref", metadata.help_ref
    if ref < n_symbols:
        which, ref = "unit_ref", metadata.unit_ref
    return f"metadata {which} {ref} outside of symbols table (size {n_symbols})"


def _shown(refs: Sequence[int]) -> str:
    shown = " ".join(map(str, refs[:_SHOWN_REFS]))
    return f"[{shown}{' …' if len(refs) > _SHOWN_REFS else ''}]"


def _series_text(refs: Sequence[int], symbol: Callable[[int], bytes]) -> str:
    texts = [symbol(ref)[:_SHOWN_BYTES].decode(errors="replace") for ref in refs[:_SHOWN_REFS]]
    return str(Labels(zip(texts[::2], texts[1::2], strict=False)))
