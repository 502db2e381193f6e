"""What the parent of workers does: it kills one that reports no longer, and keeps their metrics."""

import asyncio
import signal
from pathlib import Path

import pytest

from promcompat.processes.serving.metrics_folder import metrics_folder
from promcompat.processes.serving.supervise import _MOST_MISSED, _Keeper, _Pipes


async def test_a_worker_is_killed_once_it_has_missed_too_many_reports_in_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipes = _Pipes()
    keeper = _Keeper(3, [], {}, pipes, tmp_path)

    def miss(n_reports: int) -> None:
        for _ in range(n_reports):
            keeper.miss_report()

    miss(1)
    process = keeper.process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        # It has not reported yet: modules take long to import.
        miss(10 * _MOST_MISSED)
        keeper.reported(is_serving=False)
        miss(_MOST_MISSED)
        keeper.reported(is_serving=True)
        miss(_MOST_MISSED)
        assert caplog.records == []
        miss(1)
        assert await process.wait() == -signal.SIGKILL
        miss(10 * _MOST_MISSED)
        assert [record.__dict__["worker"] for record in caplog.records] == [3]
    finally:
        if process.returncode is None:
            process.kill()
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
