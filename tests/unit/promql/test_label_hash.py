"""The hash of `limit_ratio`, checked against published test vectors of XXH64."""

import pytest

from promcompat.core.model import Labels
from promql.aggregation.label_hash import hash_labels, xxh64


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"as", 0x1C330FB2D66BE179),
        (b"asd", 0x631C37CE72A97393),
        (b"asdf", 0x415872F599CEA71E),
        (b"Call me Ishmael. Some years ago--never mind how long precisely-", 0x02A2E85470D6FD96),
    ],
)
def test_xxh64(data: bytes, expected: int) -> None:
    assert xxh64(data) == expected


def test_labels_are_hashed_with_their_lengths() -> None:
    assert hash_labels(Labels([("a", "bc")])) == xxh64(b"\x01a\x02bc")
    assert hash_labels(Labels()) == xxh64(b"")
    long = "v" * 300
    assert hash_labels(Labels([("a", long)])) == xxh64(b"\x01a\xff\x2c\x01\x00" + long.encode())
