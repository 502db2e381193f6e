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


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> CompiledPattern:
    """Compile `pattern` with RE2, dot matching newlines as Prometheus has it (`(?s:…)`).

    Raises BadDataError when RE2 refuses the pattern.
    """
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return cast(CompiledPattern, re2.compile(pattern, options))
    except re2.error as exc:
        raise BadDataError(f"error parsing regexp: {exc}") from exc


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
