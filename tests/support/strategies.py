"""Hypothesis strategies of well-typed PromQL expressions.

They make trees without positions. A tree holds a `ParenExpr` wherever its text needs parentheses,
so that `print_expr` of it parses to it again; compare by `canonical`.
"""

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME
from promql.ast import (
    AGGREGATIONS,
    SET_OPERATORS,
    TRIM_OPERATORS,
    AggregateExpr,
    BinaryExpr,
    Call,
    Cardinality,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    ValueType,
    VectorMatching,
    VectorSelector,
)
from promql.functions.registry import FUNCTIONS, Function
from promql.numbers.float_arithmetic import COMPARISON

NO_POS = PositionRange(0, 0)

_PRECEDENCE = {
    "or": 1,
    "and": 2,
    "unless": 2,
    **dict.fromkeys((*COMPARISON, *TRIM_OPERATORS), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_OF_VECTORS = SET_OPERATORS | TRIM_OPERATORS
_SIGN_PRECEDENCE = 5
_ATOM_PRECEDENCE = 7


def canonical(expr: Expr) -> object:
    """The tree without positions and with the matchers of each selector in one order."""
    return _canonical(expr)


def _canonical(node: object) -> object:
    match node:
        case PositionRange():
            return NO_POS
        case float() if math.isnan(node):
            return "NaN"
        case tuple():
            return tuple(_canonical(item) for item in sorted(node, key=_matcher_order))
        case _ if is_dataclass(node) and not isinstance(node, type):
            return replace(
                node, **{f.name: _canonical(getattr(node, f.name)) for f in fields(node)}
            )
        case _:
            return node


def _matcher_order(item: object) -> tuple[str, ...]:
    # Other tuples keep their order, as sorting is stable.
    return (item.name, item.op, item.value) if isinstance(item, LabelMatcher) else ()


def _precedence(expr: Expr) -> int:
    match expr:
        case BinaryExpr():
            return _PRECEDENCE[expr.op]
        case UnaryExpr():
            return _SIGN_PRECEDENCE
        case NumberLiteral() if str(expr.value).startswith("-") or expr.value == float("inf"):
            return _SIGN_PRECEDENCE
        case _:
            return _ATOM_PRECEDENCE


def _bind(expr: Expr, precedence: int) -> Expr:
    return expr if _precedence(expr) >= precedence else ParenExpr(expr, NO_POS)


def _ends_in_offset_expr(expr: Expr) -> bool:
    """Whether the text ends in `offset (…)`, which would take a following `+` for its own."""
    match expr:
        case VectorSelector() | SubqueryExpr():
            return expr.modifiers.offset_expr is not None
        case BinaryExpr():
            return _ends_in_offset_expr(expr.rhs)
        case UnaryExpr():
            return _ends_in_offset_expr(expr.expr)
        case _:
            return False


def binary(
    op: str, lhs: Expr, rhs: Expr, matching: VectorMatching | None, return_bool: bool
) -> BinaryExpr:
    """A binary expression with its operands in parentheses where the text needs them."""
    is_signed = isinstance(rhs, UnaryExpr | NumberLiteral)
    least = _ATOM_PRECEDENCE + 1 if _ends_in_offset_expr(lhs) else _PRECEDENCE[op] + (op == "^")
    lhs = _bind(lhs, least)
    rhs = rhs if is_signed else _bind(rhs, _PRECEDENCE[op] + (op != "^"))
    return BinaryExpr(op, lhs, rhs, matching, return_bool, NO_POS)


def unary(op: str, operand: Expr) -> UnaryExpr:
    """A signed expression; a number takes the sign itself, so numbers get parentheses."""
    if isinstance(operand, NumberLiteral):
        operand = ParenExpr(operand, NO_POS)
    if not isinstance(operand, UnaryExpr):
        operand = _bind(operand, _SIGN_PRECEDENCE + 1)
    return UnaryExpr(op, operand, NO_POS)


def _duration_literal(duration_ms: int) -> NumberLiteral:
    seconds, milliseconds = divmod(duration_ms, 1000)
    return NumberLiteral(seconds + milliseconds / 1000, True, NO_POS)


_FEW = 3
# Prometheus computes durations as float seconds times 1e9, which loses milliseconds past 26 days.
_durations_ms = st.one_of(
    st.integers(1, 25 * 86_400_000), st.integers(1, 10**6).map(lambda minutes: minutes * 60_000)
)
_floats = st.floats(allow_nan=False)
_bare_names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True)
_keywords = st.sampled_from(
    ["sum", "rate", "by", "on", "offset", "bool", "start", "and", "atan2", "inf", "without", "le"]
)
_metric_names = st.one_of(
    _bare_names.filter(
        lambda name: (
            name.lower()
            not in ("bool", "on", "ignoring", "group_left", "group_right", "atan2", "inf", "nan")
        )
    ),
    st.sampled_from(["sum", "by", "offset", "start", "without", "job:rate:5m", ":", "or"]),
)
_label_names = st.one_of(_bare_names, _keywords, st.text(min_size=1, max_size=5)).filter(
    lambda name: name != METRIC_NAME
)
_label_values = st.text(max_size=5)
_regexes = st.sampled_from(["a|b", ".*", ".+", "", "(?i)x[yz]*", "\\d{1,3}\\.\\w", "é"])


@dataclass(frozen=True)
class Vocabulary:
    """What names and values expressions are made of; narrow it to query data that exists."""

    metric_names: SearchStrategy[str] = _metric_names
    label_names: SearchStrategy[str] = _label_names
    label_values: SearchStrategy[str] = _label_values
    regexes: SearchStrategy[str] = _regexes


@dataclass(frozen=True)
class ExpressionStrategies:
    """Strategies of expressions over a vocabulary, one for each type."""

    vocabulary: Vocabulary = Vocabulary()
    max_leaves: int = 6

    @cached_property
    def exprs(self) -> SearchStrategy[Expr]:
        """Expressions of any type."""
        return st.one_of(self.instant_vectors, self.scalars, self.range_vectors, self.strings)

    @cached_property
    def instant_vectors(self) -> SearchStrategy[Expr]:
        """Expressions that give an instant vector."""
        return st.recursive(self.vector_selectors, self._vectors_of, max_leaves=self.max_leaves)

    @cached_property
    def range_vectors(self) -> SearchStrategy[Expr]:
        """Range selectors and subqueries."""
        return self._ranges_of(self.instant_vectors)

    @cached_property
    def strings(self) -> SearchStrategy[Expr]:
        """String literals."""
        return st.builds(StringLiteral, st.text(max_size=8), st.just(NO_POS))

    @cached_property
    def scalars(self) -> SearchStrategy[Expr]:
        """Scalars that read no series."""
        literals = st.one_of(
            st.builds(NumberLiteral, _floats, st.just(False), st.just(NO_POS)),
            _durations_ms.map(_duration_literal),
            st.sampled_from([Call("time", (), NO_POS), Call("pi", (), NO_POS)]),
        )
        return st.recursive(literals, self._scalars_of, max_leaves=_FEW)

    @cached_property
    def vector_selectors(self) -> SearchStrategy[Expr]:
        """Instant vector selectors with all their modifiers."""
        return self._selectors(self._modifiers)

    @cached_property
    def _matchers(self) -> SearchStrategy[LabelMatcher]:
        names, words = self.vocabulary.label_names, self.vocabulary
        return st.one_of(
            st.builds(
                LabelMatcher,
                names,
                st.sampled_from([MatchOp.EQUAL, MatchOp.NOT_EQUAL]),
                words.label_values,
            ),
            st.builds(
                LabelMatcher,
                names,
                st.sampled_from([MatchOp.REGEX, MatchOp.NOT_REGEX]),
                words.regexes,
            ),
        )

    def _selectors(self, modifiers: SearchStrategy[TimeModifiers]) -> SearchStrategy[Expr]:
        by_name = self.vocabulary.metric_names.map(
            lambda name: LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name)
        )
        others = st.lists(self._matchers, max_size=_FEW)

        def named(
            name: LabelMatcher, matchers: list[LabelMatcher], at: TimeModifiers
        ) -> VectorSelector:
            return VectorSelector(name.value, (*matchers, name), at, NO_POS)

        def nameless(
            name: LabelMatcher, matchers: list[LabelMatcher], at: TimeModifiers
        ) -> VectorSelector:
            return VectorSelector("", (*matchers, name), at, NO_POS)

        return st.one_of(
            st.builds(named, by_name, others, modifiers),
            st.builds(nameless, by_name, others, modifiers),
        )

    @cached_property
    def _modifiers(self) -> SearchStrategy[TimeModifiers]:
        return st.builds(
            lambda offset, at: TimeModifiers(**offset, **at),
            st.one_of(
                st.just({}),
                st.fixed_dictionaries({"offset_ms": st.one_of(_durations_ms, st.just(-60_000))}),
                st.fixed_dictionaries(
                    {"offset_expr": self._duration_exprs.map(lambda e: replace(e, wrapped=True))}
                ),
            ),
            st.one_of(
                st.just({}),
                st.fixed_dictionaries({"timestamp_ms": st.integers(-(10**12), 10**13)}),
                st.fixed_dictionaries({"at": st.sampled_from(["start", "end"])}),
            ),
        )

    @cached_property
    def _duration_exprs(self) -> SearchStrategy[DurationExpr]:
        literals = st.one_of(
            _durations_ms.map(_duration_literal),
            st.builds(NumberLiteral, st.floats(0.5, 1e6), st.just(False), st.just(NO_POS)),
        )
        operands = st.recursive(
            literals, lambda inner: self._duration_operations(inner, wrapped=True), max_leaves=_FEW
        )
        return self._duration_operations(operands, wrapped=False)

    def _duration_operations(
        self, operands: SearchStrategy[DurationExpr | NumberLiteral], *, wrapped: bool
    ) -> SearchStrategy[DurationExpr]:
        return st.builds(
            DurationExpr,
            st.sampled_from("+-*/%^"),
            operands,
            operands,
            st.just(wrapped),
            st.just(NO_POS),
        )

    def _ranges_of(self, vectors: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
        spans = st.one_of(
            st.tuples(_durations_ms, st.none()), st.tuples(st.just(0), self._duration_exprs)
        )
        steps = st.one_of(st.just((0, None)), spans)
        return st.one_of(
            st.builds(
                lambda selector, span: MatrixSelector(selector, span[0], span[1], NO_POS),
                self.vector_selectors,
                spans,
            ),
            st.builds(
                lambda expr, span, step, modifiers: SubqueryExpr(
                    _subquery_operand(expr), span[0], step[0], span[1], step[1], modifiers, NO_POS
                ),
                vectors,
                spans,
                steps,
                self._modifiers,
            ),
        )

    def _scalars_of(self, scalars: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
        arithmetic = [op for op in _PRECEDENCE if op not in _OF_VECTORS | COMPARISON.keys()]
        return st.one_of(
            st.builds(
                binary,
                st.sampled_from(arithmetic),
                scalars,
                scalars,
                st.none(),
                st.just(False),
            ),
            st.builds(
                binary,
                st.sampled_from(sorted(COMPARISON)),
                scalars,
                scalars,
                st.none(),
                st.just(True),
            ),
            st.builds(unary, st.sampled_from("+-"), scalars),
            st.builds(ParenExpr, scalars, st.just(NO_POS)),
        )

    def _vectors_of(self, vectors: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
        return st.one_of(
            self._calls(vectors),
            self._aggregations(vectors),
            self._between_vectors(vectors),
            self._with_scalars(vectors),
            st.builds(unary, st.sampled_from("+-"), vectors),
            st.builds(ParenExpr, vectors, st.just(NO_POS)),
        )

    def _calls(self, vectors: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
        of_type = {
            ValueType.VECTOR: vectors,
            ValueType.SCALAR: self.scalars,
            ValueType.STRING: self.strings,
            ValueType.MATRIX: self._ranges_of(vectors),
        }

        def call(function: Function) -> SearchStrategy[Expr]:
            types = list(function.arg_types)
            if function.variadic:
                types = types[:-1] + types[-1:] * (2 if function.variadic < 0 else 1)
            args = st.tuples(*(of_type[arg_type] for arg_type in types))
            return st.builds(Call, st.just(function.name), args, st.just(NO_POS))

        callable_ones = [
            function
            for function in FUNCTIONS.values()
            # The second argument of `info` is a selector of another kind.
            if function.return_type is ValueType.VECTOR and function.name != "info"
        ]
        return st.sampled_from(callable_ones).flatmap(call)

    def _aggregations(self, vectors: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
        params = {
            None: st.none(),
            ValueType.SCALAR: self.scalars,
            ValueType.STRING: self.strings,
        }

        def aggregation(op: str) -> SearchStrategy[Expr]:
            return st.builds(
                AggregateExpr,
                st.just(op),
                vectors,
                params[AGGREGATIONS[op]],
                self._label_lists,
                st.booleans(),
                st.just(NO_POS),
            )

        return st.sampled_from(sorted(AGGREGATIONS)).flatmap(aggregation)

    @cached_property
    def _label_lists(self) -> SearchStrategy[tuple[str, ...]]:
        return st.lists(self.vocabulary.label_names, max_size=_FEW).map(tuple)

    @cached_property
    def _matchings(self) -> SearchStrategy[VectorMatching]:
        return st.builds(
            lambda card, labels, on, include: VectorMatching(
                card,
                labels,
                on,
                ()
                if card is Cardinality.ONE_TO_ONE
                else tuple(label for label in include if not on or label not in labels),
            ),
            st.sampled_from(
                [Cardinality.ONE_TO_ONE, Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY]
            ),
            self._label_lists,
            st.booleans(),
            self._label_lists,
        )

    def _between_vectors(self, vectors: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
        def combine(
            op: str, lhs: Expr, rhs: Expr, matching: VectorMatching, return_bool: bool
        ) -> Expr:
            if op in SET_OPERATORS:
                matching = replace(matching, card=Cardinality.MANY_TO_MANY, include=())
            return binary(op, lhs, rhs, matching, return_bool and op in COMPARISON)

        operators = st.sampled_from(sorted(_PRECEDENCE))
        return st.builds(combine, operators, vectors, vectors, self._matchings, st.booleans())

    def _with_scalars(self, vectors: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
        def combine(op: str, vector: Expr, scalar: Expr, swap: bool, return_bool: bool) -> Expr:
            lhs, rhs = (scalar, vector) if swap else (vector, scalar)
            return binary(op, lhs, rhs, None, return_bool and op in COMPARISON)

        operators = st.sampled_from([op for op in sorted(_PRECEDENCE) if op not in SET_OPERATORS])
        return st.builds(combine, operators, vectors, self.scalars, st.booleans(), st.booleans())


def _subquery_operand(expr: Expr) -> Expr:
    return _bind(expr, _ATOM_PRECEDENCE)


ANY_EXPRESSION = ExpressionStrategies()
