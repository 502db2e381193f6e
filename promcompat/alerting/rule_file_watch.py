"""Rule files that are loaded whenever they change."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from glob import glob
from pathlib import Path

from promcompat.alerting.rule_files.rule_document import (
    GroupDocument,
    RuleFileError,
    parse_rule_file,
)
from promcompat.alerting.rule_groups import RuleGroups
from promcompat.alerting.stats import AlertingStats
from promcompat.core.errors import BadDataError
from promcompat.core.texts.file_faults import reading_fault

_LOGGER = logging.getLogger(__name__)

_Signature = tuple[tuple[str, int, int], ...]
"""Name, time of the last change in nanoseconds and size of each file."""


class RuleFileWatch:
    """Keeps the namespaces of rule files as the files are.

    The namespace of a file is its absolute path, and all namespaces that are absolute paths belong
    to the watch: that of a file that is gone is deleted. As in Prometheus, one bad file keeps all
    of them as they were; `faults` says why until every file is good again.
    """

    def __init__(
        self, groups: RuleGroups, tenant: str, patterns: Sequence[str], stats: AlertingStats
    ) -> None:
        """`patterns` are those of Python's `glob`; relative ones begin at the working folder."""
        self._groups = groups
        self._tenant = tenant
        self._patterns = patterns
        self._stats = stats
        self._loaded: _Signature | None = None
        self.faults: tuple[str, ...] = ()

    async def refresh(self) -> None:
        """Load the files if any of them has changed. Raises StorageUnavailableError."""
        if not self._patterns:
            return
        found = await asyncio.to_thread(self._signature)
        if found == self._loaded:
            return
        try:
            files = await asyncio.to_thread(read_rule_files, [name for name, _, _ in found])
            await self._store(files)
        except BadDataError as exc:
            faults = exc.faults if isinstance(exc, RuleFileError) else (str(exc),)
            self._refuse(faults)
        else:
            self._stats.rule_file_loads += 1
            self.faults = ()
            _LOGGER.info("rule files loaded", extra={"files": len(files)})
        self._loaded = found

    def _refuse(self, faults: Sequence[str]) -> None:
        self._stats.rule_file_failures += 1
        self.faults = tuple(f"rule files not loaded, the previous rules go on: {f}" for f in faults)
        for fault in faults:
            _LOGGER.error("rule files not loaded", extra={"reason": fault})

    def _signature(self) -> _Signature:
        found = []
        for name in names_of(self._patterns):
            try:
                state = Path(name).stat()
            except OSError:
                continue
            found.append((name, state.st_mtime_ns, state.st_size))
        return tuple(found)

    async def _store(self, files: Mapping[str, Sequence[GroupDocument]]) -> None:
        for name, groups in files.items():
            await self._groups.store_namespace(self._tenant, name, groups)
        for namespace in await self._groups.groups(self._tenant):
            if namespace.startswith("/") and namespace not in files:
                await self._groups.delete(self._tenant, namespace)


def names_of(patterns: Iterable[str]) -> Sequence[str]:
    """The absolute paths of the files that patterns find."""
    return sorted({str(Path(name).absolute()) for text in patterns for name in glob(text)})


def read_rule_files(names: Iterable[str]) -> Mapping[str, Sequence[GroupDocument]]:
    """The groups of each file. Raises RuleFileError with the faults of all files."""
    files: dict[str, Sequence[GroupDocument]] = {}
    faults: list[str] = []
    for name in names:
        try:
            files[name] = parse_rule_file(Path(name).read_text(encoding="utf-8"))
        except RuleFileError as exc:
            faults += [f"{name}: {fault}" for fault in exc.faults]
        except (OSError, UnicodeDecodeError) as exc:
            faults.append(f"{name}: {reading_fault(exc)}")
    if faults:
        raise RuleFileError(faults)
    return files
