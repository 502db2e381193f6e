"""The index of silences finds the same ones as a look at each of them."""

from hypothesis import given
from hypothesis import strategies as st

from promcompat.alerting.silences import SilenceIndex
from promcompat.core.alerting.alerts import Silence
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import Labels

names = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["", "x", "y"])
label_sets = st.dictionaries(names, st.sampled_from(["x", "y"]), max_size=3).map(Labels.of)
matchers = st.builds(LabelMatcher, names, st.sampled_from(MatchOp), values)


def silence(number: int, labels: Labels, found: list[LabelMatcher]) -> Silence:
    return Silence(
        id=number,
        labels=labels,
        reason="",
        created_by="",
        starts_at_ms=0,
        ends_at_ms=1,
        matchers=tuple(found),
    )


@given(st.lists(st.tuples(label_sets, st.lists(matchers, max_size=3)), max_size=20), label_sets)
def test_the_same_silences_match(
    stated: list[tuple[Labels, list[LabelMatcher]]], labels: Labels
) -> None:
    silences = [silence(number, *one) for number, one in enumerate(stated)]
    found = {one.id for one in SilenceIndex(silences).matching(labels)}
    assert found == {one.id for one in silences if one.matches(labels)}
