"""Reads the JSON of a file so that nothing in it is dropped silently.

A `Source` knows which of its keys were read. What is left at the end was not understood, and
`finish` reports it, so that a field that a later Grafana invents is listed without code for it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {}, False)
"""Values that say the same as an absent field; what they would turn on is off."""
_MAX_EXACT: Final = 1 << 53
"""Up to here, a float that is integral is the number that was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that the dashboard has and its import has not, or has otherwise.

    `path` is its place in the file, `panel` the title of the panel, if it is in one.
    `is_lost` is false if the import shows the same in another way.
    """

    path: str
    panel: str
    what: str
    reason: str
    is_lost: bool = True


@dataclass(slots=True)
class Findings:
    """What is found while a file is read; `panel` is the title of the one that is read."""

    panel: str = ""
    _found: dict[Finding, None] = field(default_factory=dict)

    @property
    def found(self) -> list[Finding]:
        """Each once, in the order of the file."""
        return list(self._found)

    def lost(self, path: str, what: str, reason: str) -> None:
        """Something cannot be shown."""
        self._add(path, what, reason, is_lost=True)

    def changed(self, path: str, what: str, reason: str) -> None:
        """Something is shown in another way."""
        self._add(path, what, reason, is_lost=False)

    def _add(self, path: str, what: str, reason: str, *, is_lost: bool) -> None:
        finding = Finding(path=path, panel=self.panel, what=what, reason=reason, is_lost=is_lost)
        self._found.setdefault(finding)


class Source:
    """A JSON object at a place of the file; absent and unfit values read as the default."""

    def __init__(self, value: object, path: str, findings: Findings) -> None:
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        self._read: set[str] = set()
        self._children: list[Source] = []
        self.path = path
        self.findings = findings

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) not in (None, "", [], {})

    def place(self, key: str) -> str:
        """The path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str, default: Any = None) -> Any:
        """The value as it is; null counts as absent."""
        self._read.add(key)
        found = self._values.get(key)
        return default if found is None else found

    def text(self, key: str, default: str = "") -> str:
        """A text; numbers are written out."""
        found = self.take(key)
        if isinstance(found, str):
            return found
        if isinstance(found, int | float) and not isinstance(found, bool):
            return str(found)
        if found not in _EMPTY:
            self.lost(key, f"{key} is no text")
        return default

    def number(self, key: str) -> float | int | None:
        """A number, also as text; None if absent."""
        found = self.take(key)
        number = number_of(found)
        if number is None and found not in _EMPTY:
            self.lost(key, f"{key} is no number: {shown(found)}")
        return number

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        found = self.take(key, default)
        return found if isinstance(found, bool) else bool(found)

    def choice(self, key: str, names: Mapping[Any, Any], default: Any = None) -> Any:
        """The value that stands for the one of the file; an unknown one is reported."""
        found = self.take(key)
        if found in (None, ""):
            return default
        if not isinstance(found, str | int | float) or found not in names:
            self.lost(key, f"{key} is {shown(found)}")
            return default
        return names[found]

    def entries(self, key: str) -> list[Any]:
        """A list with whatever it has; an absent one is empty."""
        found = self.take(key)
        if isinstance(found, list):
            return found
        if found not in _EMPTY:
            self.lost(key, f"{key} is no list")
        return []

    def child(self, key: str) -> "Source":
        """An object; an absent one is empty."""
        found = self.take(key)
        child = Source(found, self.place(key), self.findings)
        self._children.append(child)
        if found not in _EMPTY and not isinstance(found, dict):
            self.lost(key, f"{key} is no object")
        return child

    def children(self, key: str) -> Iterator["Source"]:
        """The objects of a list."""
        for number, value in enumerate(self.entries(key)):
            child = Source(value, f"{self.place(key)}[{number}]", self.findings)
            self._children.append(child)
            yield child

    def adopt(self, child: "Source") -> None:
        """Report with this object what another one, made from parts of it, leaves unread."""
        self._children.append(child)

    def texts(self, key: str) -> list[str]:
        """A list of texts, or one text."""
        found = self.take(key, [])
        values = found if isinstance(found, list) else [found]
        return [str(value) for value in values if value not in _EMPTY]

    def handed_over(self) -> "Source":
        """The same object with nothing read, for who reads all of it; this one is done with."""
        fresh = Source(self._values, self.path, self.findings)
        self._read.update(self._values)
        self._children.clear()
        return fresh

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every key that was not read yet."""
        for key, value in self._values.items():
            if key not in self._read:
                self._read.add(key)
                yield key, value

    def ignore(self, *keys: str) -> None:
        """These have no effect on what is shown."""
        self._read.update(keys)

    def ignore_if(self, key: str, *defaults: object) -> None:
        """These values of a key are what is done anyway."""
        if self._values.get(key) in defaults:
            self._read.add(key)

    def lost(self, key: str, what: str, reason: str = "is not supported") -> None:
        """The value of a key cannot be shown."""
        self._read.add(key)
        self.findings.lost(self.place(key), what, reason)

    def changed(self, key: str, what: str, reason: str) -> None:
        """The value of a key is shown in another way."""
        self._read.add(key)
        self.findings.changed(self.place(key), what, reason)

    def finish(self) -> None:
        """Report what was not read, here and below, once."""
        for key, value in self.items():
            if value not in _EMPTY:
                what = f"{key} is {shown(value)}"
                self.findings.lost(self.place(key), what, "is not supported")
        for child in self._children:
            child.finish()


def number_of(value: object) -> float | int | None:
    """A finite number, also as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        value = int(value) if value.is_integer() and abs(value) <= _MAX_EXACT else value
    if isinstance(value, int | float) and value == value and abs(value) != float("inf"):
        return value
    return None


def objects_of(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none if it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that have a value."""
    return {key: value for key, value in values.items() if value is not None}


def same(*names: str) -> dict[str, str]:
    """A table for names that promcompat has in common with Grafana."""
    return {name: name for name in names}


def shown(value: object) -> str:
    """A value in a sentence, short."""
    match value:
        case dict():
            return "an object with " + ", ".join(list(value)[:5]) if value else "an empty object"
        case list():
            return f"a list of {len(value)}"
        case _:
            text = str(value)
            return text if len(text) <= 60 else f"{text[:60]}…"
