"""Types of expressions, and Prometheus' checks of a parsed query, in the same order."""

from typing import assert_never

from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.strconv import quote
from promql.ast import (
    AGGREGATIONS,
    SET_OPERATORS,
    AggregateExpr,
    BinaryExpr,
    Call,
    Cardinality,
    Expr,
    MatrixSelector,
    Nested,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    UnaryExpr,
    ValueType,
    VectorMatching,
    VectorSelector,
    run_nested,
    walk,
)
from promql.features import Feature, Features
from promql.functions.registry import FUNCTIONS, Function
from promql.numbers.float_arithmetic import is_comparison
from promql.parsing.parse_errors import PositionedError

_ARITHMETIC_TYPES = (ValueType.SCALAR, ValueType.VECTOR)


def value_type(expr: Expr) -> ValueType:
    """The type of a well-formed expression."""
    while isinstance(expr, ParenExpr | UnaryExpr):
        expr = expr.expr
    match expr:
        case NumberLiteral():
            return ValueType.SCALAR
        case StringLiteral():
            return ValueType.STRING
        case VectorSelector() | AggregateExpr():
            return ValueType.VECTOR
        case MatrixSelector() | SubqueryExpr():
            return ValueType.MATRIX
        case Call():
            return FUNCTIONS[expr.func].return_type
        case BinaryExpr():
            return ValueType.SCALAR if _is_scalar(expr) else ValueType.VECTOR
        case _:
            assert_never(expr)


def _is_scalar(expr: BinaryExpr) -> bool:
    """Whether all operands are scalars."""
    operands: list[Expr] = [expr]
    while operands:
        match operands.pop():
            case BinaryExpr(matching=None) as binary:
                operands += (binary.lhs, binary.rhs)
            case BinaryExpr():
                return False
            case ParenExpr() | UnaryExpr() as wrapping:
                operands.append(wrapping.expr)
            case operand if value_type(operand) is not ValueType.SCALAR:
                return False
    return True


Check = Nested[Expr, ValueType]
"""A check in progress: it yields a part to check first, receives its type, and returns its own.

Generators keep Prometheus' order of errors without recursion, which would limit the depth.
"""


def check_features(expr: Expr, features: Features) -> None:
    """Raise PositionedError for the first part of `expr` that needs a feature not in `features`."""
    for node in walk(expr):
        reason = _missing_feature(node, features)
        if reason:
            raise PositionedError(node.pos.start, reason)


def _missing_feature(node: Expr, features: Features) -> str:
    match node:
        case Call() if FUNCTIONS[node.func].is_experimental:
            if Feature.EXPERIMENTAL_FUNCTIONS not in features:
                return f"function {quote(node.func)} is not enabled"
        case AggregateExpr(op="limitk" | "limit_ratio"):
            flag = Feature.EXPERIMENTAL_FUNCTIONS
            if flag not in features:
                return (
                    f"{node.op}() is experimental and must be enabled with --enable-feature={flag}"
                )
        case VectorSelector() if node.extension:
            if Feature.EXTENDED_RANGE_SELECTORS not in features:
                return f"{node.extension} modifier is experimental and not enabled"
        case BinaryExpr(matching=VectorMatching(fills=True)):
            if Feature.BINOP_FILL_MODIFIERS not in features:
                return "binop fill modifiers are experimental and not enabled"
    return ""


def check_types(expr: Expr, text: str) -> None:
    """Raise PositionedError for the first type error in `expr`, which was parsed from `text`."""
    run_nested(TypeChecker(text).check, expr)


class TypeChecker:
    """The checks of one query."""

    def __init__(self, text: str) -> None:
        self._text = text

    def check(self, expr: Expr) -> Check:
        """Check `expr` and all its parts."""
        match expr:
            case SubqueryExpr():
                return self._check_subquery(expr)
            case Call():
                return self._check_call(expr)
            case AggregateExpr():
                return self._check_aggregation(expr)
            case BinaryExpr():
                return self._check_binary(expr)
            case UnaryExpr():
                return self._check_unary(expr)
            case ParenExpr():
                return self._check_paren(expr)
            case _:
                return self._check_leaf(expr)

    def _check_leaf(
        self, expr: NumberLiteral | StringLiteral | VectorSelector | MatrixSelector
    ) -> Check:
        match expr:
            case VectorSelector():
                self._check_selector(expr)
            case MatrixSelector():
                self._check_selector(expr.vector_selector)
            case NumberLiteral() | StringLiteral():
                pass
            case _:
                assert_never(expr)
        yield from ()
        return value_type(expr)

    def _check_paren(self, expr: ParenExpr) -> Check:
        return (yield expr.expr)

    def _expect(self, expr: Expr, wanted: ValueType, context: str) -> Check:
        got = yield expr
        if got is not wanted:
            raise PositionedError(expr.pos.start, _type_fault(wanted, got, context))
        return got

    def _check_selector(self, selector: VectorSelector) -> None:
        if selector.name:
            for matcher in selector.matchers[:-1]:
                if matcher.name == METRIC_NAME:
                    reason = (
                        "metric name must not be set twice:"
                        f" {quote(selector.name)} or {quote(matcher.value)}"
                    )
                    raise PositionedError(selector.pos.start, reason)
        elif all(matcher.matches_empty() for matcher in selector.matchers):
            reason = "vector selector must contain at least one non-empty matcher"
            raise PositionedError(selector.pos.start, reason)

    def _check_subquery(self, subquery: SubqueryExpr) -> Check:
        got = yield subquery.expr
        if got is not ValueType.VECTOR:
            reason = f"subquery is only allowed on instant vector, got {got} instead"
            raise PositionedError(subquery.pos.start, reason)
        return ValueType.MATRIX

    def _check_unary(self, expr: UnaryExpr) -> Check:
        got = yield expr.expr
        if got not in _ARITHMETIC_TYPES:
            reason = (
                "unary expression only allowed on expressions of type scalar or instant vector,"
                f" got {quote(got.document_name)}"
            )
            raise PositionedError(expr.pos.start, reason)
        return got

    def _check_aggregation(self, expr: AggregateExpr) -> Check:
        yield from self._expect(expr.expr, ValueType.VECTOR, "aggregation expression")
        wanted = AGGREGATIONS[expr.op]
        if expr.param is not None and wanted is not None:
            yield from self._expect(expr.param, wanted, "aggregation parameter")
        return ValueType.VECTOR

    def _check_call(self, call: Call) -> Check:
        function = FUNCTIONS[call.func]
        _check_argument_count(call, function)
        context = f"call to function {quote(call.func)}"
        args = call.args
        if call.func == "info" and len(args) > 1:
            _check_info_selector(call, args[1], context)
            args = args[:1]
        for index, arg in enumerate(args):
            wanted = function.arg_types[min(index, len(function.arg_types) - 1)]
            yield from self._expect(arg, wanted, context)
        return function.return_type

    def _check_binary(self, expr: BinaryExpr) -> Check:
        lhs = yield expr.lhs
        rhs = yield expr.rhs
        are_scalars = lhs is ValueType.SCALAR and rhs is ValueType.SCALAR
        compares = is_comparison(expr.op)
        if expr.return_bool and not compares:
            reason = "bool modifier can only be used on comparison operators"
            raise PositionedError(self._operator_start(expr), reason)
        if compares and not expr.return_bool and are_scalars:
            reason = "comparisons between scalars must use BOOL modifier"
            raise PositionedError(self._operator_start(expr), reason)
        if expr.matching is not None:
            self._check_included_labels(expr, expr.matching)
        for side, side_type in ((expr.lhs, lhs), (expr.rhs, rhs)):
            if side_type not in _ARITHMETIC_TYPES:
                reason = "binary expression must contain only scalar and instant vector types"
                raise PositionedError(side.pos.start, reason)
        _check_matching(expr, lhs is ValueType.VECTOR and rhs is ValueType.VECTOR)
        return ValueType.SCALAR if are_scalars else ValueType.VECTOR

    def _check_included_labels(self, expr: BinaryExpr, matching: VectorMatching) -> None:
        for label in matching.labels if matching.on else ():
            if label in matching.include:
                reason = f"label {quote(label)} must not occur in ON and GROUP clause at once"
                raise PositionedError(self._operator_start(expr), reason)

    def _operator_start(self, expr: BinaryExpr) -> int:
        start = expr.lhs.pos.end
        while self._text[start] in " \t\r\n":
            start += 1
        return start


def _type_fault(wanted: ValueType, got: ValueType, context: str) -> str:
    return f"expected type {wanted.document_name} in {context}, got {got.document_name}"


def _check_argument_count(call: Call, function: Function) -> None:
    wanted, got = len(function.arg_types), len(call.args)
    least = wanted - 1 if function.variadic else wanted
    reason = ""
    if not function.variadic and got != wanted:
        reason = f"expected {wanted}"
    elif got < least:
        reason = f"expected at least {least}"
    elif 0 < function.variadic < got - least:
        reason = f"expected at most {least + function.variadic}"
    if reason:
        reason += f" argument(s) in call to {quote(call.func)}, got {got}"
        raise PositionedError(call.pos.start, reason)


def _check_info_selector(call: Call, selector: Expr, context: str) -> None:
    """The second argument of `info` must be label matchers only; all may match the empty string."""
    got = value_type(selector)
    if got is not ValueType.VECTOR:
        raise PositionedError(call.pos.start, _type_fault(ValueType.VECTOR, got, context))
    # Prometheus panics on any other vector here and answers "unexpected error".
    if not isinstance(selector, VectorSelector) or selector.name:
        reason = "expected label selectors only, got vector selector instead"
        raise PositionedError(selector.pos.start, reason)


def _is_grouped(matching: VectorMatching | None) -> bool:
    return matching is not None and matching.card in (
        Cardinality.MANY_TO_ONE,
        Cardinality.ONE_TO_MANY,
    )


def _check_matching(expr: BinaryExpr, are_vectors: bool) -> None:
    reason = ""
    is_set_operator = expr.op in SET_OPERATORS
    fills = expr.matching is not None and expr.matching.fills
    if not are_vectors and expr.matching is not None and expr.matching.labels:
        reason = "vector matching only allowed between instant vectors"
    elif not are_vectors and fills:
        reason = "filling in missing series only allowed between instant vectors"
    elif not are_vectors and is_set_operator:
        reason = f"set operator {quote(expr.op)} not allowed in binary scalar expression"
    elif is_set_operator and _is_grouped(expr.matching):
        reason = f"no grouping allowed for {quote(expr.op)} operation"
    elif is_set_operator and fills:
        reason = "filling in missing series not allowed for set operators"
    if reason:
        raise PositionedError(expr.pos.start, reason)
