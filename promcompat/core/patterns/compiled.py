"""Regular expressions with Prometheus' semantics: all expressions of the service are compiled here.

RE2 matches in time linear in the text. The time to compile an expression and the memory it keeps
are bounded here (see `pattern_syntax`). Matching does not hold the interpreter lock.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

import re2

from promcompat.core.bounded_caches import ByteBoundedCache, texts_bytes
from promcompat.core.errors import BadDataError
from promcompat.core.patterns.syntax import (
    MAX_COST,
    PatternFaultError,
    PatternSyntax,
    fault,
    read_pattern,
)

TINY_MEMORY_BYTES: Final = 128 << 10
SMALL_MEMORY_BYTES: Final = 1 << 20
LARGE_MEMORY_BYTES: Final = 8 << 20
"""The memory RE2 may use for an expression, including the states it builds while matching."""
MAX_CACHE_BYTES: Final = 64 << 20
MAX_CAPTURE_BYTES: Final = 16 << 20
"""The memory for the groups of a match: each state of the program has a copy of all groups."""
_SMALL_FROM_COST: Final = 200
_LARGE_FROM_COST: Final = 5_000
_BYTES_PER_VALUE: Final = 50
"""The size of an entry in the lookup table of values."""
_BYTES_PER_CAPTURE: Final = 16

_GO_WORDING: Final = {
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid repetition size": "invalid repeat count",
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
}
"""The error texts of Go's regexp package where RE2's differ; clients expect Go's."""


class PatternMatch(Protocol):
    """The part of RE2's match objects that is used."""

    def group(self, group: int | str = 0) -> str | None:
        """The text of a group, None if it did not participate."""

    def start(self) -> int:
        """Where the match starts."""

    def end(self) -> int:
        """Where it ends."""


class CompiledPattern(Protocol):
    """The part of RE2's compiled expressions that is used."""

    groups: int
    groupindex: Mapping[str, int]
    programsize: int

    def fullmatch(self, text: str) -> PatternMatch | None:
        """A match when the whole of `text` matches."""

    def search(self, text: str) -> PatternMatch | None:
        """The first match."""

    def sub(self, replacement: Callable[[PatternMatch], str], text: str) -> str:
        """The text with each match replaced by the result of `replacement`."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that matches whole texts, by RE2 or as a list of the texts it matches.

    `values` are all texts that it matches, as for `(a|b):80`; None if they cannot be listed.
    `n_bytes` is the most memory it may use.
    """

    values: Collection[str] | None
    n_bytes: int
    _compiled: CompiledPattern | None = None

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` matches."""
        if self._compiled is None:
            return self.values is not None and text in self.values
        return self._compiled.fullmatch(text) is not None


_CACHE: Final = ByteBoundedCache[str, Pattern](MAX_CACHE_BYTES)


def compile_pattern(text: str) -> Pattern:
    """The expression for whole texts, its dot matching newlines as Prometheus has it (`(?s:…)`).

    Raises BadDataError with Prometheus' text for a malformed or too large expression. Compiling
    takes up to 0.1 s, during which no other thread runs; a match may take as long, but others run.
    """
    pattern = _CACHE.get(text)
    if pattern is None:
        pattern = _compile(text)
        _CACHE.add(text, pattern, pattern.n_bytes)
    return pattern


def check_cost(text: str, max_cost: int) -> None:
    """Raises BadDataError if compiling the expression costs more, see `PatternSyntax`."""
    if max_cost < MAX_COST:
        syntax = _read(text)
        if syntax.values is None and syntax.cost > max_cost:
            raise _refused(fault("expression too large", text))


def cost_of(text: str) -> int:
    """What compiling the expression costs, see `PatternSyntax`. Raises BadDataError."""
    return _read(text).cost


def compile_capturing(text: str, max_cost: int = MAX_COST) -> CompiledPattern:
    """An expression with its groups, for replacements; it is not cached.

    Its dot matches no newline. Raises BadDataError as `compile_pattern` does, and when its groups
    would take too much memory.
    """
    syntax = _read(text)
    if syntax.cost > max_cost:
        raise _refused(fault("expression too large", text))
    compiled = _compile_re2(text, syntax, captures=True)
    n_bytes = compiled.programsize * (compiled.groups + 1) * _BYTES_PER_CAPTURE
    if n_bytes > MAX_CAPTURE_BYTES:
        raise _refused(fault("expression too large", text))
    return compiled


def _read(text: str) -> PatternSyntax:
    try:
        return read_pattern(text)
    except PatternFaultError as exc:
        raise _refused(exc) from exc


def _refused(exc: PatternFaultError) -> BadDataError:
    return BadDataError(f"error parsing regexp: {exc}")


def _compile(text: str) -> Pattern:
    syntax = _read(text)
    if syntax.values is not None:
        n_bytes = texts_bytes((text, *syntax.values)) + _BYTES_PER_VALUE * len(syntax.values)
        return Pattern(dict.fromkeys(syntax.values), n_bytes)
    compiled = _compile_re2(text, syntax, captures=False)
    return Pattern(None, _memory_bytes(syntax), compiled)


def _memory_bytes(syntax: PatternSyntax) -> int:
    if syntax.cost > _LARGE_FROM_COST:
        return LARGE_MEMORY_BYTES
    return SMALL_MEMORY_BYTES if syntax.cost > _SMALL_FROM_COST else TINY_MEMORY_BYTES


def _compile_re2(text: str, syntax: PatternSyntax, *, captures: bool) -> CompiledPattern:
    """With `captures` the dot matches no newline, as in Go; without, it does, as in matchers."""
    options = re2.Options()
    options.dot_nl = not captures
    options.never_capture = not captures
    options.max_mem = _memory_bytes(syntax)
    options.log_errors = False
    wanted = text if captures else syntax.uncaptured
    try:
        return cast(CompiledPattern, re2.compile(wanted, options))
    except re2.error as exc:
        if wanted != text:
            # Fails too, with an error that quotes the original text.
            return _compile_re2(text, syntax, captures=True)
        raise BadDataError(f"error parsing regexp: {_regexp_fault(exc, text)}") from exc
    except UnicodeEncodeError as exc:
        raise _refused(fault("invalid UTF-8", text)) from exc
    finally:
        # The re2 module caches 128 compiled expressions of any size.
        re2.purge()


def _regexp_fault(exc: Exception, pattern: str) -> str:
    """Prometheus' text for a pattern that RE2 rejected as `<fault>: <part>`."""
    message = exc.args[0] if exc.args else ""
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    if text.startswith("trailing \\"):
        return "trailing backslash at end of expression: ``"
    if text.startswith("pattern too large"):
        return str(fault("expression too large", pattern))
    reason, _, part = text.partition(": ")
    return str(fault(_GO_WORDING.get(reason, reason), part))
