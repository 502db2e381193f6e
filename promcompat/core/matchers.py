"""Label matchers: `=`, `!=`, `=~`, `!~` with RE2 and full anchoring, as Prometheus has them."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, cast

import re2

from promcompat.core.errors import BadDataError


class MatchOp(StrEnum):
    """The operator of a label matcher, by its PromQL spelling."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


class CompiledPattern(Protocol):
    """What is used of a compiled RE2 pattern."""

    def fullmatch(self, text: str) -> object | None:
        """A match object when the whole of `text` matches."""


_GO_WORDING = {
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid repetition size": "invalid repeat count",
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
}
"""What Go's regexp package says where RE2 says it otherwise; clients know Go's words."""


def _regexp_fault(exc: Exception) -> str:
    """The text Prometheus gives for a pattern that RE2 refused as `<fault>: <part>`."""
    message = exc.args[0] if exc.args else ""
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    if text.startswith("trailing \\"):
        return "trailing backslash at end of expression: ``"
    fault, _, part = text.partition(": ")
    return f"{_GO_WORDING.get(fault, fault)}: `{part}`"


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> CompiledPattern:
    """Compile `pattern` with RE2, dot matching newlines as Prometheus has it (`(?s:…)`).

    Raises BadDataError in Prometheus' words when RE2 refuses the pattern.
    """
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return cast(CompiledPattern, re2.compile(pattern, options))
    except re2.error as exc:
        raise BadDataError(f"error parsing regexp: {_regexp_fault(exc)}") from exc


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """One condition on one label; a series without the label has the value `""`."""

    name: str
    op: MatchOp
    value: str

    def matches(self, value: str) -> bool:
        """Whether a label of this value satisfies the matcher."""
        match self.op:
            case MatchOp.EQUAL:
                return value == self.value
            case MatchOp.NOT_EQUAL:
                return value != self.value
            case MatchOp.REGEX:
                return compile_pattern(self.value).fullmatch(value) is not None
            case MatchOp.NOT_REGEX:
                return compile_pattern(self.value).fullmatch(value) is None

    def matches_empty(self) -> bool:
        """Whether a series that lacks the label satisfies the matcher."""
        return self.matches("")
