"""The list of known failures only ever gets shorter."""

import pytest

from tests.promqltest.ratchet import KNOWN_FAILURES, find_surprises, read_known_failures
from tests.promqltest.runner import Outcome, Status

KNOWN = read_known_failures("# A comment.\n\na.test:3 the reason\nb.test:3 another\n")


def test_known_failures_are_read_with_their_reasons() -> None:
    assert KNOWN == {("a.test", 3): "the reason", ("b.test", 3): "another"}
    with pytest.raises(ValueError, match="not `FILE:LINE reason`"):
        read_known_failures("a.test:3")


def test_the_list_of_the_project_can_be_read() -> None:
    assert isinstance(read_known_failures(KNOWN_FAILURES.read_text("utf-8")), dict)


@pytest.mark.parametrize(
    ("outcomes", "surprise"),
    [
        ([Outcome(3, "up", Status.FAILED, "why"), Outcome(5, "up", Status.PASSED)], None),
        ([Outcome(3, "up", Status.SKIPPED)], None),
        ([Outcome(3, "up", Status.PASSED)], "must be taken off"),
        ([Outcome(3, "up", Status.FAILED), Outcome(5, "up", Status.FAILED, "why")], "why"),
        ([Outcome(5, "up", Status.PASSED)], "is listed but no eval"),
    ],
)
def test_outcomes_that_are_not_the_known_ones_are_found(
    outcomes: list[Outcome], surprise: str | None
) -> None:
    found = find_surprises("a.test", outcomes, KNOWN)
    if surprise is None:
        assert found == []
    else:
        assert len(found) == 1
        assert surprise in found[0]
