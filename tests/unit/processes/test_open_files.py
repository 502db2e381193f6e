"""The standard files, and the limit of open files."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from promcompat.processes.open_files import OpenFilesError, allowed_connections, raise_open_files


@pytest.fixture
def soft_limit_of_256() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("soft_limit_of_256")
def test_connections_beyond_the_limit_are_fewer_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert allowed_connections(100) == 100
    assert not caplog.records
    assert allowed_connections(512) == 156
    assert getattr(caplog.records[0], "open_files_wanted", None) == 612


@pytest.mark.usefixtures("soft_limit_of_256")
def test_the_soft_limit_becomes_the_hard_one() -> None:
    raise_open_files(512)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard


def test_a_limit_too_low_to_serve_is_refused_with_what_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with pytest.raises(OpenFilesError, match=r"limit of 64 .* be 128 at least, and 612 for all"):
        raise_open_files(512)


def test_standard_files_that_are_closed_are_opened_without_content() -> None:
    program = (
        "import os, sys; from promcompat.processes.open_files import open_standard_files;"
        "open_standard_files(); sys.stdout.write('x'); sys.stderr.write('x');"
        "sys.exit(0 if all(os.path.sameopenfile(n, 0) for n in (1, 2)) else 1)"
    )
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(closed, check=False).returncode == 0


def test_a_command_whose_output_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: []")
    # Less than a buffer, which is written at the end, and much more than a pipe holds.
    for n_files in (1, 5_000):
        command = [sys.executable, "-m", "promcompat", "rules", "check", *[str(rules)] * n_files]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1
