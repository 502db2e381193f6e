"""Runs the LALR table that lark builds from `grammar.lark`, with the error handling of yacc.

lark's own loop is not used, because Prometheus' error texts depend on two rules of yacc. A state
with a default reduction applies it before it reads the next token, so a semantic error is reported
before a lexical error after it. And an unexpected token unwinds the stack to the nearest state that
accepts `_ERROR`, whose rule says what was expected.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Never

from lark import Lark
from lark.grammar import Rule
from lark.lexer import Lexer as LarkLexer
from lark.parsers.lalr_analysis import Shift

from promql.parsing.lexer import END_OF_INPUT, Lexer, Token
from promql.parsing.parse_errors import PositionedError
from promql.parsing.tree_builder import TreeBuilder

Start = Literal["expression", "metric_selector"]
ParseCheck = Callable[[int], None]
"""Called with the number of tokens read so far; what it raises ends the parsing."""
_TOKENS_PER_CHECK = 1_000

_ERROR = "_ERROR"
_EXPECTED: Mapping[str, tuple[str, str]] = {
    "expected_offset": ("offset", "number, duration, step(), or range()"),
    "expected_timestamp": ("@", "timestamp"),
    "expected_bracket": ("subquery selector", '"]"'),
    "expected_step": ("subquery selector", 'number, duration, step(), range(), or "]"'),
    "expected_colon_or_bracket": ("subquery or range", '":" or "]"'),
    "expected_range": ("subquery or range selector", "number, duration, step(), or range()"),
    "unexpected_in_aggregation": ("aggregation", ""),
    "expected_comma_or_brace": ("label matching", '"," or "}"'),
    "expected_matcher_string": ("label matching", "string"),
    "expected_match_op": ("label matching", "label matching operator"),
    "expected_matcher": ("label matching", 'identifier or "}"'),
    "expected_labels": ("grouping opts", '"("'),
    "expected_comma_or_paren": ("grouping opts", '"," or ")"'),
    "expected_label": ("grouping opts", "label"),
}
"""By alias of an `_ERROR` rule: where the token is unexpected, and what was expected."""


@dataclass(frozen=True, slots=True)
class Production:
    """A rule: `size` symbols of the stack become one `origin`; `build` makes its value, if set."""

    origin: str
    alias: str
    size: int
    build: Callable[..., object] | None


@dataclass(frozen=True, slots=True)
class State:
    """What the parser does in one state.

    `shifts` is the next state by token or reduced rule. `default` is the reduction for every token
    not in `reductions` or `shifts`. A state that `is_decided` reduces without reading a token.
    """

    shifts: Mapping[str, int]
    reductions: Mapping[str, Production]
    default: Production | None
    is_decided: bool


@dataclass(frozen=True, slots=True)
class ParseTable:
    """The states of the grammar, and the first and last state of each start rule."""

    states: Mapping[int, State]
    start_states: Mapping[str, int]
    end_states: Mapping[str, int]


class _NoLexer(LarkLexer):
    """lark needs a lexer to build a table; the tokens come from `promql.parsing.lexer` instead."""

    def __init__(self, _lexer_conf: object) -> None:
        pass

    def lex(self, _lexer_state: object, _parser_state: object) -> Iterator[Never]:
        return iter(())


@cache
def parse_table() -> ParseTable:
    """The table of the grammar, built by the first call in about 0.1 s."""
    grammar = files("promql.parsing").joinpath("grammar.lark").read_text(encoding="utf-8")
    starts: list[Start] = ["expression", "metric_selector"]
    lark = Lark(grammar, parser="lalr", lexer=_NoLexer, start=list(starts))
    conf = lark.parse_interactive("", starts[0]).parser_state.parse_conf
    builder = TreeBuilder()
    states = {
        number: _state_of(actions, builder) for number, actions in conf.parse_table.states.items()
    }
    return ParseTable(states, conf.parse_table.start_states, conf.parse_table.end_states)


def _state_of(actions: Mapping[str, tuple[object, Any]], builder: TreeBuilder) -> State:
    shifts: dict[str, int] = {}
    reductions: dict[str, Production] = {}
    for symbol, (action, argument) in actions.items():
        if action is Shift:
            shifts[str(symbol)] = argument
        else:
            reductions[str(symbol)] = _production_of(argument, builder)
    # As in yacc: the most frequent reduction, unless the state has an error rule.
    counts = Counter(reductions.values())
    default = counts.most_common(1)[0][0] if counts and _ERROR not in shifts else None
    is_decided = len(counts) == 1 and not any(symbol.isupper() for symbol in shifts)
    return State(shifts, reductions, default, is_decided)


def _production_of(rule: Rule, builder: TreeBuilder) -> Production:
    name = rule.alias or rule.origin.name
    build = getattr(builder, name, None)
    if build is None and name not in _EXPECTED and len(rule.expansion) != 1:
        raise TypeError(f"the tree builder cannot build {name!r}")
    return Production(rule.origin.name, name, len(rule.expansion), build)


def no_check(n_tokens: int) -> None:
    """Lets any text be parsed to its end."""


def parse(text: str, start: Start, check: ParseCheck = no_check) -> object:
    """The value that the tree builder makes of all of `text`, parsed as `start`.

    Raises PositionedError for the first error. The stack is a list, so no nesting exhausts it.
    `check` is called every thousand tokens, and at each string, because a string may be a regular
    expression, which takes up to 0.1 s to compile.
    """
    table = parse_table()
    states, end_state, lexer = table.states, table.end_states[start], Lexer(text)
    stack: list[int] = [table.start_states[start]]
    values: list[object] = []
    token: Token | None = None
    n_tokens = 0
    while True:
        state = states[stack[-1]]
        production = state.default if state.is_decided else None
        if production is None:
            token = token or lexer.next_token()
            follower = state.shifts.get(token.type)
            if follower is not None:
                stack.append(follower)
                values.append(token)
                n_tokens += 1
                if token.type == "STRING" or n_tokens % _TOKENS_PER_CHECK == 0:
                    check(n_tokens)
                token = None
                continue
            production = state.reductions.get(token.type, state.default)
            if production is None and token.type == END_OF_INPUT and stack[-1] == end_state:
                return values[-1]
            if production is None:
                raise _unexpected(token, stack, table)
        if production.size:
            del stack[-production.size :]
        if production.build is not None:
            first = len(values) - production.size
            values[first:] = [production.build(*values[first:])]
        stack.append(states[stack[-1]].shifts[production.origin])


def _unexpected(token: Token, stack: list[int], table: ParseTable) -> PositionedError:
    if token.type == END_OF_INPUT and stack == [table.start_states["expression"]]:
        return PositionedError(0, "no expression found in input")
    reason = f"unexpected {token.description()}"
    for number in reversed(stack):
        after_error = table.states[number].shifts.get(_ERROR)
        if after_error is None:
            continue
        production = table.states[after_error].default
        if production is not None:
            context, expected = _EXPECTED[production.alias]
            reason += f" in {context}" + (f", expected {expected}" if expected else "")
        break
    return PositionedError(token.start, reason)
