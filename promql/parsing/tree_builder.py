"""Makes the nodes of the syntax tree: one method for each rule or alias of `grammar.lark`.

Methods take the values of the rule's symbols, in order, and check what Prometheus checks while it
parses. `promql.parsing.type_checker` checks types afterwards, because a later syntax error is
reported before a type error.
"""

from dataclasses import replace

from promcompat.core.matchers import LabelMatcher
from promcompat.core.texts.strconv import is_utf8, quote
from promql.ast import (
    AGGREGATIONS,
    SET_OPERATORS,
    AggregateExpr,
    BinaryExpr,
    Call,
    Cardinality,
    Expr,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    UnaryExpr,
    ValueType,
    VectorMatching,
    VectorSelector,
)
from promql.functions.registry import FUNCTIONS
from promql.parsing.lexer import Token
from promql.parsing.literals import unquote
from promql.parsing.parse_errors import PositionedError
from promql.parsing.partial_nodes import (
    Arguments,
    BinaryModifier,
    Grouping,
    LabelNames,
    Operand,
    span,
)
from promql.parsing.selector_rules import DurationRules, MatcherRules, RangeRules


class ListRules:
    """Comma-separated lists of anything."""

    def list_of(self, item: object) -> list[object]:
        return [item]

    def list_append(self, items: list[object], _comma: Token, item: object) -> list[object]:
        items.append(item)
        return items

    def trailing_comma(self, _items: list[object], comma: Token) -> list[object]:
        raise PositionedError(comma.start, "trailing commas not allowed in function call args")


class LabelNameRules:
    """Label names in parentheses."""

    def label(self, name: Token) -> str:
        return name.text

    def quoted_label(self, name: Token) -> str:
        label = unquote(name.text)
        if not label or not is_utf8(label):
            reason = f"invalid label name for grouping: {quote(label)}"
            raise PositionedError(name.start, reason)
        return label

    def labels(self, _left: Token, names: list[str], *rest: Token) -> LabelNames:
        return LabelNames(tuple(names), rest[-1].end)

    def no_labels(self, _left: Token, right: Token) -> LabelNames:
        return LabelNames((), right.end)


class CallRules:
    """Function calls and aggregations."""

    def arguments(self, _left: Token, operands: list[Operand], right: Token) -> Arguments:
        return Arguments(operands, right.end)

    def no_arguments(self, _left: Token, right: Token) -> Arguments:
        return Arguments([], right.end)

    def call(self, name: Token, arguments: Arguments) -> Operand:
        function = FUNCTIONS.get(name.text)
        if function is None:
            reason = f"unknown function with name {quote(name.text)}"
            raise PositionedError(name.start, reason)
        exprs = tuple(operand.expr for operand in arguments.operands)
        call = Call(function.name, exprs, PositionRange(name.start, arguments.end))
        return Operand(call, function.return_type)

    def grouping(self, keyword: Token, labels: LabelNames) -> Grouping:
        return Grouping(labels, keyword.type == "WITHOUT")

    def aggregate(self, operator: Token, arguments: Arguments) -> Operand:
        grouping = Grouping(LabelNames((), arguments.end), False)
        return _aggregate(operator, grouping, arguments, arguments.end)

    def aggregate_grouping_first(
        self, operator: Token, grouping: Grouping, arguments: Arguments
    ) -> Operand:
        return _aggregate(operator, grouping, arguments, arguments.end)

    def aggregate_grouping_last(
        self, operator: Token, arguments: Arguments, grouping: Grouping
    ) -> Operand:
        return _aggregate(operator, grouping, arguments, grouping.labels.end)


def _aggregate(operator: Token, grouping: Grouping, arguments: Arguments, end: int) -> Operand:
    op, operands = operator.text.lower(), arguments.operands
    wanted = 1 if AGGREGATIONS[op] is None else 2
    if not operands:
        reason = "no arguments for aggregate expression provided"
        raise PositionedError(operator.start, reason)
    if len(operands) != wanted:
        reason = (
            "wrong number of arguments for aggregate expression provided,"
            f" expected {wanted}, got {len(operands)}"
        )
        raise PositionedError(operator.start, reason)
    param = operands[0].expr if wanted == 2 else None
    pos = PositionRange(operator.start, end)
    labels, without = grouping.labels.names, grouping.without
    aggregation = AggregateExpr(op, operands[-1].expr, param, labels, without, pos)
    return Operand(aggregation, ValueType.VECTOR)


class BinaryRules:
    """Binary operators and their modifiers."""

    def no_bool(self) -> bool:
        return False

    def with_bool(self, _keyword: Token) -> bool:
        return True

    def match_modifier(self, return_bool: bool) -> BinaryModifier:
        return BinaryModifier(return_bool, VectorMatching())

    def on_or_ignoring(self, keyword: Token, labels: LabelNames) -> VectorMatching:
        return VectorMatching(labels=labels.names, on=keyword.type == "ON")

    def matching_modifier(self, return_bool: bool, matching: VectorMatching) -> BinaryModifier:
        return BinaryModifier(return_bool, matching)

    def group_modifier(
        self,
        return_bool: bool,
        matching: VectorMatching,
        side: Token,
        include: LabelNames | None = None,
    ) -> BinaryModifier:
        is_left = side.type == "GROUP_LEFT"
        card = Cardinality.MANY_TO_ONE if is_left else Cardinality.ONE_TO_MANY
        names = include.names if include else ()
        return BinaryModifier(
            return_bool, VectorMatching(card, matching.labels, matching.on, names)
        )

    def fill_value(self, _left: Token, number: NumberLiteral, _right: Token) -> float:
        return number.value

    def signed_fill_value(
        self, _left: Token, sign: Token, number: NumberLiteral, _right: Token
    ) -> float:
        return -number.value if sign.type == "SUB" else number.value

    def fill(self, modifier: BinaryModifier, _keyword: Token, value: float) -> BinaryModifier:
        matching = replace(modifier.matching, fill_left=value, fill_right=value)
        return modifier._replace(matching=matching)

    def fill_side(self, modifier: BinaryModifier, side: Token, value: float) -> BinaryModifier:
        is_left = side.type == "FILL_LEFT"
        matching = (
            replace(modifier.matching, fill_left=value)
            if is_left
            else replace(modifier.matching, fill_right=value)
        )
        return modifier._replace(matching=matching)

    def fill_sides(
        self, modifier: BinaryModifier, side: Token, value: float, other: Token, other_value: float
    ) -> BinaryModifier:
        return self.fill_side(self.fill_side(modifier, side, value), other, other_value)

    def binary(
        self, lhs: Operand, operator: Token, modifier: BinaryModifier, rhs: Operand
    ) -> Operand:
        op = operator.text.lower()
        matching = _matching(op, modifier.matching, lhs.type, rhs.type)
        pos = PositionRange(lhs.expr.pos.start, rhs.expr.pos.end)
        expr = BinaryExpr(op, lhs.expr, rhs.expr, matching, modifier.return_bool, pos)
        is_scalar = lhs.type is ValueType.SCALAR and rhs.type is ValueType.SCALAR
        value_type = ValueType.SCALAR if is_scalar else ValueType.VECTOR
        return Operand(expr, value_type)


def _matching(
    op: str, matching: VectorMatching, lhs_type: ValueType, rhs_type: ValueType
) -> VectorMatching | None:
    between_vectors = lhs_type is ValueType.VECTOR and rhs_type is ValueType.VECTOR
    # The type checker reports matching labels between other types.
    if not between_vectors and not matching.labels and not matching.fills:
        return None
    if op in SET_OPERATORS and matching.card is Cardinality.ONE_TO_ONE:
        return replace(matching, card=Cardinality.MANY_TO_MANY)
    return matching


class TreeBuilder(
    ListRules, LabelNameRules, MatcherRules, DurationRules, RangeRules, CallRules, BinaryRules
):
    """All rules; it has no state."""

    def expression(self, operand: Operand) -> Expr:
        return operand.expr

    def metric_selector(self, operand: Operand) -> tuple[LabelMatcher, ...]:
        selector = operand.expr
        return selector.matchers if isinstance(selector, VectorSelector) else ()

    def number_expr(self, number: NumberLiteral) -> Operand:
        return Operand(number, ValueType.SCALAR)

    def string_expr(self, token: Token) -> Operand:
        literal = StringLiteral(unquote(token.text), span(token, token))
        return Operand(literal, ValueType.STRING)

    def paren(self, left: Token, operand: Operand, right: Token) -> Operand:
        expr = ParenExpr(operand.expr, span(left, right))
        return Operand(expr, operand.type)

    def unary(self, sign: Token, operand: Operand) -> Operand:
        expr = operand.expr
        if isinstance(expr, NumberLiteral):
            return operand._replace(expr=self.signed_number(sign, expr))
        pos = PositionRange(sign.start, expr.pos.end)
        return Operand(UnaryExpr(sign.text, expr, pos), operand.type)
