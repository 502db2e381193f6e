"""SIGHUP reads files again where there are any, and otherwise ends a process as usual."""

import asyncio
import signal
from pathlib import Path

import pytest

from promcompat.http.context import ServiceState
from promcompat.processes.serving.process import reload_on_hangup
from promcompat.processes.serving.supervise import _Keeper, _Pipes, pass_on_hangup
from tests.support.services.http_service import GivenSettings


@pytest.mark.parametrize("file", [None, Path("prometheus.yml")])
async def test_the_signal_is_handled_only_if_there_is_a_file_to_read(file: Path | None) -> None:
    settings, loop = GivenSettings(scrape_config=file), asyncio.get_running_loop()
    reload_on_hangup(settings, ServiceState())
    assert loop.remove_signal_handler(signal.SIGHUP) == (file is not None)
    pass_on_hangup(settings, [])
    assert loop.remove_signal_handler(signal.SIGHUP) == (file is not None)


async def test_a_worker_that_is_starting_gets_the_signal_when_it_serves(tmp_path: Path) -> None:
    pipes = _Pipes()
    keeper = _Keeper(0, [], {}, pipes, tmp_path)
    keeper.hang_up()
    keeper.process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        keeper.hang_up()
        # It would have ended the program by now, which starts after the signal would be sent.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(keeper.process.wait(), 0.2)
        keeper.reported(is_serving=True)
        assert await keeper.process.wait() == -signal.SIGHUP
    finally:
        if keeper.process.returncode is None:
            keeper.process.kill()
        pipes.close()
