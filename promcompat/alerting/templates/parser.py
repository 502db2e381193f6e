"""Parses templates as https://pkg.go.dev/text/template defines them."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

from promcompat.alerting.templates.lexer import Token, tokenize, unquote
from promcompat.alerting.templates.nodes import (
    Action,
    Branch,
    Chain,
    Command,
    Constant,
    Field,
    Function,
    Invocation,
    LoopExit,
    Node,
    Operand,
    Pipeline,
    TemplateError,
    Text,
    Tree,
    Variable,
)
from promcompat.core.texts.strconv import MAX_INT64, parse_float, parse_int, quote

_CONSTANTS: Final = {"true": True, "false": False, "nil": None}
_BRANCHES: Final = ("if", "with", "range")
_KEYWORDS: Final = frozenset(
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"]
)
_MAX_UNSIGNED: Final = (1 << 64) - 1
"""More than any 64-bit number has in any base."""
_MAX_DEPTH: Final = 100
"""Deeper templates are refused, as they would exhaust the stack."""


def parse_template(name: str, source: str, functions: Container[str]) -> Tree:
    """The tree of a template; `functions` are the names that may be called.

    Raises TemplateError in Go's words.
    """
    return _Parser(name, source, functions).parse()


@dataclass(slots=True)
class _Parser:
    name: str
    source: str
    functions: Container[str]
    tokens: list[Token] = field(init=False)
    position: int = 0
    variables: list[str] = field(default_factory=lambda: ["$"])
    definitions: dict[str, tuple[Node, ...]] = field(default_factory=dict)
    range_depth: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        self.tokens = tokenize(self.name, self.source)

    def parse(self) -> Tree:
        body, ending = self._list(is_nested=False)
        assert ending == ""
        return Tree(self.name, self.source, body, self.definitions)

    # Tokens

    def _peek(self) -> Token:
        return self.tokens[self.position]

    def _next(self) -> Token:
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def _skip_space(self) -> Token:
        while self._peek().kind == "space":
            self._next()
        return self._peek()

    def _fault(self, text: str, token: Token) -> TemplateError:
        line = self.source.count("\n", 0, token.pos) + 1
        return TemplateError(f"template: {self.name}:{line}: {text}")

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        shown = "EOF" if token.kind == "end" else f'"{token.text}"'
        if token.kind == "dot" or (token.kind == "name" and token.text in _KEYWORDS):
            shown = f"<{token.text}>"
        return self._fault(f"unexpected {shown} in {context}", token)

    def _expect_close(self, context: str) -> None:
        token = self._skip_space()
        if token.kind != "close":
            raise self._unexpected(token, context)
        self._next()

    # Lists and actions

    def _list(self, *, is_nested: bool) -> tuple[tuple[Node, ...], str]:
        """Nodes up to `end` or `else`; that word is consumed and returned."""
        nodes: list[Node] = []
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._fault("max expression depth exceeded", self._peek())
        while True:
            token = self._next()
            if token.kind == "text":
                nodes.append(Text(token.text))
            elif token.kind == "end":
                if is_nested:
                    raise self._fault("unexpected EOF", token)
                break
            else:
                word = self._skip_space()
                if word.kind == "name" and word.text in ("end", "else"):
                    if not is_nested:
                        raise self._fault(f"unexpected {{{{{word.text}}}}}", word)
                    self._next()
                    self.depth -= 1
                    return tuple(nodes), word.text
                self._action(nodes)
        self.depth -= 1
        return tuple(nodes), ""

    def _action(self, nodes: list[Node]) -> None:
        word = self._peek()
        keyword = word.text if word.kind == "name" else ""
        if keyword in _BRANCHES:
            self._next()
            nodes.append(self._branch(keyword))
        elif keyword == "define" and self.depth == 1:
            self._next()
            self._define()
        elif keyword == "block":
            self._next()
            nodes.append(self._block())
        elif keyword == "template":
            self._next()
            nodes.append(self._invocation())
        elif keyword in ("break", "continue"):
            self._next()
            if not self.range_depth:
                raise self._fault(f"{{{{{keyword}}}}} outside {{{{range}}}}", word)
            self._expect_close(f"{{{{{keyword}}}}}")
            nodes.append(LoopExit(keyword))
        else:
            nodes.append(Action(self._pipeline("command", "close")))

    def _branch(self, keyword: str) -> Branch:
        n_variables = len(self.variables)
        pipeline = self._pipeline(keyword, "close")
        self.range_depth += keyword == "range"
        body, ending = self._list(is_nested=True)
        self.range_depth -= keyword == "range"
        otherwise: tuple[Node, ...] = ()
        if ending == "else":
            otherwise = self._else(keyword)
        else:
            self._expect_close("end")
        del self.variables[n_variables:]
        return Branch(keyword, pipeline, body, otherwise)

    def _else(self, keyword: str) -> tuple[Node, ...]:
        word = self._skip_space()
        if word.kind == "name" and word.text == keyword and keyword in ("if", "with"):
            self._next()
            self.depth += 1
            if self.depth > _MAX_DEPTH:
                raise self._fault("max expression depth exceeded", word)
            branch = self._branch(keyword)
            self.depth -= 1
            return (branch,)
        self._expect_close("else")
        nodes, ending = self._list(is_nested=True)
        if ending != "end":
            raise self._fault("expected end; found {{else}}", self._peek())
        self._expect_close("end")
        return nodes

    def _define(self) -> None:
        _, name = self._string("define clause")
        self._expect_close("define clause")
        self._define_body(name, "define clause")

    def _block(self) -> Invocation:
        """A definition and its invocation at once."""
        at, name = self._string("block clause")
        pipeline = self._pipeline("block clause", "close")
        self._define_body(name, "block clause")
        return Invocation(at, name, pipeline)

    def _define_body(self, name: str, context: str) -> None:
        """Up to the end of a definition. Of two with the same name, one must be empty."""
        outer, self.variables = self.variables, ["$"]
        depth, self.range_depth = self.range_depth, 0
        body, ending = self._list(is_nested=True)
        if ending != "end":
            raise self._fault(f"unexpected {{{{else}}}} in {context}", self._peek())
        self._expect_close("end")
        self.variables, self.range_depth = outer, depth
        if _is_empty(self.definitions.get(name, ())):
            self.definitions[name] = body
        elif not _is_empty(body):
            raise self._fault(f'template: multiple definition of template "{name}"', self._peek())

    def _invocation(self) -> Invocation:
        at, name = self._string("template clause")
        if self._skip_space().kind == "close":
            self._next()
            return Invocation(at, name, None)
        return Invocation(at, name, self._pipeline("template clause", "close"))

    def _string(self, context: str) -> tuple[int, str]:
        """The name of a template, and where it begins: errors of invocations are placed there."""
        token = self._skip_space()
        if token.kind not in ("string", "raw"):
            raise self._unexpected(token, context)
        self._next()
        return token.pos, self._unquote(token)

    def _unquote(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as exc:
            raise self._fault("invalid syntax", token) from exc

    # Pipelines

    def _pipeline(self, context: str, end: str) -> Pipeline:
        """Up to and including the token of kind `close`, or the mark `)`."""
        start = self._skip_space()
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._fault("max expression depth exceeded", start)
        declared, is_assignment = self._declarations(context)
        commands: list[Command] = []
        while True:
            token = self._skip_space()
            if token.kind == end or (end == ")" and token.text == ")" and token.kind == "mark"):
                if not commands:
                    raise self._fault(f"missing value for {context}", token)
                self._next()
                break
            commands.append(self._command(context, end))
        self._check_commands(commands, start)
        if not is_assignment:
            self.variables += declared
        self.depth -= 1
        return Pipeline(start.pos, tuple(declared), is_assignment, tuple(commands))

    def _check_commands(self, commands: list[Command], start: Token) -> None:
        for number, command in enumerate(commands[1:], start=2):
            if isinstance(command.operands[0], Constant):
                raise self._fault(
                    f"non executable command in pipeline stage {number}",
                    Token("", "", command.pos),
                )

    def _declarations(self, context: str) -> tuple[list[str], bool]:
        start = self.position
        names: list[str] = []
        while self._skip_space().kind == "variable":
            names.append(self._next().text)
            token = self._skip_space()
            if token.kind == "declare" or (token.kind == "mark" and token.text == "="):
                self._next()
                # The expansion finds out whether an assigned variable is declared.
                return names, token.text == "="
            if not (context == "range" and token.text == "," and len(names) == 1):
                break
            self._next()
        self.position = start
        return [], False

    def _check_variable(self, name: str, token: Token) -> None:
        if name not in self.variables:
            raise self._fault(f'undefined variable "{name}"', token)

    def _command(self, context: str, end: str) -> Command:
        operands: list[Operand] = []
        start = self._skip_space()
        while True:
            token = self._skip_space()
            if token.kind == "mark" and token.text == "|":
                self._next()
                break
            if token.kind in ("close", "end") or (token.kind == "mark" and token.text == ")"):
                if token.kind == "end":
                    raise self._fault("unclosed action", token)
                if token.kind == "close" and end != "close":
                    raise self._fault("unclosed left paren", token)
                if token.kind == "mark" and end != ")":
                    raise self._fault("unexpected right paren U+0029 ')'", token)
                break
            operands.append(self._operand(context))
            after = self._peek()
            is_end = after.kind in ("space", "close", "end")
            if not is_end and not (after.kind == "mark" and after.text in ("|", ")")):
                raise self._unexpected(after, "operand")
        if not operands:
            raise self._fault(f"missing value for {context}", start)
        return Command(start.pos, tuple(operands))

    def _operand(self, context: str) -> Operand:
        operand = self._term(context)
        names: list[str] = []
        token = self._peek()
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        # Go places a chain of fields where the second one begins.
        match operand:
            case _ if not names:
                return operand
            case Field(names=()):
                raise self._fault('unexpected . after term "."', token)
            case Field():
                return Field(token.pos, operand.names + tuple(names))
            case Variable():
                return Variable(token.pos, operand.name, operand.names + tuple(names))
            case Constant():
                term = quote(operand.text)
                raise self._fault(f"unexpected . after term {term}", token)
            case _:
                return Chain(token.pos, operand, tuple(names))

    def _term(self, context: str) -> Operand:
        token = self._next()
        match token.kind:
            case "string" | "raw" | "char" | "number":
                return Constant(token.pos, self._literal(token), token.text)
            case "variable":
                self._check_variable(token.text, token)
                return Variable(token.pos, token.text, ())
            case "field" | "dot":
                return Field(token.pos, (token.text[1:],) if token.kind == "field" else ())
            case "name" if token.text in _CONSTANTS:
                return Constant(token.pos, _CONSTANTS[token.text], token.text)
            case "name":
                if token.text not in self.functions:
                    raise self._fault(f'function "{token.text}" not defined', token)
                return Function(token.pos, token.text)
            case "mark" if token.text == "(":
                return self._pipeline("parenthesized pipeline", ")")
            case _:
                raise self._unexpected(token, "operand" if context != "command" else "command")

    def _literal(self, token: Token) -> str | int | float:
        match token.kind:
            case "number":
                try:
                    return _number(token.text)
                except ValueError as exc:
                    raise self._fault(f'{exc}: "{token.text}"', token) from exc
            case "char":
                char = self._unquote(token)
                if len(char) != 1:
                    raise self._fault(f"malformed character constant: {token.text}", token)
                return ord(char)
            case _:
                return self._unquote(token)


def _is_empty(body: tuple[Node, ...]) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in body)


def _number(text: str) -> int | float:
    """An int, or a float if it is written as one: Go decides by the text.

    Raises ValueError for a number that no Go type holds.
    """
    whole = parse_int(text)
    largest = _MAX_UNSIGNED if text[0].isdigit() else MAX_INT64
    if whole is not None and -MAX_INT64 - 1 <= whole <= largest:
        return whole
    try:
        value = parse_float(text)
    except ValueError:
        raise ValueError("illegal number syntax") from None
    if not set(".eEpP") & set(text):
        raise ValueError("integer overflow")
    return value
