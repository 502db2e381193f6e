"""What the receiver of Graphite's lines keeps until it stores them."""

from dataclasses import dataclass, field
from typing import cast

from promcompat.imports.columns import ImportedColumns
from promcompat.listeners.receivers import Flusher, GraphiteReceiver

LINE = "a" * (1 << 20) + " 1"


@dataclass
class Written:
    """Keeps what would be stored."""

    columns: list[ImportedColumns] = field(default_factory=list)

    async def write(self, columns: ImportedColumns) -> None:
        self.columns.append(columns)


async def test_memory_of_waiting_lines_is_bounded_and_what_is_dropped_is_counted() -> None:
    written = Written()
    receiver = GraphiteReceiver(cast(Flusher, written), lambda: 5_000)
    for _ in range(2):
        for _ in range(70):
            receiver.take([LINE])
        receiver.take(["b 1 7"] * 200_000)
        receiver.take(["b 2", "nonsense"])
        await receiver.flush()
    for columns in written.columns:
        assert columns.timestamps.tolist() == [5_000] * 64
        assert columns.faults.number == 7 + 200_000 + 1
        assert columns.faults.reasons[1:] == ["too many lines wait to be stored"]
    await receiver.flush()
    assert len(written.columns) == 2
