"""Snapshots: backups of the whole database that a running service makes into its data folder."""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from promcompat.core.errors import NotSupportedError


class Dump(Protocol):
    """Writes a consistent copy of the database into a file."""

    def __call__(self, file: Path, *, skips_head: bool) -> None:
        """Write the file, which appears when it is complete.

        With `skips_head` without the samples that are not in runs or blocks yet. Raises
        NotSupportedError where no program can do it, and other PromcompatErrors.
        """


class SnapshotService:
    """Makes snapshots, one at a time."""

    def __init__(self, folder: Path, dump: Dump) -> None:
        """`folder` is made when it is first needed."""
        self._folder = folder
        self._dump = dump
        self._turn = asyncio.Lock()

    async def make(self, *, skips_head: bool) -> str:
        """Make a snapshot; returns its name, that of its file without `.dump`.

        Raises as `Dump` does.
        """
        async with self._turn:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}"
            await asyncio.to_thread(self._make, name, skips_head)
        return name

    def _make(self, name: str, skips_head: bool) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise NotSupportedError(
                f"snapshots are written to {self._folder}, which cannot be made: {exc.strerror}"
            ) from exc
        self._dump(self._folder / f"{name}.dump", skips_head=skips_head)
