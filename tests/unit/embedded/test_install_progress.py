"""What people see while a checkout sets itself up: sizes and progress, and the log of a failure."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from sql.embedded import debian_packages
from tests.support.waiting import wait_for

SCRIPT = Path(__file__).parents[3] / ".ci" / "install_packages.py"
LOG = """\
Collecting numpy>=2.0
  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl.metadata (6.5 kB)
  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.4 MB)
     ━━━━━━━━━━━━ 16.4/16.4 MB 23.1 MB/s eta 0:00
  Using cached aiohttp-3.14.5-cp311-cp311-manylinux2014_x86_64.whl (1.9 MB)
Installing collected packages: numpy, aiohttp, promcompat
Successfully installed aiohttp-3.14.5 numpy-2.4.6
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("install_packages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sizes_are_shown_instead_of_the_log_of_pip(script: ModuleType) -> None:
    assert list(script.progress(iter(LOG.splitlines()))) == [
        "numpy 16 MB (16 MB so far)",
        "installing 3 packages (18 MB downloaded)",
    ]


def test_failure_shows_the_log_and_keeps_the_exit_code(tmp_path: Path) -> None:
    arguments = ["--no-index", "--no-build-isolation", "no-such-package-of-ours"]
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "log"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "no-such-package-of-ours" in run.stderr
    assert str(tmp_path / "log") in run.stderr


def test_download_tells_how_much_has_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_packages, "_PROGRESS_SECONDS", 0.01)
    lines: list[str] = []
    with debian_packages.reported_progress(tmp_path, 40_000_000, lines.append):
        (tmp_path / "a.deb").write_bytes(bytes(12_000_000))
        wait_for(lambda: lines and "12 of" in lines[-1])
    assert re.fullmatch(r"Downloaded 12 of 40 MB", lines[-1])
