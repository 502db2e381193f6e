"""The failures that are known: whatever is not listed passes, whatever is listed fails."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.promqltest.runner import Outcome, Status

_ENTRY = re.compile(r"(\S+):(\d+)\s+(\S.*)")
KNOWN_FAILURES = Path(__file__).parent / "known_failures.txt"


def read_known_failures(text: str) -> dict[tuple[str, int], str]:
    """The reasons by script name and line; ValueError for a line without a reason."""
    entries: dict[tuple[str, int], str] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _ENTRY.fullmatch(stripped)
        if match is None:
            raise ValueError(f"not `FILE:LINE reason`: {line!r}")
        entries[match[1], int(match[2])] = match[3]
    return entries


def find_surprises(
    script: str, outcomes: Sequence[Outcome], known: Mapping[tuple[str, int], str]
) -> list[str]:
    """What is not as listed: failures that are not known, and known ones that pass."""
    surprises = []
    for outcome in outcomes:
        is_known = (script, outcome.line) in known
        place = f"{script}:{outcome.line}: {outcome.expr}"
        if outcome.status is Status.FAILED and not is_known:
            surprises.append(f"{place}\n    {outcome.detail}")
        elif outcome.status is Status.PASSED and is_known:
            surprises.append(f"{place}\n    passes and must be taken off the list")
    lines = {outcome.line for outcome in outcomes}
    surprises += [
        f"{script}:{line}\n    is listed but no eval"
        for name, line in known
        if name == script and line not in lines
    ]
    return surprises
