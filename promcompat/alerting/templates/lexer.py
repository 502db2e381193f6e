"""Cuts the text of a template into literal text and the tokens of its actions."""

import re
from dataclasses import dataclass
from typing import Final

from promcompat.alerting.templates.nodes import TemplateError

_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<raw>`[^`]*`)
    | (?P<char>'(?:[^'\\\n]|\\.)+')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
        |0[bB][01_]+|0[oO][0-7_]+
        |(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]*)?)(?![\w.]))
    | (?P<variable>\$\w*)
    | (?P<field>\.(?:[^\W\d]\w*))
    | (?P<dot>\.)
    | (?P<name>[^\W\d]\w*)
    | (?P<declare>:=)
    | (?P<mark>[|(),=])
    """,
    re.VERBOSE,
)
_TRIMMED: Final = " \t\r\n"
_SHORT_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is `text`, `open`, `close`, `end` or a group of the token pattern."""

    kind: str
    text: str
    pos: int


def unquote(text: str) -> str:
    """The string that a quoted Go literal denotes. Raises ValueError."""
    if text.startswith("`"):
        return text[1:-1]

    def replace(match: re.Match[str]) -> str:
        for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
            if match[group]:
                code = int(match[group], base)
                largest = 0xFF if base == 8 else 0x10FFFF
                if code > largest or 0xD800 <= code <= 0xDFFF:
                    raise ValueError(match[0])
                return chr(code)
        if match[5] not in _SHORT_ESCAPES:
            raise ValueError(match[0])
        return _SHORT_ESCAPES[match[5]]

    return _ESCAPE.sub(replace, text[1:-1])


def tokenize(name: str, source: str) -> list[Token]:
    """All tokens, closed by one of kind `end`. Raises TemplateError."""
    tokens: list[Token] = []
    position, trims_left = 0, False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        if trims_left:
            text = text.lstrip(_TRIMMED)
        if start < 0:
            _add_text(tokens, text, position)
            tokens.append(Token("end", "", len(source)))
            return tokens
        inner = start + 2
        if source[inner : inner + 1] == "-" and source[inner + 1 : inner + 2] in set(_TRIMMED):
            text = text.rstrip(_TRIMMED)
            inner += 2
        _add_text(tokens, text, position)
        position, trims_left = _action(name, source, inner, tokens)


def _add_text(tokens: list[Token], text: str, pos: int) -> None:
    if text:
        tokens.append(Token("text", text, pos))


def _action(name: str, source: str, start: int, tokens: list[Token]) -> tuple[int, bool]:
    """The tokens of one action; the position after it and whether text after it is trimmed."""
    if source.startswith("/*", start):
        return _comment(name, source, start)
    tokens.append(Token("open", "{{", start))
    position = start
    while True:
        rest = source[position : position + 4]
        if rest.startswith("}}"):
            tokens.append(Token("close", "}}", position))
            return position + 2, False
        if rest[:1] and rest[0] in _TRIMMED and rest[1:4] == "-}}":
            tokens.append(Token("close", "}}", position))
            return position + 4, True
        match = _TOKEN.match(source, position)
        if match is None or match.lastgroup is None:
            raise _fault(name, source, position)
        end = match.end()
        if match.lastgroup == "space" and source.startswith("-}}", end):
            end -= 1
        if end > position:
            tokens.append(Token(match.lastgroup, source[position:end], position))
        position = end


def _comment(name: str, source: str, start: int) -> tuple[int, bool]:
    end = source.find("*/", start)
    if end < 0:
        raise TemplateError(f"template: {name}:{_line(source, start)}: unclosed comment")
    after = end + 2
    if source.startswith("}}", after):
        return after + 2, False
    if source[after : after + 1] in set(_TRIMMED) and source.startswith("-}}", after + 1):
        return after + 4, True
    raise TemplateError(
        f"template: {name}:{_line(source, start)}: comment ends before closing delimiter"
    )


def _fault(name: str, source: str, position: int) -> TemplateError:
    line = _line(source, position)
    char = source[position : position + 1]
    if not char:
        return TemplateError(f"template: {name}:{line}: unclosed action")
    if char == '"':
        return TemplateError(f"template: {name}:{line}: unterminated quoted string")
    if char == "`":
        return TemplateError(f"template: {name}:{line}: unterminated raw quoted string")
    if char.isdigit() or char in "+-":
        found = re.match(r"[\w.+-]+", source[position:])
        shown = found[0] if found else char
        return TemplateError(f'template: {name}:{line}: bad number syntax: "{shown}"')
    shown = f"U+{ord(char):04X}" + (f" '{char}'" if char.isprintable() and char != "\xa0" else "")
    return TemplateError(f"template: {name}:{line}: unrecognized character in action: {shown}")


def _line(source: str, position: int) -> int:
    return source.count("\n", 0, position) + 1
