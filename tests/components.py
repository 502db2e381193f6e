"""The real programs that tests run against, and what happens when one is missing."""

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from sql.embedded.debian_packages import unpack_packages
from sql.embedded.distributions import find_wheel, install_timescaledb
from sql.embedded.errors import InstallError
from sql.embedded.install_cache import default_cache_folder, install_once
from tests.community import find_community

_SUITE = "sid"
_SERVER_SUITE = "trixie"
_PACKAGES = ("prometheus", "promtool", "prometheus-node-exporter", "victoria-metrics")
_PROGRAMS = ("prometheus", "promtool", "prometheus-node-exporter", "vmagent", "victoria-metrics")

Component = TypeVar("Component")


def require_component(name: str, provide: Callable[[], Component]) -> Component:
    """Return what `provide` installs; where it cannot, skip loudly on a laptop and fail in CI."""
    try:
        return provide()
    except InstallError as error:
        message = f"{name} is not available on this machine: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@cache
def install_programs() -> Path:
    """Return the folder of Prometheus, promtool, node_exporter, vmagent and victoria-metrics.

    They are Debian's, from the suite that has the newest; statically linked, so they run anywhere.
    """

    def build(partial: Path) -> None:
        unpack_packages(_SUITE, _PACKAGES, partial, report=_report_line)

    def is_healthy(folder: Path) -> bool:
        return all((folder / "usr/bin" / name).is_file() for name in _PROGRAMS)

    # The suite moves on by itself; a new name here makes everybody fetch again.
    target = default_cache_folder() / f"test-programs-{_SUITE}-1"
    return install_once(target, build, is_healthy) / "usr/bin"


def find_program(name: str) -> Path:
    """Return the path of one test program, installing all of them on first use."""
    return install_programs() / name


@cache
def find_alertmanager() -> Path:
    """Return the path of Alertmanager, Debian's as well, installing it on first use.

    It is to be started in the folder above `usr`.
    """

    def build(partial: Path) -> None:
        unpack_packages(_SUITE, ("prometheus-alertmanager",), partial, report=_report_line)
        # Debian's reads its templates below /usr/share, where nothing is installed: a path of the
        # same length makes it look below the folder it is started in.
        program = partial / "usr/bin/prometheus-alertmanager"
        absolute, relative = b"/usr/share/prometheus/", b"usr/share//prometheus/"
        program.write_bytes(program.read_bytes().replace(absolute, relative))

    def is_healthy(folder: Path) -> bool:
        return (folder / "usr/bin/prometheus-alertmanager").is_file()

    target = default_cache_folder() / f"alertmanager-{_SUITE}-2"
    return install_once(target, build, is_healthy) / "usr/bin/prometheus-alertmanager"


def find_pgbouncer() -> tuple[str, ...]:
    """Return the command that runs PgBouncer."""
    return _install_dynamic("pgbouncer")


def find_nginx() -> tuple[str, ...]:
    """Return the command that runs nginx."""
    return _install_dynamic("nginx")


@cache
def _install_dynamic(name: str) -> tuple[str, ...]:
    """Return the command that runs one of Debian's servers on the libraries it was built with."""

    def build(partial: Path) -> None:
        unpack_packages(
            _SERVER_SUITE,
            (name,),
            partial,
            report=_report_line,
            dependencies=re.compile(rf"{name}|zlib1g|lib(?!systemd-shared|perl).*"),
        )

    def is_healthy(folder: Path) -> bool:
        return (folder / "usr/sbin" / name).is_file()

    target = default_cache_folder() / f"{name}-{_SERVER_SUITE}-1"
    folder = install_once(target, build, is_healthy)
    libraries = next(folder.glob("usr/lib/*/libc.so.6")).parent
    loader = next(libraries.glob("ld-linux-*.so.*"))
    return str(loader), "--library-path", str(libraries), str(folder / "usr/sbin" / name)


def install_all() -> None:
    """Install every component the tests need, with visible progress."""
    install_timescaledb(default_cache_folder(), _report_line)
    find_wheel(default_cache_folder())
    install_programs()
    find_alertmanager()
    find_pgbouncer()
    find_community()


def _report_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        install_all()
    except InstallError as problem:
        # Not fatal here: each test that needs the component skips, or fails in CI.
        _report_line(f"warning: a test component is missing: {problem}")
