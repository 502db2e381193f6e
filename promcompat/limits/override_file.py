"""The file of overrides, in the form of Mimir's runtime configuration:

overrides:
  tenant-a:
    ingestion_rate: 50000
    creation_grace_period: 1h
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from promcompat.core.errors import BadDataError
from promcompat.core.file_states import FileState, state_of
from promcompat.core.limits.limit_definitions import LIMIT_OF, LimitValues
from promcompat.core.texts.file_faults import reading_fault
from promcompat.core.texts.yaml_nodes import StrictReader, documents

_LOGGER = logging.getLogger(__name__)
_ROOT: Final = frozenset(["overrides"])
_MAX_BYTES: Final = 4 << 20


class OverrideFile:
    """The overrides of a file, which is read again when it changes; a bad file keeps the last ones.

    `fault` says why the file cannot be used; empty if it can.
    """

    def __init__(self, path: Path | None) -> None:
        """Without a path there are no overrides."""
        self._path = path
        self._state: FileState | None = None
        self.overrides: Mapping[str, LimitValues] = {}
        self.fault = ""

    async def refresh(self) -> bool:
        """Read the file if it has changed; whether there are other overrides now."""
        if self._path is None:
            return False
        return await asyncio.to_thread(self._refresh, self._path)

    def load(self) -> None:
        """Read the file at the start. Raises BadDataError when it cannot be used."""
        if self._path is not None:
            self._refresh(self._path)
        if self.fault:
            raise BadDataError(self.fault)

    def _refresh(self, path: Path) -> bool:
        try:
            state = state_of(path)
            if state == self._state:
                return False
            if state.n_bytes > _MAX_BYTES:
                raise BadDataError(f"it has {state.n_bytes} bytes, more than {_MAX_BYTES}")
            text = path.read_text(encoding="utf-8")
            # A bad one is not read again until it changes, as that takes seconds if it is large.
            self._state = state
            found = parse_override_file(text)
        except (OSError, UnicodeDecodeError, BadDataError) as exc:
            if isinstance(exc, OSError):
                self._state = None
            self._refuse(f"PROMCOMPAT_LIMITS_FILE {path}: {reading_fault(exc)}")
            return False
        self.fault = ""
        is_changed, self.overrides = found != self.overrides, found
        return is_changed

    def _refuse(self, fault: str) -> None:
        if fault != self.fault:
            _LOGGER.error("limits file cannot be used", extra={"reason": fault})
        self.fault = fault


def parse_override_file(text: str) -> dict[str, dict[str, int]]:
    """The overrides of each tenant in a document.

    Raises BadDataError for another document, an unknown limit or a value that is not allowed.
    """
    found = documents(text, limit=2)
    if len(found) > 1:
        raise BadDataError("expected one YAML document, found another one")
    reader = StrictReader()
    root = reader.fields(found[0] if found else None, _ROOT, "promcompat limits")
    tenants = reader.mapping(root.get("overrides"), "map[string]limits")
    overrides = {name: _values_of(reader, node) for name, node in tenants.items()}
    reader.finish()
    return overrides


def _values_of(reader: StrictReader, node: yaml.Node) -> dict[str, int]:
    values: dict[str, int] = {}
    fields = reader.fields(node, frozenset(LIMIT_OF), "limits")
    for name, value in fields.items():
        try:
            values[name] = LIMIT_OF[name].parse(reader.text(value))
        except BadDataError as exc:
            reader.refuse(value, str(exc))
    return values
