"""Silences by the label that they require, so that thousands of them cost little for an alert."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from promcompat.core.alerts import Silence
from promcompat.core.matchers import MatchOp
from promcompat.core.model import Labels


class SilenceIndex:
    """Some silences, of which an alert is compared with those only that may match it.

    A silence that requires a label to have a value is found by that pair; most do.
    """

    def __init__(self, silences: Sequence[Silence]) -> None:
        self._by_pair: defaultdict[tuple[str, str], list[Silence]] = defaultdict(list)
        self._others: list[Silence] = []
        for silence in silences:
            required = (
                (matcher.name, matcher.value)
                for matcher in silence.all_matchers
                if matcher.op is MatchOp.EQUAL and matcher.value
            )
            pair = next(required, None)
            (self._others if pair is None else self._by_pair[pair]).append(silence)

    def candidates(self, labels: Labels) -> Iterator[Silence]:
        """The silences that may match an alert with these labels."""
        yield from self._others
        for pair in labels:
            yield from self._by_pair.get(pair, ())

    def matching(self, labels: Labels) -> Iterator[Silence]:
        """The silences that match it."""
        return (silence for silence in self.candidates(labels) if silence.matches(labels))
