"""Label matchers: `=`, `!=`, `=~`, `!~` with RE2 and full anchoring, as in Prometheus."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from promcompat.core.patterns.compiled import check_cost, compile_pattern
from promcompat.core.patterns.syntax import MAX_COST


class MatchOp(StrEnum):
    """The operator of a label matcher, by its PromQL spelling."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """One condition on one label; a series without the label has the value `""`."""

    name: str
    op: MatchOp
    value: str

    @property
    def has_pattern(self) -> bool:
        """Whether the value is a regular expression."""
        return self.op in (MatchOp.REGEX, MatchOp.NOT_REGEX)

    def check_pattern(self, max_cost: int = MAX_COST) -> None:
        """Raises BadDataError with Prometheus' text for a malformed regular expression.

        Also raised if compiling it costs more than `max_cost`, see `PatternSyntax`.
        """
        if self.has_pattern:
            check_cost(self.value, max_cost)
            compile_pattern(self.value)

    def predicate(self) -> Callable[[str], bool]:
        """A function that tells whether a value satisfies the matcher, for checking many values."""
        match self.op:
            case MatchOp.EQUAL:
                return self.value.__eq__
            case MatchOp.NOT_EQUAL:
                return self.value.__ne__
            case MatchOp.REGEX:
                return compile_pattern(self.value).matches
            case MatchOp.NOT_REGEX:
                pattern = compile_pattern(self.value)
                return lambda value: not pattern.matches(value)

    def matches(self, value: str) -> bool:
        """Whether a label of this value satisfies the matcher."""
        return self.predicate()(value)

    def matches_empty(self) -> bool:
        """Whether a series that lacks the label satisfies the matcher."""
        return self.matches("")
