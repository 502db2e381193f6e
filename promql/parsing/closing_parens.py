"""Where Prometheus believes that a call ends, which is what it takes for the place of an operator.

Its parser queues the closing parentheses of the text, and whatever ends with one takes the first of
the queue. Those of `on (…)`, of `start()` and of computed durations are taken by nobody, so that
calls around and behind them seem to end too early.
"""

from collections.abc import Sequence

from promql.ast import AggregateExpr, BinaryExpr, Call, Expr, ParenExpr, UnaryExpr, children
from promql.parsing.lexer import END_OF_INPUT, Lexer, Token

_GROUPING_KEYWORDS = frozenset({"BY", "WITHOUT"})


def shown_end(text: str, query: Expr, part: Expr) -> int:
    """The offset behind `part` of `query`, which was parsed from `text`, as Prometheus has it."""
    tokens = _tokens(text)
    closings = [token.end for token in tokens if token.type == "RIGHT_PAREN"]
    n_taken = 0
    ends: dict[int, int] = {}
    for node in _in_order_of_reduction(query):
        end = node.pos.end
        match node:
            case BinaryExpr(rhs=last) | UnaryExpr(expr=last):
                end = ends[id(last)]
            case Call():
                end = closings[n_taken]
                n_taken += 1
            case AggregateExpr():
                n_taken += _has_grouping(node, tokens)
                end = closings[n_taken]
                n_taken += 1
            case ParenExpr():
                n_taken += 1
        ends[id(node)] = end
    return ends[id(part)]


def _tokens(text: str) -> list[Token]:
    lexer = Lexer(text)
    tokens = [lexer.next_token()]
    while tokens[-1].type != END_OF_INPUT:
        tokens.append(lexer.next_token())
    return tokens


def _in_order_of_reduction(query: Expr) -> Sequence[Expr]:
    """All nodes, children before parents, in the order of the text."""
    waiting, nodes = [query], []
    while waiting:
        nodes.append(waiting.pop())
        waiting.extend(children(nodes[-1]))
    return nodes[::-1]


def _has_grouping(expr: AggregateExpr, tokens: Sequence[Token]) -> bool:
    """Whether a `by` or `without`, of no labels perhaps, is written with an aggregation."""
    first = next(n for n, token in enumerate(tokens) if token.start == expr.pos.start)
    if tokens[first + 1].type in _GROUPING_KEYWORDS:
        return True
    depth = 0
    for number in range(first + 1, len(tokens)):
        depth += (tokens[number].type == "LEFT_PAREN") - (tokens[number].type == "RIGHT_PAREN")
        if depth == 0:
            return tokens[number + 1].type in _GROUPING_KEYWORDS
    return False
