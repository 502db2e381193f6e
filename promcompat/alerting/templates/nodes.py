"""The tree of a template: what Go's text/template knows, less `block`."""

from dataclasses import dataclass, field
from typing import TypeAlias


class TemplateError(Exception):
    """A template that cannot be parsed or executed; the message is in the words of Go."""


class TemplateLimitError(TemplateError):
    """A template that would take more time or memory than one may."""


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
    """Fields of what a parenthesized pipeline gives."""

    pos: int
    operand: "Operand"
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each given the value of the one before it, perhaps kept in variables."""

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
    """What is printed as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """`{{ pipeline }}`."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`, with what is done otherwise."""

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
    """A parsed template and those it defines."""

    name: str
    source: str
    body: tuple[Node, ...]
    definitions: dict[str, tuple[Node, ...]] = field(default_factory=dict)

    def location(self, pos: int) -> str:
        """Where a position is, as Go says it: name, line and byte of the line."""
        before = self.source[:pos]
        column = len(before[before.rfind("\n") + 1 :].encode())
        return f"{self.name}:{before.count(chr(10)) + 1}:{column}"
