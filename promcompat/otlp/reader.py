"""Reads export requests by the options of a process."""

from dataclasses import dataclass, field

from promcompat.otlp.deltas import DeltaTotals
from promcompat.otlp.point_keys import KnownKeys
from promcompat.otlp.requests import parse_json, parse_protobuf
from promcompat.otlp.resources import OtlpOptions
from promcompat.otlp.translation import Samples, translate


@dataclass(frozen=True, slots=True)
class OtlpReader:
    """How requests are translated, and the totals of deltas."""

    options: OtlpOptions = field(default_factory=OtlpOptions)
    totals: DeltaTotals = field(default_factory=DeltaTotals)
    known: KnownKeys = field(default_factory=KnownKeys)

    def read(self, message: bytes, tenant: str, *, is_json: bool) -> Samples:
        """The samples of a request, or of a piece of it. Raises BadDataError."""
        request = parse_json(message) if is_json else parse_protobuf(message)
        return translate(request, self.options, self.totals, tenant, self.known)
