"""Reads SQL out of the package: named blocks, migrations and routines."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final

_BLOCK_HEAD: Final = re.compile(r"^-- ([a-z][a-z0-9_]*) --$", re.MULTILINE)
_SCRIPT_NAME: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A whole SQL script; `version` is the number its name starts with."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def load_queries(group: str) -> Mapping[str, str]:
    """The statements of `sql/queries/<group>.sql` by name.

    A block is a line `-- name --`, a line of description and the statement. Raises ValueError
    when a name occurs twice, a block has no description or the file holds text before a block.
    """
    text = (resources.files("sql") / "queries" / f"{group}.sql").read_text("utf-8")
    return MappingProxyType(parse_queries(text))


def parse_queries(text: str) -> dict[str, str]:
    """The statements of a text of named blocks; see `load_queries`."""
    parts = _BLOCK_HEAD.split(text)
    if parts[0].strip():
        raise ValueError("text before the first named block")
    queries: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in queries:
            raise ValueError(f"block {name} occurs twice")
        queries[name] = _statement_of(name, body)
    return queries


def _statement_of(name: str, body: str) -> str:
    lines = body.strip().splitlines()
    comments = [line for line in lines if line.startswith("--")]
    if not lines or not lines[0].startswith("--"):
        raise ValueError(f"block {name} has no description")
    statement = "\n".join(line for line in lines if line not in comments).strip()
    if not statement:
        raise ValueError(f"block {name} has no statement")
    return statement


def load_migrations() -> list[SqlFile]:
    """Every migration, in order of version."""
    return _load_scripts("migrations")


def load_routines() -> list[SqlFile]:
    """Every re-applied script, in order of version."""
    return _load_scripts("routines")


def _load_scripts(folder: str) -> list[SqlFile]:
    scripts = [
        SqlFile(int(found[1]), found[2], entry.read_text("utf-8"))
        for entry in (resources.files("sql") / folder).iterdir()
        if (found := _SCRIPT_NAME.match(entry.name))
    ]
    return sorted(scripts, key=lambda script: script.version)
