"""Reads YAML strictly, with the messages of the library that Prometheus reads it with.

Values are read from the nodes of a document, because errors name lines and columns.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from promcompat.core.errors import BadDataError
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.core.texts.storable_text import text_fault
from promcompat.core.texts.strconv import quote

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_SHOWN: Final = 10
"""Characters of a value that errors show at most, as those of Go's decoder."""
_MAX_BYTES: Final = 16 << 20
_MAX_VALUES: Final = 1_000_000


class YamlError(BadDataError):
    """The text is not YAML, or not a document of the expected form."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is, counted from 1; 0 when it is nowhere."""

    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


def place_of(node: yaml.Node | None) -> Place:
    """The place of a node."""
    if node is None:
        return Place()
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def first_document(text: str) -> yaml.Node | None:
    """The first document, None if there is none; Prometheus ignores others. Raises YamlError."""
    return next(iter(documents(text, limit=1)), None)


def documents(text: str, limit: int = 1_000) -> list[yaml.Node]:
    """The first documents of a text. Raises YamlError."""
    if len(text) > _MAX_BYTES:
        raise YamlError(f"the text has {len(text)} characters, more than {_MAX_BYTES}")
    loader = _LOADER(text)
    found: list[yaml.Node] = []
    try:
        while len(found) < limit and loader.check_node():
            found.append(loader.get_node())
        return found
    except yaml.MarkedYAMLError as exc:
        raise YamlError(f"yaml: {_line_of(exc)}{exc.problem}") from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise YamlError(f"yaml: {exc}") from exc
    finally:
        loader.dispose()


def _line_of(error: yaml.MarkedYAMLError) -> str:
    """The line as Go's library counts it."""
    is_scanner = isinstance(error, yaml.scanner.ScannerError)
    for mark in (error.context_mark, error.problem_mark):
        if mark is not None and mark.line:
            return f"line {mark.line + is_scanner}: "
    return ""


class StrictReader:
    """Reads values of nodes and collects what is wrong with them, as Go's decoder does.

    Aliases can make a short text stand for many values, so their number is bounded.
    """

    def __init__(self, *, is_strict: bool = True) -> None:
        """`is_strict`: unknown fields are errors."""
        self._errors: list[tuple[int, str]] = []
        self._is_strict = is_strict
        self._n_values = 0

    def _count(self, n_values: int) -> None:
        self._n_values += n_values
        if self._n_values > _MAX_VALUES:
            raise YamlError(f"yaml: the document has more than {_MAX_VALUES} values")

    def finish(self) -> None:
        """Raises YamlError if anything was wrong."""
        if self._errors:
            # In the order of the document, in which Go's decoder meets them.
            found = sorted(self._errors, key=lambda error: error[0])
            lines = [f"line {line}: {text}" for line, text in found]
            raise YamlError("\n  ".join(["yaml: unmarshal errors:", *lines]))

    def _add(self, node: yaml.Node, text: str) -> None:
        self._errors.append((node.start_mark.line + 1, text))

    def refuse(self, node: yaml.Node, reason: str) -> None:
        """Note that a value cannot be used; `finish` reports the line and the reason."""
        self._add(node, reason)

    def fields(
        self,
        node: yaml.Node | None,
        names: frozenset[str],
        go_type: str,
        explain: Callable[[str], str] | None = None,
    ) -> Mapping[str, yaml.Node]:
        """The fields of a mapping by name; others than `names` are errors.

        `explain` gives the error for the name of another field; by default that of Go's decoder.
        """
        found: dict[str, yaml.Node] = {}
        for name, key, value in self._pairs(node, go_type):
            if name in names:
                found[name] = value
            elif explain is not None:
                self._add(key, explain(name))
            elif self._is_strict:
                self._add(key, f"field {name} not found in type {go_type}")
        return found

    def mapping(self, node: yaml.Node | None, go_type: str) -> Mapping[str, yaml.Node]:
        """The values of a mapping whose names may be any."""
        return {name: value for name, _, value in self._pairs(node, go_type)}

    def _pairs(
        self, node: yaml.Node | None, go_type: str
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        if node is None or _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self._cannot(node, go_type)
            return
        self._count(len(node.value))
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                self._add(key, f"mapping key {quote(name)} already defined at line {seen[name]}")
            else:
                seen[name] = line
                yield name, key, value

    def texts(self, node: yaml.Node | None) -> dict[str, str]:
        """A mapping of names to texts."""
        pairs = self._pairs(node, "map[string]string")
        return {name: self.text(value) for name, _, value in pairs}

    def items(self, node: yaml.Node | None, go_type: str) -> list[yaml.Node]:
        """The items of a sequence."""
        if node is None or _is_null(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._cannot(node, go_type)
            return []
        self._count(len(node.value))
        return list(node.value)

    def text(self, node: yaml.Node | None) -> str:
        """Any scalar as text."""
        if node is None or _is_null(node):
            return ""
        if not isinstance(node, yaml.ScalarNode):
            self._cannot(node, "string")
            return ""
        text = str(node.value)
        if found := text_fault(text):
            self._add(node, f"the text {found}")
        return text

    def integer(self, node: yaml.Node | None) -> int:
        """A whole number."""
        return self._whole_number(node, "int")

    def natural(self, node: yaml.Node | None, go_type: str = "uint") -> int:
        """A whole number that is not negative."""
        return self._whole_number(node, go_type)

    def _whole_number(self, node: yaml.Node | None, go_type: str) -> int:
        if node is None or _is_null(node):
            return 0
        try:
            if node.tag == f"{_TAG}int":
                number = int(str(node.value).replace("_", ""), 0)
                is_signed = not go_type.startswith("uint")
                if -(1 << 63) * is_signed <= number < 1 << (64 - is_signed):
                    return number
        except ValueError:
            pass
        self._cannot(node, go_type)
        return 0

    def boolean(self, node: yaml.Node | None) -> bool:
        """`true` or `false`."""
        if node is None or _is_null(node):
            return False
        if node.tag == f"{_TAG}bool":
            return str(node.value).lower() in ("true", "yes", "on")
        self._cannot(node, "bool")
        return False

    def number(self, node: yaml.Node | None) -> float:
        """A number."""
        if node is None or _is_null(node):
            return 0.0
        try:
            if isinstance(node, yaml.ScalarNode):
                return float(str(node.value).replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            pass
        self._cannot(node, "float64")
        return 0.0

    def duration_ms(self, node: yaml.Node | None) -> int:
        """A duration of Prometheus. Raises YamlError at once, as its decoder does."""
        if node is None or _is_null(node):
            return 0
        try:
            return parse_duration_ms(self.text(node))
        except ValueError as exc:
            raise YamlError(str(exc)) from exc

    def _cannot(self, node: yaml.Node, go_type: str) -> None:
        tag = node.tag.replace(_TAG, "!!")
        shown = ""
        if isinstance(node, yaml.ScalarNode):
            value = str(node.value)
            shown = f" `{value}`" if len(value) <= _SHOWN else f" `{value[: _SHOWN - 3]}...`"
        self._add(node, f"cannot unmarshal {tag}{shown} into {go_type}")


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == f"{_TAG}null")
