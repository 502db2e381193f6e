"""The stored identity of a series: stable, distinct, honest about what cannot be stored."""

import pytest

from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import Labels
from promcompat.core.series_identity import fingerprint_of
from sql.series.resolver import identify_series
from tests.support.factories import make_labels


def test_fingerprint_never_changes() -> None:
    """These bytes are in databases: a change would give every series a second id."""
    labels = make_labels("up", job="node", instance="a:9100")
    fingerprint = fingerprint_of(labels)
    assert fingerprint is not None
    assert fingerprint.hex() == "1634c0e3a765fff85cb00e0d5af04094"
    assert fingerprint_of(Labels([*reversed(labels.pairs)])) == fingerprint


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": "bc"}, {"ab": "c"}),
        ({"a": "b", "c": "d"}, {"a": "bcd"}),
        ({"a": "b"}, {"a": "b", "c": "d"}),
        ({"a": "1"}, {"b": "1"}),
    ],
)
def test_fingerprints_of_different_labels_differ(
    first: dict[str, str], second: dict[str, str]
) -> None:
    assert fingerprint_of(Labels.of(first)) != fingerprint_of(Labels.of(second))


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800"])
def test_text_postgresql_cannot_hold_is_refused(text: str) -> None:
    for labels in ({"m": text}, {text: "v"}):
        refusal = identify_series(Labels.of({"__name__": "up", **labels}), LabelLimits())
        assert isinstance(refusal, str)
        assert "'up'" in refusal


def test_metric_name_beyond_an_index_entry_is_refused() -> None:
    assert not isinstance(identify_series(make_labels("m" * 2000), LabelLimits()), str)
    assert "too long" in str(identify_series(make_labels("m" * 2001), LabelLimits()))


def test_empty_label_set_has_an_identity() -> None:
    assert not isinstance(identify_series(Labels(), LabelLimits()), str)
