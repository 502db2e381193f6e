"""SIGHUP reads files again where there are any, and otherwise ends a process as usual."""

import asyncio
import signal
from pathlib import Path

import pytest

from promcompat.http.context import ServiceState
from promcompat.processes.serving import reload_on_hangup
from promcompat.processes.supervise import pass_on_hangup
from tests.http_service import GivenSettings


@pytest.mark.parametrize("file", [None, Path("prometheus.yml")])
async def test_the_signal_is_handled_only_if_there_is_a_file_to_read(file: Path | None) -> None:
    settings, loop = GivenSettings(scrape_config=file), asyncio.get_running_loop()
    reload_on_hangup(settings, ServiceState())
    assert loop.remove_signal_handler(signal.SIGHUP) == (file is not None)
    pass_on_hangup(settings, [])
    assert loop.remove_signal_handler(signal.SIGHUP) == (file is not None)
