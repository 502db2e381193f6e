"""Remote-write 2.0 requests as senders make them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import snappy

from promcompat.remote_write.remote_v2_pb2 import Exemplar, Metadata, Request, Sample, TimeSeries
from tests.wire import Pairs, bits_of
from tests.wire_histograms import WireHistogram

V2_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}


@dataclass
class RequestV2:
    """Series, and the symbols that they use."""

    symbols: list[str] = field(default_factory=lambda: [""])
    series: list[bytes] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = {text: number for number, text in enumerate(self.symbols)}

    def ref(self, text: str) -> int:
        """The number of a symbol."""
        number = self._numbers.setdefault(text, len(self.symbols))
        if number == len(self.symbols):
            self.symbols.append(text)
        return number

    def refs(self, pairs: Pairs) -> list[int]:
        """The references of labels."""
        return [self.ref(text) for pair in pairs for text in pair]

    def add(
        self,
        pairs: Pairs,
        *samples: tuple[int, float | int],
        start_ms: int = 0,
        histograms: Sequence[WireHistogram] = (),
        messages: Sequence[bytes] = (),
        exemplars: Sequence[tuple[Pairs, float, int]] = (),
        metadata: tuple[int, str, str] = (0, "", ""),
    ) -> None:
        """Add a series; samples are times and values (an int: bits), `messages` histograms."""
        kind, help_text, unit = metadata
        series = TimeSeries(
            labels_refs=self.refs(pairs),
            samples=[
                Sample(value=bits_of(value), timestamp=time_ms, start_timestamp=start_ms)
                for time_ms, value in samples
            ],
            histograms=[*(histogram.encode() for histogram in histograms), *messages],
            exemplars=[
                Exemplar(labels_refs=self.refs(labels), value=bits_of(value), timestamp=time_ms)
                for labels, value, time_ms in exemplars
            ],
        )
        if metadata != (0, "", ""):
            series.metadata.CopyFrom(
                Metadata(type=kind, help_ref=self.ref(help_text), unit_ref=self.ref(unit))
            )
        self.series.append(series.SerializeToString())

    def message(self) -> bytes:
        """The Request."""
        symbols = [symbol.encode() for symbol in self.symbols]
        return Request(symbols=symbols, timeseries=self.series).SerializeToString()

    def body(self) -> bytes:
        """The compressed Request."""
        return bytes(snappy.compress(self.message()))
