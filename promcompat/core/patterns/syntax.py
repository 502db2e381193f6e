"""Analyses a regular expression before RE2 compiles it: the cost, and whether it is a list.

RE2 compiles while it holds the interpreter lock, and a short text can keep it busy for minutes
(`x{1000}` 20,000 times takes 11 s). So the cost is estimated from the text first. The rules that
RE2 and Go's regexp package share are left to RE2.
"""

import re
from dataclasses import dataclass, field
from typing import Final

MAX_PATTERN_LENGTH: Final = 1 << 21
"""Characters; about the size of a list of 100,000 host names."""
MAX_COST: Final = 50_000
"""Approximate microseconds to compile. Go's bound of 128 MB is larger: RE2 would take seconds."""
MAX_NESTING: Final = 998
"""As in Go, whose limit of 1,000 includes the group that Prometheus adds around the pattern."""
MAX_SHOWN: Final = 1_000
"""The most characters of a pattern in an error."""
MAX_LISTED_VALUES: Final = 200_000
MAX_COPIED_CHARACTERS: Final = 1 << 23
"""The most characters of values while a list is built."""

_TOKEN: Final = re.compile(
    r"""
      (?P<text>(?:[^\\\[(){|*+?.^$]|\\[!-/:-@\[-`{-~])+)
    | \\Q(?P<quoted>.*?)(?:\\E|\Z)
    | (?P<property>\\[pP](?:\{[^}]*\}|.)?)
    | (?P<escape>\\.?)
    | (?P<class>\[\^?\]?(?:\[:\^?[a-zA-Z]+:\]|\\.|[^\]\\])*\]?)
    | (?P<named>\(\?P?<(?P<name>[A-Za-z0-9_]+)>)
    | (?P<unnamed>\(\?P?<)
    | (?P<group>\((?:\?:)?)
    | \{(?P<least>\d+)(?P<comma>,)?(?P<most>\d*)\}
    | (?P<operator>[*+?])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_FOLDS_CASE: Final = re.compile(r"\(\?[a-zA-Z]*i")
_NEGATED: Final = (r"\D", r"\S", r"\W")
_CLASS_PART: Final = re.compile(r"(?P<property>\\[pP])|\[:|\\.|.", re.DOTALL)
_COST_OF_ANY: Final = 5
_COST_OF_PROPERTY: Final = 1_000
_COST_OF_PROPERTY_IN_CLASS: Final = 30
_COST_OF_FOLDING: Final = 15
_COST_OF_NEGATED: Final = 10
_COST_OF_PLAIN: Final = 3
_COST_OF_OPTIONAL_PAIR: Final = 0.01
"""RE2 takes time quadratic in the number of optional parts, including the copies of `x{0,n}`: 5 ms
for 1,000 and 203 s for 200,000."""


class PatternFaultError(Exception):
    """The pattern is rejected; the message is that of Go's regexp package."""


def fault(reason: str, part: str) -> PatternFaultError:
    """An error that quotes the part at fault, or the beginning of a long one."""
    shown = part if len(part) <= MAX_SHOWN else part[:MAX_SHOWN] + "…"
    return PatternFaultError(f"{reason}: `{shown}`")


@dataclass(frozen=True, slots=True)
class PatternSyntax:
    """The result of analysing a pattern.

    `uncaptured` is the pattern with its named groups without a name. `values` are all the texts it
    matches as a whole when these can be listed, else None. `cost` estimates the microseconds that
    RE2 takes to compile it.
    """

    uncaptured: str
    values: tuple[str, ...] | None
    cost: int


@dataclass(slots=True)
class _Group:
    """An open group: the texts its finished alternatives and the current one match, and costs.

    The last costs are those of what a repetition that follows repeats.
    """

    finished: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=lambda: [""])
    cost: float = 0.0
    last_cost: float = 0.0
    n_optional: int = 0
    last_n_optional: int = 0

    def add(self, cost: float, n_optional: int = 0) -> None:
        self.cost += cost
        self.last_cost = cost
        self.n_optional += n_optional
        self.last_n_optional = n_optional

    def repeat(self, times: int, n_optional: int) -> None:
        """Make what was added last that many times as much, with so many optional copies."""
        self.cost += self.last_cost * (times - 1)
        self.last_cost *= times
        more_optional = self.last_n_optional * (times - 1) + n_optional
        self.n_optional += more_optional
        self.last_n_optional += more_optional

    @property
    def total_cost(self) -> float:
        return self.cost + _COST_OF_OPTIONAL_PAIR * self.n_optional**2


def read_pattern(pattern: str) -> PatternSyntax:
    """Analyse a pattern without compiling it. Raises PatternFaultError."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise fault("expression too large", pattern)
    return _Reader(pattern).read()


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._folds_case = _FOLDS_CASE.search(pattern) is not None
        self._has_alternatives = "|" in pattern
        self._groups = [_Group()]
        self._is_list = True
        self._n_copied = 0
        self._names: list[tuple[int, int]] = []

    def read(self) -> PatternSyntax:
        # Whole values are matched, so anchors have no effect.
        start = self._pattern.startswith("^")
        end = len(self._pattern) - _ends_with_anchor(self._pattern)
        position = int(start)
        while position < end:
            position = self._read_token(position, end)
            if not self._is_list and self._groups[-1].total_cost > MAX_COST:
                raise fault("expression too large", self._pattern)
        if len(self._groups) > 1:
            # Unclosed groups are left to RE2 to report.
            self._is_list = False
        while len(self._groups) > 1:
            self._close()
        group = self._groups[0]
        values = (*group.finished, *group.current) if self._is_list else None
        return PatternSyntax(self._without_names(), values, int(group.total_cost))

    def _read_token(self, position: int, end: int) -> int:
        match = _TOKEN.match(self._pattern, position, end)
        if match is None:
            self._read_character(self._pattern[position])
            return position + 1
        kind = match.lastgroup or "text"
        match kind:
            case "text":
                self._add_text(_ESCAPED.sub(r"\1", match["text"]))
            case "quoted":
                self._add_text(match["quoted"])
            case "named" | "name" | "group":
                self._open(match)
            case "unnamed":
                raise fault("invalid named capture", _up_to_bracket(self._pattern[position:]))
            case "operator":
                is_wide = self._has_alternatives or self._groups[-1].last_cost > _COST_OF_PLAIN
                self._repeat(2, int(is_wide))
            case "least" | "comma" | "most":
                self._repeat(*_repetitions(match))
            case _:
                self._add_class(kind, match[kind])
        return match.end()

    def _read_character(self, char: str) -> None:
        group = self._groups[-1]
        match char:
            case "|":
                self._end_alternative()
                group.add(1.5)
            case ")" if len(self._groups) > 1:
                self._close()
            case _:
                self._is_list = False
                group.add(_COST_OF_ANY)

    def _add_text(self, text: str) -> None:
        group = self._groups[-1]
        # A following repetition applies to the last character only.
        group.add(float(len(text[:-1].encode(errors="replace"))))
        group.add(float(len(text[-1:].encode(errors="replace"))))
        self._append([text])

    def _add_class(self, kind: str, text: str) -> None:
        self._is_list = False
        if text == r"\C":
            raise fault("invalid escape sequence", text)
        folding = _COST_OF_FOLDING if self._folds_case else 1
        self._groups[-1].add(float(folding * _class_cost(kind, text)))

    def _open(self, match: re.Match[str]) -> None:
        if match["named"]:
            self._names.append(match.span("named"))
        if len(self._groups) > MAX_NESTING:
            raise fault("expression nests too deeply", self._pattern)
        self._groups.append(_Group())

    def _end_alternative(self) -> None:
        group = self._groups[-1]
        self._is_list = self._is_list and len(group.finished) < MAX_LISTED_VALUES
        if self._is_list:
            group.finished += group.current
            group.current = [""]

    def _close(self) -> None:
        group = self._groups.pop()
        self._groups[-1].add(group.cost + 1.0, group.n_optional)
        self._append([*group.finished, *group.current])

    def _append(self, values: list[str]) -> None:
        """Append each of the values to each text so far."""
        if not self._is_list:
            return
        current = self._groups[-1].current
        self._n_copied += sum(map(len, current)) * len(values) + len(current) * len(values)
        self._n_copied += sum(map(len, values)) * len(current)
        self._is_list = self._n_copied <= MAX_COPIED_CHARACTERS
        if self._is_list:
            self._groups[-1].current = [head + tail for head in current for tail in values]

    def _repeat(self, times: int, n_optional: int) -> None:
        self._is_list = False
        self._groups[-1].repeat(times, n_optional)

    def _without_names(self) -> str:
        pieces: list[str] = []
        position = 0
        for start, end in self._names:
            pieces += (self._pattern[position:start], "(")
            position = end
        return "".join((*pieces, self._pattern[position:]))


def _ends_with_anchor(pattern: str) -> bool:
    """Whether a dollar at the end is certainly an anchor; after `\\Q` it may belong to the text."""
    return pattern.endswith("$") and not pattern.endswith("\\$") and "\\Q" not in pattern


def _up_to_bracket(rest: str) -> str:
    return rest[: rest.find(">") + 1] or rest


def _repetitions(match: re.Match[str]) -> tuple[int, int]:
    """How many copies RE2 makes of a repeated part, and how many of them are optional."""
    # RE2 rejects more than 1,000 at no cost.
    least = min(int(match["least"][:5]), 1_001)
    if not match["comma"]:
        return max(least, 1), 0
    most = min(int(match["most"][:5] or least + 1), 1_001)
    return max(least, most, 1), max(most - least, 0)


def _class_cost(kind: str, text: str) -> int:
    if kind == "property":
        return _COST_OF_PROPERTY
    if kind == "escape":
        return _COST_OF_NEGATED if text in _NEGATED else _COST_OF_PLAIN
    parts = [part["property"] is not None for part in _CLASS_PART.finditer(text)]
    cost = len(parts) + (_COST_OF_NEGATED if text.startswith("[^") else 0)
    if any(parts):
        cost += _COST_OF_PROPERTY + _COST_OF_PROPERTY_IN_CLASS * sum(parts)
    return cost
