"""Rule files that are loaded whenever they change."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import glob, iglob
from pathlib import Path
from typing import Final, NamedTuple

from promcompat.alerting.rule_files.rule_document import (
    GroupDocument,
    RuleFileError,
    parse_rule_file,
)
from promcompat.alerting.rule_groups import RuleGroups
from promcompat.alerting.stats import AlertingStats
from promcompat.core.errors import BadDataError
from promcompat.core.file_states import SETTLE_SECONDS, FileStates, folder_faults, states_of
from promcompat.core.texts.file_faults import reading_fault

_LOGGER = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 60.0
"""How soon files are loaded again after they were refused."""


class RuleFileWatch:
    """Keeps the namespaces of rule files as the files are.

    The namespace of a file is its absolute path, and all namespaces that are absolute paths belong
    to the watch: that of a file that is gone is deleted, unless its folder cannot be listed, as
    when a file system is not mounted. All files are stored in one transaction. As in Prometheus,
    one bad file keeps all of them as they were; `faults` says why until every file is good again.
    Files that were refused are tried again each minute: a limit that they exceeded may be a higher
    one by then. A pattern that finds no file is no fault, as in Prometheus; `warnings_of` has it,
    too: it may be misspelt.
    """

    def __init__(
        self,
        groups: RuleGroups,
        tenant: str,
        patterns: Sequence[str],
        stats: AlertingStats,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`patterns` are those of Python's `glob`; relative ones begin at the working folder."""
        self._groups = groups
        self._tenant = tenant
        self._patterns = patterns
        self._stats = stats
        self._clock = clock
        self._loaded: _Found | None = None
        self._again_at = 0.0
        self._unused: tuple[str, ...] = ()
        self.faults: tuple[str, ...] = ()

    def warnings_of(self, tenant: str) -> tuple[str, ...]:
        """The faults, and the patterns that find no file; none of a tenant without these rules."""
        if tenant != self._tenant:
            return ()
        return (*self.faults, *(f"no rule file is found by {one}" for one in self._unused))

    async def refresh(self) -> None:
        """Load the files if any of them has changed. Raises StorageUnavailableError.

        Those that go on changing are left for the next call.
        """
        if not self._patterns:
            return
        found = await asyncio.to_thread(_find, self._patterns)
        self._tell_unused(await asyncio.to_thread(unused_patterns, self._patterns))
        is_changed = found != self._loaded
        if is_changed and self._loaded is not None and not await self._is_settled(found):
            return
        if not is_changed and (not self.faults or self._clock() < self._again_at):
            return
        try:
            files = await asyncio.to_thread(read_rule_files, found.names)
            await self._store(files)
        except BadDataError as exc:
            faults = exc.faults if isinstance(exc, RuleFileError) else (str(exc),)
            self._refuse(faults, is_changed=is_changed)
        else:
            self._stats.rule_file_loads += 1
            self.faults = ()
            _LOGGER.info("rule files loaded", extra={"files": len(files)})
        self._loaded = found

    async def _is_settled(self, found: "_Found") -> bool:
        """Whether the files stay as they were found."""
        await asyncio.sleep(SETTLE_SECONDS)
        return found == await asyncio.to_thread(_find, self._patterns)

    def _tell_unused(self, patterns: tuple[str, ...]) -> None:
        for pattern in set(patterns) - set(self._unused):
            _LOGGER.warning("a pattern finds no rule file", extra={"pattern": pattern})
        self._unused = patterns

    def _refuse(self, reasons: Sequence[str], *, is_changed: bool) -> None:
        """Note why files are refused, and tell it unless that is known."""
        faults = tuple(f"rule files not loaded, the previous rules go on: {r}" for r in reasons)
        if is_changed or faults != self.faults:
            self._stats.rule_file_failures += 1
            for reason in reasons:
                _LOGGER.error("rule files not loaded", extra={"reason": reason})
        self.faults = faults
        self._again_at = self._clock() + _AGAIN_SECONDS

    async def _store(self, files: Mapping[str, Sequence[GroupDocument]]) -> None:
        known = await self._groups.groups(self._tenant)
        gone = [name for name in known if name.startswith("/") and name not in files]
        if faults := await asyncio.to_thread(folder_faults, gone, self._patterns, "rules"):
            raise RuleFileError(faults)
        # Together, so that the rules of a renamed file are the same rules, and never missing.
        wanted = {**files, **dict.fromkeys(gone, ())}
        await self._groups.store_namespaces(self._tenant, wanted)


class _Found(NamedTuple):
    """The files that there are. One without a state cannot be read: its target may be missing."""

    names: Sequence[str]
    states: FileStates


def _find(patterns: Iterable[str]) -> _Found:
    names = names_of(patterns)
    return _Found(names, states_of(names))


def names_of(patterns: Iterable[str]) -> Sequence[str]:
    """The absolute paths of the files that patterns find."""
    return sorted({str(Path(name).absolute()) for text in patterns for name in glob(text)})


def unused_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Those that find no file."""
    return tuple(text for text in patterns if next(iglob(text), None) is None)


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
