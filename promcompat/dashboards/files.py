"""Files of dashboards: of promcompat or of Grafana, read alone or as a folder that is watched."""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from promcompat.core.errors import (
    BadDataError,
    ConflictError,
    PreconditionFailedError,
    PromcompatError,
    StorageUnavailableError,
)
from promcompat.core.file_states import FileStates, states_of
from promcompat.core.texts.file_faults import reading_fault
from promcompat.dashboards.dashboard_service import DashboardService
from promcompat.dashboards.grafana.importer import Imported, describe, import_grafana
from promcompat.dashboards.model import Dashboard, read_dashboard

_LOGGER = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 60.0
"""How soon files are loaded again while one has a fault."""


def read_document(document: object, inputs: Mapping[str, str] | None = None) -> Imported:
    """A dashboard of promcompat, as it is exported, or of Grafana. Raises BadDataError."""
    if not isinstance(document, dict) or "schema_version" not in document:
        return import_grafana(document, inputs)
    dashboard = read_dashboard({key: value for key, value in document.items() if key != "uid"})
    return Imported(dashboard=dashboard, uid=str(document.get("uid") or ""), findings=())


def read_file(path: Path, inputs: Mapping[str, str] | None = None) -> Imported:
    """The dashboard of a file. Raises BadDataError with the name of the file."""
    try:
        return read_document(orjson.loads(path.read_bytes()), inputs)
    except (OSError, orjson.JSONDecodeError, BadDataError) as exc:
        raise BadDataError(f"{path}: {reading_fault(exc)}") from exc


def uid_of(imported: Imported, path: Path) -> str:
    """The uid in the file, else its name without the ending, as far as uids may have it."""
    return _uid(imported.uid or path.stem)


def _uid(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:40].strip("-") or "dashboard"


class DashboardFolder:
    """Keeps dashboards as the files of a folder are, whenever one of them changes.

    Those of files that are gone are deleted, unless a folder in it cannot be listed. A file that
    cannot be loaded, as a link whose target is missing, leaves its dashboard as it was; `faults`
    says why. It is tried again each minute: what a limit or another dashboard prevents may be
    possible by then.
    """

    def __init__(
        self,
        dashboards: DashboardService,
        tenant: str,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dashboards = dashboards
        self._tenant = tenant
        self._folder = folder
        self._clock = clock
        self._loaded: _Found | None = None
        self._again_at = 0.0
        self.faults: tuple[str, ...] = ()

    @property
    def is_wanted(self) -> bool:
        """Whether there is a folder."""
        return self._folder is not None

    async def refresh(self) -> None:
        """Load the folder if anything in it has changed.

        Raises StorageUnavailableError, and BadDataError without the folder: one that is not mounted
        deletes nothing.
        """
        if self._folder is None:
            return
        found = await asyncio.to_thread(_find, self._folder)
        if found == self._loaded and (not self.faults or self._clock() < self._again_at):
            return
        faults = list(found.faults)
        uids: dict[str, str | None] = {}
        for name in found.names:
            try:
                uids[name] = await self._load(Path(name), uids)
            except StorageUnavailableError:
                raise
            except PromcompatError as exc:
                uids[name] = None
                faults.append(str(exc))
        if not found.faults:
            await self._dashboards.forget_files(self._tenant, uids)
        if found != self._loaded or tuple(faults) != self.faults:
            for fault in faults:
                _LOGGER.error("dashboard file not loaded", extra={"reason": fault})
            _LOGGER.info("dashboards loaded", extra={"files": len(uids), "faults": len(faults)})
        self.faults, self._loaded = tuple(faults), found
        self._again_at = self._clock() + _AGAIN_SECONDS

    async def _load(self, path: Path, before: Mapping[str, str | None]) -> str:
        imported = await asyncio.to_thread(read_file, path)
        uid = uid_of(imported, path)
        if other := next((name for name, known in before.items() if known == uid), None):
            raise BadDataError(f"{path}: the uid {uid!r} is also that of {other}; give it another")
        if await self._keep(uid, imported.dashboard, str(path)):
            for finding in imported.lost:
                fields = {"file": str(path), "what": describe(finding)}
                _LOGGER.warning("part of a dashboard is not supported", extra=fields)
        return uid

    async def _keep(self, uid: str, dashboard: Dashboard, source: str) -> bool:
        """Whether that changed anything."""
        try:
            return await self._dashboards.keep_as_file(self._tenant, uid, dashboard, source)
        except (ConflictError, PreconditionFailedError):
            # Another process may have loaded the same file at the same time.
            return await self._dashboards.keep_as_file(self._tenant, uid, dashboard, source)


class _Found(NamedTuple):
    """The files of a folder. One without a state cannot be read; `faults` are those of folders."""

    names: Sequence[str]
    states: FileStates
    faults: Sequence[str]


def _find(folder: Path) -> _Found:
    """Hidden folders are left out: those of a ConfigMap have every file a second time.

    Raises BadDataError without the folder.
    """
    if not folder.is_dir():
        raise BadDataError(f"there is no folder {folder}; its dashboards stay as they are")
    names: list[str] = []
    faults: list[str] = []

    def note(error: OSError) -> None:
        faults.append(f"{error.filename}: {reading_fault(error)}; dashboards of files stay")

    for place, folders, files in os.walk(folder.absolute(), onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found = (name for name in files if name.endswith(".json") and not name.startswith("."))
        names += [os.path.join(place, name) for name in found]
    names.sort()
    return _Found(names, states_of(names), faults)
