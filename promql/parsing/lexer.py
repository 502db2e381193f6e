"""The tokens of PromQL.

lark's lexer is not used: a colon, a word or a quote has other meanings inside braces and brackets,
and Prometheus names the exact character in its errors. Token types are the terminals of
`grammar.lark`; `$END` ends every query. Offsets count characters.
"""

import re
from typing import NamedTuple

from promcompat.core.texts.strconv import quote
from promql.ast import AGGREGATIONS
from promql.parsing.literals import quote_rune
from promql.parsing.parse_errors import PositionedError
from promql.parsing.token_scanners import scan_duration, scan_number, string_fault


class Token(NamedTuple):
    """A token: its terminal, its text as written, and where it starts."""

    type: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """The offset after the token."""
        return self.start + len(self.text)

    def description(self) -> str:
        """The token as error texts name it."""
        if self.type in _DESCRIBED:
            shortened = len(self.text.encode()) > 10 and self.type not in _WORDS
            text = f"{quote(self.text[:10])}..." if shortened else quote(self.text)
            return f"{_DESCRIBED[self.type]} {text}"
        if self.type == END_OF_INPUT:
            return "end of input"
        if self.type in _KEYWORD_TYPES:
            return f"<{self.text}>"
        if self.type == "AGGREGATOR":
            return f"<aggr:{self.text}>"
        if self.type in _OPERATOR_TYPES:
            return f"<op:{self.text}>"
        return quote(self.text)


MAX_TOKENS = 500_000
"""The longest query. Prometheus accepts a request body of 10 MB, but 100,000 operators keep it busy
for minutes. Nothing here recurses, so depth needs no limit.
"""

END_OF_INPUT = "$END"
_DESCRIBED = {
    "IDENTIFIER": "identifier",
    "METRIC_IDENTIFIER": "metric identifier",
    "NUMBER": "number",
    "DURATION": "duration",
    "STRING": "string",
}
_WORDS = ("IDENTIFIER", "METRIC_IDENTIFIER")
_FILL_TYPES = frozenset(("FILL", "FILL_LEFT", "FILL_RIGHT"))
_KEYWORD_TYPES = _FILL_TYPES | {
    "BY",
    "WITHOUT",
    "ON",
    "IGNORING",
    "GROUP_LEFT",
    "GROUP_RIGHT",
    "BOOL",
    "OFFSET",
    "ANCHORED",
    "SMOOTHED",
}
_DURATION_WORD_TYPES = {"step": "STEP", "range": "RANGE", "min_of": "MIN_OF", "max_of": "MAX_OF"}

_WORD_TYPES = {
    **dict.fromkeys(AGGREGATIONS, "AGGREGATOR"),
    **{keyword.lower(): keyword for keyword in _KEYWORD_TYPES},
    "and": "LAND",
    "or": "LOR",
    "unless": "LUNLESS",
    "atan2": "ATAN2",
    "start": "START",
    "end": "END",
    **_DURATION_WORD_TYPES,
    "inf": "NUMBER",
    "nan": "NUMBER",
}
_SYMBOL_TYPES = {
    "+": "ADD",
    "-": "SUB",
    "*": "MUL",
    "/": "DIV",
    "%": "MOD",
    "^": "POW",
    "==": "COMPARISON",
    "<": "COMPARISON",
    "<=": "COMPARISON",
    ">": "COMPARISON",
    ">=": "COMPARISON",
    "</": "COMPARISON",
    ">/": "COMPARISON",
    "!=": "NEQ",
    "=": "EQL",
    "=~": "EQL_REGEX",
    "!~": "NEQ_REGEX",
    "@": "AT",
    ",": "COMMA",
    ":": "COLON",
    "(": "LEFT_PAREN",
    ")": "RIGHT_PAREN",
    "{": "LEFT_BRACE",
    "}": "RIGHT_BRACE",
    "[": "LEFT_BRACKET",
    "]": "RIGHT_BRACKET",
}
_OPERATOR_TYPES = frozenset(
    {"LAND", "LOR", "LUNLESS", "ATAN2"}
    | {
        _SYMBOL_TYPES[symbol]
        for symbol in ["+", "-", "*", "/", "%", "^", "==", "!=", "=~", "!~", "@"]
    }
)

_BLANK = re.compile(r"(?:[ \t\r\n]++|#[^\r\n]*+)*")
_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING = r"""(?P<string>"[^"\\\n\ufffd\ud800-\udfff]*+"|'[^'\\\n\ufffd\ud800-\udfff]*+')"""
_QUOTE = r"""(?P<quote>["'`])"""
_STATEMENT = re.compile(
    r"(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*+)"
    r"|(?P<symbol>==|!=|[<>][=/]|=(?!~)|[-+*/%^<>@,])"
    r"|(?P<bracket>[(){\[\]])"
    rf"|{_STRING}|(?P<number>\.?[0-9])|{_QUOTE}"
)
_IN_BRACES = re.compile(
    rf"(?P<word>[a-zA-Z_][a-zA-Z0-9_]*+)|(?P<symbol>=~|=|!=|!~|,)|(?P<bracket>\}})|{_STRING}|{_QUOTE}"
)
_DURATION_WORD = rf"(?P<word>(?i:{'|'.join(_DURATION_WORD_TYPES)})(?![a-zA-Z_]))"
_IN_DURATION = re.compile(
    r"(?P<symbol>[-+*/%^,])|(?P<bracket>[()\]])|(?P<colon>:)|(?P<number>\.?[0-9])"
    rf"|{_DURATION_WORD}"
)
_DURATION_WORD_ALONE = re.compile(_DURATION_WORD)
_ARGUMENTS_FOLLOW = re.compile(r"[ \t\r\n]*+\(")
_PLAIN_NUMBER = re.compile(r"[0-9]++(?:\.[0-9]++)?(?![0-9a-zA-Z_.])")


class Lexer:
    """Makes the tokens of one query on demand, so that errors are reported in order."""

    __slots__ = (
        "_brace_open",
        "_bracket_open",
        "_got_colon",
        "_got_duration",
        "_in_duration",
        "_n_tokens",
        "_paren_depth",
        "_pos",
        "_text",
    )

    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._n_tokens = 0
        self._paren_depth = 0
        self._brace_open = False
        self._bracket_open = False
        self._in_duration = False
        self._got_colon = False
        self._got_duration = False

    def next_token(self) -> Token:
        """The next token; `$END` at the end. Raises PositionedError for an invalid one."""
        self._n_tokens += 1
        if self._n_tokens > MAX_TOKENS:
            raise PositionedError(self._pos, f"query has more than {MAX_TOKENS} tokens")
        if self._in_duration:
            return self._duration_token()
        blank = _BLANK.match(self._text, self._pos)
        self._pos = blank.end() if blank else self._pos
        if self._brace_open:
            return self._brace_token()
        return self._statement_token()

    def _statement_token(self) -> Token:
        match = _STATEMENT.match(self._text, self._pos)
        if match is None:
            return self._statement_end()
        match match.lastgroup:
            case "word":
                return self._bracket_word() if self._bracket_open else self._word(match.group())
            case "symbol":
                return self._emit(_SYMBOL_TYPES[match.group()], match.end())
            case "bracket":
                return self._bracket(match.group())
            case "string":
                return self._emit("STRING", match.end())
            case "number":
                return self._number()
            case _:
                return self._difficult_string()

    def _brace_token(self) -> Token:
        match = _IN_BRACES.match(self._text, self._pos)
        if match is None:
            raise self._brace_fault()
        match match.lastgroup:
            case "word":
                return self._emit("IDENTIFIER", match.end())
            case "symbol":
                return self._emit(_SYMBOL_TYPES[match.group()], match.end())
            case "bracket":
                self._brace_open = False
                return self._emit("RIGHT_BRACE", match.end())
            case "string":
                return self._emit("STRING", match.end())
            case _:
                return self._difficult_string()

    def _duration_token(self) -> Token:
        space = _SPACE.match(self._text, self._pos)
        self._pos = space.end() if space else self._pos
        match = _IN_DURATION.match(self._text, self._pos)
        if match is None:
            raise self._duration_fault()
        match match.lastgroup:
            case "symbol":
                return self._emit(_SYMBOL_TYPES[match.group()], match.end())
            case "bracket":
                return self._bracket(match.group())
            case "colon":
                return self._duration_colon()
            case "word":
                return self._emit(_DURATION_WORD_TYPES[match.group().lower()], match.end())
            case _:
                # As in Prometheus, the text after a number is read as a statement.
                self._in_duration = False
                self._got_duration = True
                return self._number()

    def _emit(self, token_type: str, end: int) -> Token:
        start, self._pos = self._pos, end
        return Token(token_type, self._text[start:end], start)

    def _word(self, word: str) -> Token:
        token_type, end = _WORD_TYPES.get(word.lower()), self._pos + len(word)
        if token_type in _FILL_TYPES and not _ARGUMENTS_FOLLOW.match(self._text, end):
            # Elsewhere these words stay names of metrics.
            token_type = "IDENTIFIER"
        if token_type is None:
            token_type = "METRIC_IDENTIFIER" if ":" in word else "IDENTIFIER"
        return self._emit(token_type, end)

    def _bracket(self, bracket: str) -> Token:
        token = self._emit(_SYMBOL_TYPES[bracket], self._pos + 1)
        match bracket:
            case "(":
                self._paren_depth += 1
            case ")":
                self._paren_depth -= 1
                if self._paren_depth < 0:
                    raise PositionedError(token.end, "unexpected right parenthesis ')'")
            case "{":
                self._brace_open = True
            case "[":
                if self._bracket_open:
                    raise PositionedError(token.start, "unexpected left bracket '['")
                self._bracket_open = self._in_duration = True
                self._got_colon = False
            case _:
                if not self._bracket_open:
                    raise PositionedError(token.start, "unexpected right bracket ']'")
                self._bracket_open = self._in_duration = False
        return token

    def _bracket_word(self) -> Token:
        """What follows a number in brackets: a colon, or a word such as `step`."""
        word = _DURATION_WORD_ALONE.match(self._text, self._pos)
        if word is not None:
            return self._emit(_DURATION_WORD_TYPES[word.group().lower()], word.end())
        char = self._text[self._pos]
        if char != ":":
            reason = f"unexpected character: {quote_rune(char)}, expected ':'"
            raise PositionedError(self._pos, reason)
        if self._got_colon:
            raise PositionedError(self._pos, f"unexpected colon {quote_rune(char)}")
        self._got_colon = True
        return self._emit("COLON", self._pos + 1)

    def _duration_colon(self) -> Token:
        token = self._emit("COLON", self._pos + 1)
        if not self._got_duration:
            reason = "unexpected colon before duration in duration expression"
            raise PositionedError(token.end, reason)
        if self._got_colon:
            raise PositionedError(token.end, "unexpected repeated colon in duration expression")
        self._got_colon = True
        return token

    def _number(self) -> Token:
        plain = _PLAIN_NUMBER.match(self._text, self._pos)
        if plain is not None:
            return self._emit("NUMBER", plain.end())
        is_number, end = scan_number(self._text, self._pos)
        if is_number:
            return self._emit("NUMBER", end)
        is_duration, end = scan_duration(self._text, end)
        if is_duration:
            return self._emit("DURATION", end)
        bad = quote(self._text[self._pos : end])
        raise PositionedError(self._pos, f"bad number or duration syntax: {bad}")

    def _difficult_string(self) -> Token:
        end, fault = string_fault(self._text, self._pos)
        if fault:
            raise PositionedError(self._pos, fault)
        return self._emit("STRING", end)

    def _statement_end(self) -> Token:
        char = self._text[self._pos : self._pos + 1]
        if not char:
            if self._paren_depth:
                raise PositionedError(self._pos, "unclosed left parenthesis")
            if self._bracket_open:
                raise PositionedError(self._pos, "unclosed left bracket")
            return self._emit(END_OF_INPUT, self._pos)
        if char in "!=":
            follower = quote_rune(self._text[self._pos + 1 : self._pos + 2])
            raise PositionedError(self._pos, f"unexpected character after '{char}': {follower}")
        raise PositionedError(self._pos, f"unexpected character: {quote_rune(char)}")

    def _brace_fault(self) -> PositionedError:
        char = self._text[self._pos : self._pos + 1]
        match char:
            case "":
                reason = "unexpected end of input inside braces"
            case "!":
                follower = quote_rune(self._text[self._pos + 1 : self._pos + 2])
                reason = f"unexpected character after '!' inside braces: {follower}"
            case "{":
                reason = "unexpected left brace '{'"
            case _:
                reason = f"unexpected character inside braces: {quote_rune(char)}"
        return PositionedError(self._pos, reason)

    def _duration_fault(self) -> PositionedError:
        char = self._text[self._pos : self._pos + 1]
        if not char:
            return PositionedError(self._pos, "unexpected end of input in duration expression")
        reason = f"unexpected character in duration expression: {quote_rune(char)}"
        return PositionedError(self._pos, reason)
