"""Selectors of the native API in PromQL."""

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.querying.bucket_expressions import percentile_name, selector_text
from promql.parsing.parser import parse_metric_selector


def test_any_name_and_value_can_be_selected() -> None:
    odd = 'é "\\\n\x01\x7f\u200b\ufffd'
    matchers = parse_metric_selector(selector_text(odd, [LabelMatcher(odd, MatchOp.EQUAL, odd)]))
    assert {(matcher.name, matcher.value) for matcher in matchers} == {
        ("__name__", odd),
        (odd, odd),
    }


def test_percentiles_are_named_as_they_are_written() -> None:
    texts = ["0", "0.000001", "0.00001", "7.5", "50", "99.999999", "100"]
    assert [percentile_name(float(text)) for text in texts] == [f"p{text}" for text in texts]
