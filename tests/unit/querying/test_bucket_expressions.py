"""Selectors of the native API in PromQL."""

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.querying.bucket_expressions import selector_text
from promql.parsing.parser import parse_metric_selector


def test_any_name_and_value_can_be_selected() -> None:
    odd = 'é "\\\n\x01\x7f\u200b\ufffd'
    matchers = parse_metric_selector(selector_text(odd, [LabelMatcher(odd, MatchOp.EQUAL, odd)]))
    assert {(matcher.name, matcher.value) for matcher in matchers} == {
        ("__name__", odd),
        (odd, odd),
    }
