"""What the parent of workers does: it kills one that reports no longer, and keeps their metrics."""

import asyncio
import logging
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from promcompat.processes.serving.metrics_folder import metrics_folder
from promcompat.processes.serving.supervise import (
    _MOST_MISSED,
    _Keeper,
    _kill_silent_workers,
    _Pipes,
)
from promcompat.processes.termination import Termination

_HANGING = """
import threading, time
from promcompat.processes.serving.stacks import write_stacks_on_signal

def wait_in_c():
    time.sleep(600)

def loop_without_end():
    print("hangs", flush=True)
    while True:
        pass

write_stacks_on_signal()
threading.Thread(target=wait_in_c, daemon=True).start()
loop_without_end()
"""


@pytest.fixture
async def worker() -> AsyncIterator[Process]:
    """A process that hangs as a worker does."""
    program = sys.executable, "-c", _HANGING
    process = await asyncio.create_subprocess_exec(*program, stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"hangs\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def test_a_worker_is_to_be_killed_once_it_has_missed_too_many_reports_in_a_row(
    tmp_path: Path, worker: Process
) -> None:
    keeper = _Keeper(3, [], {}, _Pipes(), tmp_path)

    def miss(n_reports: int) -> bool:
        return sum(keeper.misses_too_many() for _ in range(n_reports)) > 0

    assert not miss(1)
    keeper.process = worker
    # It has not reported yet: modules take long to import.
    assert not miss(10 * _MOST_MISSED)
    keeper.reported(is_serving=False)
    assert not miss(_MOST_MISSED)
    keeper.reported(is_serving=True)
    assert not miss(_MOST_MISSED)
    assert miss(1)
    keeper.pipes.close()


async def test_a_worker_writes_its_stacks_before_it_is_killed(
    tmp_path: Path, worker: Process, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, termination = _Keeper(3, [], {}, _Pipes(), tmp_path, worker), Termination()
    keeper.reported(is_serving=True)
    killing = asyncio.create_task(_kill_silent_workers([keeper], 0.01, termination))
    _, stacks = await worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    assert b"in loop_without_end" in stacks
    assert b"in wait_in_c" in stacks
    termination.ask("the test is over")
    await killing
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.__dict__["worker"] for record in errors] == [3]
    keeper.pipes.close()


async def test_a_worker_that_is_stopped_is_killed_without(tmp_path: Path, worker: Process) -> None:
    keeper, termination = _Keeper(3, [], {}, _Pipes(), tmp_path, worker), Termination()
    keeper.reported(is_serving=True)
    worker.send_signal(signal.SIGSTOP)
    killing = asyncio.create_task(_kill_silent_workers([keeper], 0.01, termination))
    assert await worker.communicate() == (b"", b"")
    assert worker.returncode == -signal.SIGKILL
    termination.ask("the test is over")
    await killing
    keeper.pipes.close()


@pytest.mark.parametrize(("n_failures", "exit_code"), [(2, 0), (100, 1)])
async def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_failures: int, exit_code: int
) -> None:
    """A moment without memory or processes ends no service, and many of them do."""
    termination, pipes, n_tries = Termination(), _Pipes(), 0
    program = tmp_path / "program"
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setattr("promcompat.processes.serving.supervise._RESTART_SECONDS", 0.01)
    spawn = _Keeper._spawn

    async def counted(self: _Keeper) -> Process:
        nonlocal n_tries
        n_tries += 1
        if n_tries > n_failures:
            program.write_text("#!/bin/sh\nkill -TERM $PPID\nexec sleep 60\n")
            program.chmod(0o700)
        return await spawn(self)

    monkeypatch.setattr(_Keeper, "_spawn", counted)
    keeper = _Keeper(3, [], {"PATH": "/usr/bin:/bin"}, pipes, tmp_path)
    await asyncio.wait_for(keeper.run(termination, stop_seconds=10), timeout=30)
    assert termination.exit_code == exit_code
    assert n_tries == min(n_failures + 1, 5)
    pipes.close()


def test_metrics_are_kept_in_memory_and_what_was_left_there_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    left = memory / "promcompat-metrics-killed"
    left.mkdir()
    (left / "lock").touch()
    with metrics_folder(memory) as first, metrics_folder(memory) as second:
        assert sorted(memory.iterdir()) == sorted([first, second]), "none of them is in use"
    assert [*memory.iterdir()] == []
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(disk))
    with metrics_folder(tmp_path / "none") as folder:
        assert folder.parent == disk
