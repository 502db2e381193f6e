"""Label matchers follow Prometheus: RE2, fully anchored, a missing label is the empty string."""

import pytest

from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher, MatchOp


@pytest.mark.parametrize(
    ("op", "pattern", "value", "expected"),
    [
        (MatchOp.EQUAL, "a", "a", True),
        (MatchOp.EQUAL, "a", "ab", False),
        (MatchOp.NOT_EQUAL, "a", "", True),
        (MatchOp.REGEX, "a|b", "b", True),
        (MatchOp.REGEX, "a|b", "ab", False),
        (MatchOp.REGEX, "api", "api2", False),
        (MatchOp.REGEX, "a.b", "a\nb", True),
        (MatchOp.REGEX, "(?i)PROD", "prod", True),
        (MatchOp.REGEX, "é+", "éé", True),
        (MatchOp.REGEX, "(?-s).", "\n", False),
        (MatchOp.NOT_REGEX, "a.*", "abc", False),
        (MatchOp.NOT_REGEX, "a.*", "b", True),
        (MatchOp.REGEX, ".*", "", True),
    ],
)
def test_matches_follows_prometheus(op: MatchOp, pattern: str, value: str, expected: bool) -> None:
    assert LabelMatcher("l", op, pattern).matches(value) is expected


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        (MatchOp.EQUAL, "", True),
        (MatchOp.NOT_EQUAL, "", False),
        (MatchOp.REGEX, "a|", True),
        (MatchOp.NOT_REGEX, ".+", True),
        (MatchOp.REGEX, ".+", False),
    ],
)
def test_matches_empty_tells_whether_a_series_without_the_label_is_selected(
    op: MatchOp, value: str, expected: bool
) -> None:
    assert LabelMatcher("l", op, value).matches_empty() is expected


@pytest.mark.parametrize("pattern", ["(", "a**", r"(?=x)", r"\1"])
def test_a_pattern_re2_refuses_is_bad_data(pattern: str) -> None:
    with pytest.raises(BadDataError, match="error parsing regexp"):
        LabelMatcher("l", MatchOp.REGEX, pattern).matches("x")
