"""Executes the tree of a template."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from promcompat.alerting.templates.comparisons import is_true
from promcompat.alerting.templates.functions import TemplateFunction
from promcompat.alerting.templates.go_format import go_text
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
    TemplateLimitError,
    Text,
    Tree,
    Variable,
)
from promcompat.alerting.templates.values import (
    MAX_TEXT,
    LabelMap,
    RootData,
    TemplateSample,
    TooLongError,
    type_name,
)
from promcompat.core.texts.strconv import MAX_INT64, quote

_NO_VALUE: Final = object()
_MAX_MADE: Final = 16 << 20
"""Characters of all texts that functions return, as variables may hold any of them."""
_MAX_STEPS: Final = 100_000
_MAX_DEPTH: Final = 50
"""Tenants write templates, so their memory and time are limited."""


class _LoopExitError(Exception):
    def __init__(self, keyword: str) -> None:
        super().__init__(keyword)
        self.keyword = keyword


@dataclass(slots=True)
class Evaluator:
    """One execution of one template.

    Steps, texts and time are bounded: `deadline` is a `time.monotonic()` value.
    """

    tree: Tree
    functions: Mapping[str, TemplateFunction]
    deadline: float = math.inf
    executing: str = ""
    """The template that is being expanded, which errors name."""
    out: list[str] = field(default_factory=list)
    variables: list[tuple[str, object]] = field(default_factory=list)
    n_characters: int = 0
    n_made: int = 0
    n_steps: int = 0
    depth: int = 0

    def run(self, data: object) -> str:
        """The text of the template over `data`. Raises TemplateError."""
        self.variables, self.executing = [("$", data)], self.tree.name
        try:
            self._walk(self.tree.body, data)
        except RecursionError as exc:
            raise TemplateLimitError("exceeded maximum template depth") from exc
        except TooLongError as exc:
            raise TemplateLimitError(str(exc)) from exc
        return "".join(self.out)

    def _write(self, text: str) -> None:
        self.n_characters += len(text)
        if self.n_characters > MAX_TEXT:
            raise TooLongError
        self.out.append(text)

    def _count_steps(self, n_steps: int = 1) -> None:
        self.n_steps += n_steps
        if self.n_steps > _MAX_STEPS:
            raise TemplateLimitError(f"the template takes more than {_MAX_STEPS} steps")
        if time.monotonic() > self.deadline:
            raise TemplateLimitError("the template takes too long")

    def _walk(self, nodes: Sequence[Node], dot: object) -> None:
        for node in nodes:
            self._count_steps()
            match node:
                case Text():
                    self._write(node.text)
                case Action():
                    value = self._pipeline(node.pipeline, dot)
                    if not node.pipeline.variables:
                        self._write(go_text(value))
                case Branch():
                    self._branch(node, dot)
                case Invocation():
                    self._invoke(node, dot)
                case LoopExit():
                    raise _LoopExitError(node.keyword)
                case _:
                    assert_never(node)

    def _branch(self, node: Branch, dot: object) -> None:
        n_variables = len(self.variables)
        if node.keyword == "range":
            self._range(node, dot)
        else:
            value = self._pipeline(node.pipeline, dot)
            if is_true(value):
                self._walk(node.body, value if node.keyword == "with" else dot)
            else:
                self._walk(node.otherwise, dot)
        del self.variables[n_variables:]

    def _range(self, node: Branch, dot: object) -> None:
        value = self._pipeline(node.pipeline, dot, keeps_variables=False)
        names = node.pipeline.variables
        n_variables = len(self.variables)
        is_empty = True
        for key, item in self._items(value, node.pipeline):
            self._count_steps()
            is_empty = False
            if len(names) == 1:
                self._keep(names[0], item, node.pipeline.is_assignment)
            elif names:
                self._keep(names[0], key, node.pipeline.is_assignment)
                self._keep(names[1], item, node.pipeline.is_assignment)
            try:
                self._walk(node.body, item)
            except _LoopExitError as exc:
                if exc.keyword == "break":
                    break
            finally:
                del self.variables[n_variables:]
        if is_empty:
            self._walk(node.otherwise, dot)

    def _items(self, value: object, at: Pipeline) -> Iterator[tuple[object, object]]:
        match value:
            case None:
                return iter(())
            case Mapping():
                return iter(sorted(value.items()))
            case str():
                raise self._fault(at, f"range can't iterate over {value}")
            case int() if not isinstance(value, bool) and len(at.variables) > 1:
                text = f"can't use {value} to iterate over more than one variable"
                raise self._fault(at, text)
            case int() if not isinstance(value, bool):
                return ((number, number) for number in range(value))
            case Sequence():
                return iter(enumerate(value))
            case _:
                raise self._fault(at, f"range can't iterate over {go_text(value)}")

    def _invoke(self, node: Invocation, dot: object) -> None:
        body = self.tree.definitions.get(node.name)
        if body is None:
            raise self._fault(node, f"template {quote(node.name)} not defined")
        value = None if node.pipeline is None else self._pipeline(node.pipeline, dot)
        outer, self.variables = (self.variables, self.executing), [("$", value)]
        self.executing = node.name
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise TemplateLimitError("exceeded maximum template depth")
        self._walk(body, value)
        self.depth -= 1
        self.variables, self.executing = outer

    def _keep(self, name: str, value: object, is_assignment: bool) -> None:
        if not is_assignment:
            self.variables.append((name, value))
            return
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        raise TemplateError(
            f"template: {self.tree.name}: executing {quote(self.executing)}: "
            f"undefined variable: {name}"
        )

    def _pipeline(self, node: Pipeline, dot: object, *, keeps_variables: bool = True) -> object:
        value: object = _NO_VALUE
        for command in node.commands:
            value = self._command(command, dot, value)
        if keeps_variables:
            for name in node.variables:
                self._keep(name, value, node.is_assignment)
        return value

    def _command(self, command: Command, dot: object, final: object) -> object:
        self._count_steps(len(command.operands))
        first, arguments = command.operands[0], command.operands[1:]
        if isinstance(first, Function):
            return self._call(first, arguments, dot, final)
        if arguments or final is not _NO_VALUE:
            raise self._fault(first, f"can't give argument to non-function {self._source(first)}")
        if isinstance(first, Constant) and first.value is None:
            raise self._fault(first, "nil is not a command")
        return self._operand(first, dot)

    def _operand(self, node: Operand, dot: object) -> object:
        match node:
            case Constant():
                if isinstance(node.value, int) and node.value > MAX_INT64:
                    raise self._fault(node, f"{node.text} overflows int")
                return node.value
            case Field():
                return self._fields(node, dot, node.names)
            case Variable():
                value = next(v for name, v in reversed(self.variables) if name == node.name)
                return self._fields(node, value, node.names)
            case Chain():
                return self._fields(_last_part(node), self._operand(node.operand, dot), node.names)
            case Pipeline():
                return self._pipeline(node, dot)
            case Function():
                return self._call(node, (), dot, _NO_VALUE)
            case _:
                assert_never(node)

    def _fields(self, node: Operand, value: object, names: Sequence[str]) -> object:
        for name in names:
            value = self._one_field(node, value, name)
        return value

    def _one_field(self, node: Operand, value: object, name: str) -> object:
        match value:
            case LabelMap():
                return value.get(name, "")
            case Mapping():
                return value.get(name)
            case RootData() | TemplateSample() if name in value.fields():
                return value.fields()[name]
            case None:
                raise self._fault(node, f'nil data; no entry for key "{name}"')
            case _:
                raise self._fault(node, f"can't evaluate field {name} in type {type_name(value)}")

    def _call(
        self, node: Function, arguments: Sequence[Operand], dot: object, final: object
    ) -> object:
        if node.name in ("and", "or"):
            return self._short_circuit(node, arguments, dot, final)
        values = [self._operand(argument, dot) for argument in arguments]
        if final is not _NO_VALUE:
            values.append(final)
        call = Command(node.pos, (node, *arguments))
        function = self.functions.get(node.name)
        if function is None:
            raise self._fault(call, f"error calling {node.name}: call of nil")
        self._check_arguments(call, node.name, function, values)
        try:
            return self._made(function.call(*values))
        except TooLongError:
            raise
        except (ValueError, OverflowError) as exc:
            raise self._fault(call, f"error calling {node.name}: {exc}") from exc

    def _made(self, value: object) -> object:
        if isinstance(value, str):
            self.n_made += len(value)
            if len(value) > MAX_TEXT or self.n_made > _MAX_MADE:
                raise TooLongError
        return value

    def _short_circuit(
        self, node: Function, arguments: Sequence[Operand], dot: object, final: object
    ) -> object:
        value: object = _NO_VALUE
        for argument in arguments:
            value = self._operand(argument, dot)
            if is_true(value) == (node.name == "or"):
                return value
        if final is not _NO_VALUE:
            return final
        if value is _NO_VALUE:
            raise self._fault(node, f"wrong number of args for {node.name}: want at least 1 got 0")
        return value

    def _check_arguments(
        self, call: Command, name: str, function: TemplateFunction, values: Sequence[object]
    ) -> None:
        expected = list(function.parameters)
        is_variadic = expected[-1:] == ["..."]
        expected = expected[:-1] if is_variadic else expected
        fewest = len(expected) - is_variadic
        if len(values) < fewest or (len(values) > len(expected) and not is_variadic):
            wanted = f"at least {fewest}" if is_variadic else f"{fewest}"
            raise self._fault(
                call.operands[0],
                f"wrong number of args for {name}: want {wanted} got {len(values)}",
            )
        expected += expected[-1:] * (len(values) - len(expected))
        for index, (value, kind) in enumerate(zip(values, expected, strict=False), start=1):
            if kind not in ("any", type_name(value)):
                # The value of the command before stands in the source nowhere else than there.
                at = call.operands[min(index, len(call.operands) - 1)]
                operand = at if index < len(call.operands) else None
                raise self._fault(at, _type_text(operand, kind, value))

    def _source(self, node: Operand | Command | Invocation) -> str:
        match node:
            case Invocation():
                argument = f" {self._source(node.pipeline)}" if node.pipeline else ""
                return f"{{{{template {quote(node.name)}{argument}}}}}"
            case Command():
                return " ".join(map(self._argument, node.operands))
            case Constant():
                return node.text
            case Function():
                return node.name
            case Field():
                return "." + ".".join(node.names)
            case Variable():
                return ".".join((node.name, *node.names))
            case Chain():
                return "." + ".".join(node.names)
            case Pipeline():
                return " | ".join(map(self._source, node.commands))
            case _:
                assert_never(node)

    def _argument(self, node: Operand) -> str:
        text = self._source(node)
        return f"({text})" if isinstance(node, Pipeline) else text

    def _fault(self, node: Operand | Command | Invocation, text: str) -> TemplateError:
        return TemplateError(
            f"template: {self.tree.location(node.pos)}: executing {quote(self.executing)} "
            f"at <{self._source(node)}>: {text}"
        )


def _last_part(node: Operand) -> Operand:
    """What was evaluated last of a parenthesized pipeline: Go places faults of its fields there."""
    while isinstance(node, Chain | Pipeline):
        node = node.operand if isinstance(node, Chain) else node.commands[-1].operands[-1]
    return node


def _type_text(operand: Operand | None, kind: str, value: object) -> str:
    """What is wrong with an argument of another type, which is an operand or a piped value.

    Go knows a constant before it has a value.
    """
    if not isinstance(operand, Constant):
        return f"wrong type for value; expected {kind}; got {type_name(value)}"
    if operand.value is None:
        return f"cannot assign nil to {kind}"
    if kind == "string":
        return f"expected string; found {operand.text}"
    return f"can't handle {operand.text} for arg of type {kind}"
