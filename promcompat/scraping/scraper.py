"""The scraper of a process: its configuration, the pools of the jobs, and what answers tell."""

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Final

from promcompat.core.errors import BadDataError
from promcompat.core.file_states import SETTLE_SECONDS, FileStates, folder_faults, states_of
from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.outgoing.policy import ANYWHERE, OutgoingPolicy
from promcompat.scraping.configuration import JobConfig, ScrapeConfig
from promcompat.scraping.delivery import Delivery
from promcompat.scraping.document import read_config_file
from promcompat.scraping.document_keys import OTHER_SECTIONS
from promcompat.scraping.pool import ScrapePool
from promcompat.scraping.target_loop import LoopSurroundings, TargetLoop
from promcompat.telemetry.scraping import ScrapeMetrics

_LOGGER = logging.getLogger(__name__)
_FLUSH_SECONDS: Final = 10.0
_KEYS_KEPT_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 60.0
"""How soon a configuration is read again after it could not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScraperOptions:
    """What is scraped: the jobs of a file, and `own_jobs` unless it has jobs of their names.

    `adds_external_labels`: series get the external labels of the file, as those that Prometheus
    sends on do. In a store of its own they do not have them.
    """

    config_file: Path | None = None
    own_jobs: Sequence[JobConfig] = ()
    adds_external_labels: bool = False
    policy: OutgoingPolicy = ANYWHERE


class Scraper:
    """Scrapes between `start` and `stop`, by the configuration that `refresh` read last."""

    def __init__(
        self,
        options: ScraperOptions,
        delivery: Delivery,
        metrics: ScrapeMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_running = False
        self.fault = ""
        self._options = options
        self._delivery = delivery
        self._metrics = metrics
        self._config = ScrapeConfig(jobs=options.own_jobs)
        self._patterns: Sequence[str] = ()
        self._loaded: FileStates = ()
        self._others: frozenset[str] = frozenset()
        """The files of `scrape_config_files` that the configuration was read from."""
        self._must_reload = False
        self._clock = clock
        self._again_at = 0.0
        self._pools: dict[str, ScrapePool] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._live_keys = LiveKeys(self._loops)

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to scrape, now or when the file changes."""
        return bool(self._options.own_jobs) or self._options.config_file is not None

    @property
    def pools(self) -> dict[str, ScrapePool]:
        """The running pools by the names of their jobs."""
        return self._pools

    def load(self) -> None:
        """Read the file. Raises BadDataError; then the configuration stays as it was.

        That is also so if the folder of another file, which it names, cannot be listed any more.
        """
        path = self._options.config_file
        if path is None:
            return
        config = self._read(path)
        others = frozenset(name for name, _ in self._loaded) - {str(path)}
        if faults := folder_faults(self._others - others, config.patterns, "jobs"):
            raise BadDataError("; ".join(faults))
        self._others = others
        names = {job.name for job in config.jobs}
        own = [job for job in self._options.own_jobs if job.name not in names]
        for section in config.ignored:
            fields = {"section": section, "instead": OTHER_SECTIONS[section]}
            _LOGGER.info("section of the scrape configuration ignored", extra=fields)
        self._config = ScrapeConfig(
            jobs=[*config.jobs, *own], external_labels=config.external_labels
        )
        self._metrics.reload_successful.set(1)

    def _read(self, path: Path) -> ScrapeConfig:
        """The configuration; `_loaded` is older, so that no change is missed."""
        while True:
            self._loaded = _states(path, self._patterns)
            config = read_config_file(path)
            if config.patterns == self._patterns:
                return config
            # Files of these patterns are not among them.
            self._patterns = config.patterns

    def reload(self) -> None:
        """Read the file again, although it may not have changed."""
        self._must_reload = True

    async def refresh(self) -> None:
        """Follow a change of the files; a configuration that cannot be used changes nothing.

        Files that go on changing are left for the next call.
        """
        path = self._options.config_file
        if path is None:
            return
        found = await asyncio.to_thread(_states, path, self._patterns)
        if found != self._loaded and not self._must_reload:
            await asyncio.sleep(SETTLE_SECONDS)
            if found != await asyncio.to_thread(_states, path, self._patterns):
                return
        is_changed = found != self._loaded or self._must_reload
        if not is_changed and (not self.fault or self._clock() < self._again_at):
            return
        self._must_reload = False
        try:
            await asyncio.to_thread(self.load)
        except BadDataError as exc:
            self._refuse(str(exc), is_changed=is_changed)
            return
        self.fault = ""
        _LOGGER.info("scrape configuration loaded", extra={"jobs": len(self._config.jobs)})
        if self.is_running:
            self._apply()

    def _refuse(self, reason: str, *, is_changed: bool) -> None:
        """Note why the configuration cannot be used, and tell it unless that is known."""
        fault = f"scrape configuration not loaded, the previous one goes on: {reason}"
        if is_changed or fault != self.fault:
            _LOGGER.error("scrape configuration not loaded", extra={"reason": reason})
        self.fault = fault
        self._metrics.reload_successful.set(0)
        self._again_at = self._clock() + _AGAIN_SECONDS

    def start(self) -> None:
        """Begin to scrape."""
        self.is_running = True
        self._apply()

    async def stop(self) -> None:
        """Stop at once, without stale markers."""
        self.is_running = False
        pools, self._pools = list(self._pools.values()), {}
        ending = list(self._ending)
        for task in ending:
            task.cancel()
        await asyncio.gather(*(pool.stop() for pool in pools))
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*ending, return_exceptions=True)
        self._metrics.targets.set(0)

    async def close(self) -> None:
        """Stop, and deliver what was scraped."""
        await self.stop()
        await self._delivery.close(_FLUSH_SECONDS)

    def count_targets(self) -> None:
        """Publish how many targets there are."""
        self._metrics.targets.set(sum(len(pool.loops) for pool in self._pools.values()))

    def _apply(self) -> None:
        """Make the pools those of the configuration; a pool whose job is as it was goes on."""
        around = self._surroundings()
        wanted = {job.name: job for job in self._config.jobs}
        ending: dict[str, ScrapePool] = {}
        for name, pool in list(self._pools.items()):
            if wanted.get(name) != pool.job or pool.extra_labels != around.extra_labels:
                ending[name] = self._pools.pop(name)
                self._end_later(ending[name])
        for name, job in wanted.items():
            if name not in self._pools:
                self._pools[name] = ScrapePool(job, around, ending.get(name))
        self.count_targets()

    def _surroundings(self) -> LoopSurroundings:
        external = self._config.external_labels
        return LoopSurroundings(
            deliver=self._delivery.put,
            metrics=self._metrics,
            policy=self._options.policy,
            live_keys=self._live_keys.get,
            extra_labels=external if self._options.adds_external_labels else EMPTY_LABELS,
            seed=_seed(external),
        )

    def _loops(self) -> list[TargetLoop]:
        return [loop for pool in self._pools.values() for loop in pool.loops]

    def _end_later(self, pool: ScrapePool) -> None:
        task = asyncio.create_task(pool.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _states(path: Path, patterns: Sequence[str]) -> FileStates:
    """The states of all files of the configuration."""
    return states_of([str(path), *sorted(name for pattern in patterns for name in glob(pattern))])


def _seed(external: Labels) -> int:
    """Scrapers with other names ask their targets at other moments."""
    text = f"{socket.gethostname()}{external}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class LiveKeys:
    """Collects the keys once for all targets that end within a second, in a thread.

    Many targets end together, and there may be millions of series.
    """

    def __init__(self, loops: Callable[[], Sequence[TargetLoop]]) -> None:
        """`loops` returns a list that does not change."""
        self._loops = loops
        self._collecting: asyncio.Task[set[bytes]] | None = None

    async def get(self) -> set[bytes]:
        """The keys as they were at most a second ago."""
        if self._collecting is None:
            self._collecting = asyncio.create_task(self._collect())
        return await asyncio.shield(self._collecting)

    async def _collect(self) -> set[bytes]:
        asyncio.get_running_loop().call_later(_KEYS_KEPT_SECONDS, self._forget)
        return await asyncio.to_thread(_keys_of, self._loops())

    def _forget(self) -> None:
        self._collecting = None


def _keys_of(loops: Sequence[TargetLoop]) -> set[bytes]:
    return {key for loop in loops for key in loop.series.tracked_keys}
