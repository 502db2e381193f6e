"""Why Temporal cannot be reached, in words: the client prints values of its own library."""

import pytest

from promcompat.remediation.launcher import client_fault, connect
from promcompat.remediation.temporal import TemporalOptions


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "connection refused"),
        ("temporal.invalid:7233", "failed to lookup address information"),
    ],
)
async def test_the_innermost_reason_is_told(address: str, reason: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        await connect(TemporalOptions(address=address), lazy=False)
    assert client_fault(refused.value).startswith(reason)


def test_other_texts_stay_as_they_are() -> None:
    assert client_fault(RuntimeError("InvalidContentType")) == "InvalidContentType"
    assert client_fault(OSError()) == "no answer"
