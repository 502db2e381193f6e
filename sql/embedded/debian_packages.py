"""Debian packages of any suite, unpacked into a folder: no root, nothing on the host changes.

`apt-get` verifies the archive's signatures as always; it only gets its own sources, lists and
status file. The embedded database and the test components (Prometheus, vmagent …) are both
installed this way: a Debian mirror is the one source of prebuilt, signed server programs that every
machine with apt can be expected to reach.
"""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from promcompat.core.cache_folder import InstallError, Report

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_APT_FOLDER = Path("/etc/apt")
_PROGRESS_SECONDS = 3.0
_MIRROR_PATTERN = re.compile(r"https?://\S+/debian/?(?=\s|$)")


def unpack_packages(
    suite: str,
    packages: Sequence[str],
    into: Path,
    *,
    report: Report,
    dependencies: re.Pattern[str] | None = None,
) -> None:
    """Unpack `packages` of the Debian `suite` into the folder `into`.

    With `dependencies`, those packages that a full installation would add and whose whole name
    matches are unpacked too; without it only the named ones, which is right for static programs.

    Raises:
        InstallError: there is no apt, no Debian mirror or keyring, or the download failed.
    """
    mirror = _require_mirror()
    with TemporaryDirectory(prefix="promcompat-apt-") as workspace:
        apt = _PrivateApt(Path(workspace), suite, mirror)
        report(f"Reading the package lists of Debian {suite}")
        apt.run("update")
        names = list(packages)
        if dependencies is not None:
            names = [name for name in apt.resolve(packages) if dependencies.fullmatch(name)]
        n_bytes = apt.download_bytes(names)
        wanted = f"{_count(names)} of Debian {suite}, {_megabytes(n_bytes)} MB"
        report(f"Downloading {wanted}: {', '.join(packages)}")
        with reported_progress(apt.archives, n_bytes, report):
            archives = apt.download(names)
        report(f"Unpacking {_count(names)}")
        for archive in archives:
            run_tool(["dpkg", "-x", str(archive), str(into)])


def find_debian_mirror(apt_folder: Path = _APT_FOLDER) -> str | None:
    """Return the Debian mirror in apt's own sources, or None on other distributions."""
    found = [
        match.group()
        for path in _source_files(apt_folder)
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if not line.lstrip().startswith("#") and (match := _MIRROR_PATTERN.search(line))
    ]
    # Vendors keep archives of their own in deeper folders of that name (…/linux/debian).
    return min(found, key=lambda mirror: mirror.rstrip("/").count("/"), default=None)


def _source_files(apt_folder: Path) -> Iterator[Path]:
    # Cloud images keep the address in /etc/apt/mirrors, to which their sources only refer.
    yield from (path for path in [apt_folder / "sources.list"] if path.is_file())
    for name in ("sources.list.d", "mirrors"):
        yield from sorted(path for path in (apt_folder / name).glob("*") if path.is_file())


def _require_mirror() -> str:
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise InstallError(f"{program} is not installed")
    mirror = find_debian_mirror()
    if mirror is None:
        raise InstallError(f"the apt sources in {_APT_FOLDER} list no Debian mirror")
    if not DEBIAN_KEYRING.is_file():
        raise InstallError(f"{DEBIAN_KEYRING} is missing (package debian-archive-keyring)")
    return mirror


class _PrivateApt:
    """`apt-get` with its own state below `workspace`; it ignores what the host has installed."""

    def __init__(self, workspace: Path, suite: str, mirror: str) -> None:
        self.archives = workspace / "archives"
        for folder in ("lists/partial", "cache/archives/partial", "archives"):
            (workspace / folder).mkdir(parents=True)
        status = workspace / "status"
        status.touch()
        sources = workspace / "sources.list"
        sources.write_text(f"deb [signed-by={DEBIAN_KEYRING}] {mirror} {suite} main\n")
        settings = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": workspace,
            "Dir::State::status": status,
            "Dir::State::lists": workspace / "lists",
            "Dir::Cache": workspace / "cache",
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "",
            "APT::Install-Recommends": "0",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
        }
        self._options = [f"--option={key}={value}" for key, value in settings.items()]

    def run(self, *arguments: str) -> str:
        return run_tool(["apt-get", "-qq", *self._options, *arguments], folder=self.archives)

    def resolve(self, packages: Sequence[str]) -> list[str]:
        """Return what `apt-get install packages` would install on an empty system."""
        plan = self.run("--simulate", "install", *packages)
        return re.findall(r"^Inst (\S+)", plan, flags=re.MULTILINE)

    def download_bytes(self, names: Iterable[str]) -> int:
        """Return how many bytes `download` will fetch."""
        plan = self.run("--print-uris", "download", *names)
        return sum(map(int, re.findall(r"^'\S+' \S+ (\d+)", plan, flags=re.MULTILINE)))

    def download(self, names: Iterable[str]) -> list[Path]:
        self.run("download", *names)
        return sorted(self.archives.glob("*.deb"))


@contextmanager
def reported_progress(folder: Path, n_bytes: int, report: Report) -> Iterator[None]:
    """Report how much of `n_bytes` has arrived in a folder, while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_PROGRESS_SECONDS):
            with suppress(OSError):  # A file that apt renames just then.
                sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
                report(f"Downloaded {_megabytes(sum(sizes))} of {_megabytes(n_bytes)} MB")

    watcher = threading.Thread(target=watch, name="download-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def run_tool(command: Sequence[str], folder: Path | None = None) -> str:
    """Run an installation step and return what it printed; a failure is an `InstallError`."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode != 0:
        complaint = " / ".join(result.stderr.strip().splitlines()[-3:])
        raise InstallError(f"{command[0]} failed: {complaint or f'exit {result.returncode}'}")
    return result.stdout


def _megabytes(n_bytes: int) -> int:
    return max(1, round(n_bytes / 1e6))


def _count(names: Sequence[str]) -> str:
    return "1 package" if len(names) == 1 else f"{len(names)} packages"
