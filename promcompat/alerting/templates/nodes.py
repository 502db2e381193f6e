"""The tree of a template: the nodes of Go's text/template without `block`."""

from dataclasses import dataclass, field
from typing import TypeAlias


class TemplateError(Exception):
    """A template that cannot be parsed or executed; the message is in the words of Go."""


class TemplateLimitError(TemplateError):
    """A template that would take more time or memory than allowed."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: string, int, float, bool or None for nil."""

    pos: int
    value: object
    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B` of the dot; no names at all is the dot itself."""

    pos: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$name.A.B`."""

    pos: int
    name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function."""

    pos: int
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Fields of the value of a parenthesized pipeline."""

    pos: int
    operand: "Operand"
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands that pass their values on, and the variables that keep the last value."""

    pos: int
    variables: tuple[str, ...]
    is_assignment: bool
    commands: tuple["Command", ...]


Operand: TypeAlias = Constant | Field | Variable | Function | Chain | Pipeline


@dataclass(frozen=True, slots=True)
class Command:
    """An operand and its arguments."""

    pos: int
    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Literal text."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """`{{ pipeline }}`."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`, with its `else` branch."""

    keyword: str
    pipeline: Pipeline
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Invocation:
    """`{{ template "name" pipeline }}`."""

    pos: int
    name: str
    pipeline: Pipeline | None


@dataclass(frozen=True, slots=True)
class LoopExit:
    """`break` or `continue`."""

    keyword: str


Node: TypeAlias = Text | Action | Branch | Invocation | LoopExit


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed template and the templates that it defines."""

    name: str
    source: str
    body: tuple[Node, ...]
    definitions: dict[str, tuple[Node, ...]] = field(default_factory=dict)

    def location(self, pos: int) -> str:
        """A position in Go's form: name, line and byte of the line."""
        before = self.source[:pos]
        column = len(before[before.rfind("\n") + 1 :].encode())
        return f"{self.name}:{before.count(chr(10)) + 1}:{column}"
