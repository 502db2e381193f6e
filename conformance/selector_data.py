"""Series that the selectors of given expressions find, so that dashboards have something to show.

Every metric gets, for each way in which it is selected, the series of a few entities. Entity `i`
has the `i`-th value of every label, whatever the metric, so that joins find their partners.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from conformance.matching_strings import strings_for
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, FloatArray, Labels
from promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    StringLiteral,
    VectorSelector,
    children,
)
from promql.parsing.parser import parse_expr
from tests.support.factories import STALE_NAN, Points

END_MS = 1_743_296_400_000
INTERVAL_MS = 30_000
N_SAMPLES = 160
N_ENTITIES = 3
BOUNDS = ("0.1", "0.4", "1", "5", "30", "+Inf")
GAUGE_VALUES = (0, 1, 1, 0, 2, 0.3, 0.97, 42.5, 95, 1e4, 3e9, -1)
"""Thresholds of alerts lie between these; equality asks for 0 and 1."""
_COUNTER_ENDINGS = ("_total", "_count", "_sum", "_bucket")
_EVERYWHERE = ("instance", "job")
_TIME_WORDS = ("timestamp", "time_seconds", "_created", "expir", "not_after", "not_before")
_AMOUNT_WORDS = ("bytes", "inodes")

Matchers = tuple[LabelMatcher, ...]


@dataclass(frozen=True, slots=True)
class SelectedMetrics:
    """What expressions say of metrics: how each is selected and which labels it needs.

    `values` counts the values that equality asks of each label.
    """

    selections: dict[str, set[Matchers]] = field(default_factory=lambda: defaultdict(set))
    label_names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    partners: list[set[str]] = field(default_factory=list)
    values: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @classmethod
    def of(cls, expressions: Iterable[str]) -> "SelectedMetrics":
        """Walk expressions; raises QueryParseError where one is not PromQL."""
        found = cls()
        for text in expressions:
            found._add(parse_expr(text))
        found._share_labels()
        return found

    def _add(self, expr: Expr) -> None:
        nodes = list(_walk(expr))
        wanted = {name for node in nodes for name in _label_names(node)} - {"", METRIC_NAME}
        for node in nodes:
            match node:
                case VectorSelector():
                    self._add_selector(node, wanted)
                case BinaryExpr(matching=matching) if matching and not matching.on:
                    self.partners.append({*_bare_metrics(node.lhs), *_bare_metrics(node.rhs)})
                case _:
                    pass

    def _add_selector(self, selector: VectorSelector, wanted: set[str]) -> None:
        for metric in _metric_names(selector):
            matchers = tuple(m for m in selector.matchers if m.name != METRIC_NAME)
            self.selections[metric].add(matchers)
            self.label_names[metric] |= wanted | {matcher.name for matcher in matchers}
            self.label_names[metric].update(_EVERYWHERE)
            for matcher in matchers:
                self.values[matcher.name].update(strings_for([matcher]))

    def _share_labels(self) -> None:
        """Give both sides of operators that match on all labels the same ones."""
        for _ in range(3):
            for metrics in self.partners:
                shared = set().union(*(self.label_names[metric] for metric in metrics))
                for metric in metrics:
                    self.label_names[metric] |= shared

    def label_sets(self) -> Iterator[Labels]:
        """The series; what selects most narrowly comes first and may serve the others as well.

        A second series of the same entity would mostly make joins ambiguous.
        """
        for metric, selections in sorted(self.selections.items()):
            for entity in range(N_ENTITIES):
                made: list[Mapping[str, str]] = []
                for matchers in sorted(selections, key=_breadth):
                    if not any(_satisfies(labels, matchers) for labels in made):
                        labels_of_entity = list(self._entity(metric, matchers, entity))
                        made += [dict(labels.pairs) for labels in labels_of_entity]
                        yield from labels_of_entity

    def _entity(self, metric: str, matchers: Matchers, entity: int) -> Iterator[Labels]:
        labels = {METRIC_NAME: metric}
        for name in sorted(self.label_names[metric] - {"le"} - self._absent(metric, matchers)):
            labels[name] = self._value(
                name, [matcher for matcher in matchers if matcher.name == name], entity
            )
        bounds = self._bounds(metric)
        yield from (Labels.of({**labels, "le": bound}) for bound in bounds)
        if not bounds:
            yield Labels.of(labels)

    def _absent(self, metric: str, matchers: Matchers) -> set[str]:
        """Labels some selection wants absent, and this one does not care about."""
        every = (matcher for selection in self.selections[metric] for matcher in selection)
        unwanted = {m.name for m in every if m.op is MatchOp.EQUAL and m.value == ""}
        return unwanted - {matcher.name for matcher in matchers}

    def _bounds(self, metric: str) -> list[str]:
        """The bounds of a histogram, also of the recorded rates of one; none for other metrics."""
        if "_bucket" not in metric:
            return []
        asked = (m for matchers in self.selections[metric] for m in matchers if m.name == "le")
        return list(dict.fromkeys([*BOUNDS, *(text for m in asked for text in strings_for([m]))]))

    def _value(self, name: str, matchers: Sequence[LabelMatcher], entity: int) -> str:
        """The entity's value of a label, or the nearest that the matchers let pass."""
        common = [value for value, _ in self.values[name].most_common(1) if value]
        own = [*common, *(f"{name}-{number}" for number in range(N_ENTITIES))]
        named = strings_for(matchers)
        choices = [*own[entity : entity + 1], *(named[entity % len(named) :] if named else [])]
        choices += named + own
        good = (value for value in choices if all(m.matches(value) for m in matchers))
        return next(good, "")


def _satisfies(labels: Mapping[str, str], matchers: Matchers) -> bool:
    return all(matcher.matches(labels.get(matcher.name, "")) for matcher in matchers)


def _breadth(matchers: Matchers) -> tuple[int, str]:
    """Orders selections: first what most matchers tie to values of their own."""
    return -sum(not matcher.matches(f"{matcher.name}-0") for matcher in matchers), str(matchers)


def _walk(expr: Expr) -> Iterator[Expr]:
    yield expr
    for child in children(expr):
        yield from _walk(child)


def _label_names(node: Expr) -> Iterable[str]:
    match node:
        case AggregateExpr(grouping=names):
            return names
        case BinaryExpr(matching=matching) if matching is not None:
            return (*matching.labels, *matching.include)
        case Call(func="label_replace" | "label_join", args=args):
            sources = args[3:4] if node.func == "label_replace" else args[3:]
            return tuple(arg.value for arg in sources if isinstance(arg, StringLiteral))
        case _:
            return ()


def _bare_metrics(expr: Expr) -> Iterator[str]:
    """The metrics below that keep all their labels."""
    if isinstance(expr, AggregateExpr) and not expr.without:
        return
    if isinstance(expr, VectorSelector):
        yield from _metric_names(expr)
    for child in children(expr):
        yield from _bare_metrics(child)


def _metric_names(selector: VectorSelector) -> list[str]:
    return strings_for(m for m in selector.matchers if m.name == METRIC_NAME)


def synthesise(expressions: Iterable[str]) -> dict[Labels, Points]:
    """Series for the selectors of the expressions: the same ones whenever it is asked."""
    every = dict.fromkeys(SelectedMetrics.of(expressions).label_sets())
    return {labels: list(_points(labels)) for labels in every}


def _points(labels: Labels) -> Iterator[tuple[int, float]]:
    mapping = dict(labels.pairs)
    bound = mapping.pop("le", None)
    # The buckets of a histogram come from one stream of numbers, so that they add up.
    seed = zlib.crc32(repr(sorted(mapping.items())).encode())
    rng = np.random.default_rng(seed)
    name = mapping[METRIC_NAME]
    values = _values(name, bound, rng)
    outage = range(90, 102) if seed % 3 == 1 else range(0)
    for number, value in enumerate(values.tolist()):
        time_ms = END_MS - (N_SAMPLES - 1 - number) * INTERVAL_MS + seed % 7_000
        if number not in outage:
            yield time_ms, value
        elif number == outage.start and seed % 2:
            yield time_ms, STALE_NAN


def _values(name: str, bound: str | None, rng: np.random.Generator) -> FloatArray:
    if name.endswith(_COUNTER_ENDINGS) or bound is not None:
        return _counter(bound, rng, is_whole=not name.endswith("_sum"))
    if any(word in name for word in _TIME_WORDS):
        return END_MS / 1000 + np.round(rng.choice([-9e5, -4e3, 60, 5e5]) * rng.random(N_SAMPLES))
    steps = rng.choice(GAUGE_VALUES, N_SAMPLES // 8)
    # Which of equal values topk takes is up to the storage: what it is asked of has none.
    is_noisy = (np.abs(steps) > 1) | any(word in name for word in _AMOUNT_WORDS)
    noisy = steps + np.where(is_noisy, rng.random(len(steps)), 0)
    return np.repeat(noisy, 8)


def _counter(bound: str | None, rng: np.random.Generator, *, is_whole: bool) -> FloatArray:
    share = 1.0 if bound in (None, "+Inf") else 1 - np.exp(-float(bound or 0) - 0.05)
    increments = rng.exponential(rng.choice([0.01, 3, 200]), N_SAMPLES) * share
    values = np.cumsum(increments)
    if rng.random() < 0.5:
        restart = int(rng.integers(20, N_SAMPLES - 10))
        values[restart:] -= values[restart]
    return np.floor(values) if is_whole else values
