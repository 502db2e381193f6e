"""Of several processes on one database one scrapes, and all of them tell the targets."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from promcompat.composition.network import ServiceAddress
from promcompat.composition.services import Backend, open_backend
from promcompat.configuration.settings import Settings
from promcompat.telemetry.telemetry import Telemetry
from tests.support.services.scripted_targets import Step, scripted_targets

pytestmark = pytest.mark.integration

CONFIG = """
scrape_configs:
  - job_name: {job}
    scrape_interval: 200ms
    static_configs: [{{targets: ["{address}"]}}]
    metrics_path: /a
"""


async def run_until(condition: Callable[[], bool], *backends: Backend) -> None:
    async with asyncio.timeout(60):
        while not condition():
            for backend in backends:
                await backend.services.scraping.run_once()
            await asyncio.sleep(0.05)


async def test_one_process_scrapes_and_another_goes_on(
    plain_database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "prometheus.yml"
    settings = Settings(database_url=plain_database_url, alerting=False, scrape_config=config)
    steps = [Step(f"# TYPE a gauge\na {number}") for number in range(1000)]
    async with scripted_targets({"a": steps}) as targets:
        config.write_text(CONFIG.format(job="j", address=targets.address))
        async with open_backend(
            settings, Telemetry(), ServiceAddress(external_url="http://here:1")
        ) as second:
            async with open_backend(
                settings, Telemetry(), ServiceAddress(external_url="http://here:1")
            ) as first:
                await run_until(lambda: targets.asked.total() > 1, first, second)
                assert await pools(first) == ["j"]
                await run_until(lambda: True, second)
                for _ in range(6):
                    await first.services.scraping.run_once()
                assert await pools(second) == ["j"]
                (of_first,) = (await first.services.scraping.targets()).active
                (of_second,) = (await second.services.scraping.targets()).active
                assert of_first["labels"] == of_second["labels"]
                metadata = await second.services.scraping.metadata()
                assert [family[:2] for family in metadata.families] == [["a", "gauge"]]
                n_asked = targets.asked.total()
            await run_until(lambda: targets.asked.total() > n_asked + 1, second)
            await check_reload(second, config, targets.address)


async def check_reload(backend: Backend, config: Path, address: str) -> None:
    """A changed file is followed; one that cannot be used is told, and changes nothing."""
    scraping = backend.services.scraping
    await asyncio.to_thread(config.write_text, "scrape_configs: [{job_nam: x}]")
    await scraping.run_once()
    assert "did you mean job_name?" in scraping.fault
    assert await pools(backend) == ["j"]
    changed = CONFIG.format(job="another", address=address)
    await asyncio.to_thread(config.write_text, changed)
    await scraping.run_once()
    assert (scraping.fault, await pools(backend)) == ("", ["another"])


async def pools(backend: Backend) -> list[str]:
    return list((await backend.services.scraping.targets()).pools)
