"""The targets of one job: what discovery finds is scraped, each target by a loop of its own."""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from promcompat.core.model import Labels
from promcompat.core.offloading import offload
from promcompat.scraping.configuration import JobConfig
from promcompat.scraping.discovery import Discovery, discoveries_of
from promcompat.scraping.fetching import HttpFetcher
from promcompat.scraping.target_loop import LoopSurroundings, TargetLoop
from promcompat.scraping.targets import DiscoveredTargets, Target, targets_of

_LOGGER = logging.getLogger(__name__)
_SYNC_SECONDS: Final = 0.5
"""Changes of discovery that come together are taken together."""
_RETRY_SECONDS: Final = 5.0


class ScrapePool:
    """A job that runs until `stop` or `end`."""

    def __init__(
        self, job: JobConfig, around: LoopSurroundings, earlier: "ScrapePool | None" = None
    ) -> None:
        """`earlier` is the pool of the job as it was configured before, which ends."""
        self.job = job
        self.dropped: list[Labels] = []
        self.n_dropped = 0
        self.extra_labels = around.extra_labels
        self._around = around
        self._fetcher = HttpFetcher(job.http, job.timeout_ms / 1000, around.policy)
        self._loops: dict[tuple[object, ...], TargetLoop] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        failed = around.metrics.discovery_failures.inc
        known = () if earlier is None else earlier._discoveries
        self._discoveries: list[Discovery] = discoveries_of(job, failed, around.policy, known)
        # Static targets are there at once, and those that the earlier pool discovered soon.
        self._adopt(targets_of(job, job.static))
        if any(discovery.groups for discovery in self._discoveries):
            self._changed.set()
        works = [discovery.run(self._changed.set) for discovery in self._discoveries]
        self._tasks = [asyncio.create_task(work) for work in (*works, self._follow())]

    @property
    def loops(self) -> Collection[TargetLoop]:
        """The loops of the targets there are now; a copy, which other threads may read."""
        return list(self._loops.values())

    async def stop(self) -> None:
        """Stop at once: a service that starts again goes on where this one was."""
        await self._stop_tasks([*self._tasks, *self._ending])
        await asyncio.gather(*(loop.stop() for loop in self._loops.values()))
        await self._fetcher.close()

    async def end(self) -> None:
        """Stop for good: series of targets that no other pool has get stale markers."""
        await self._stop_tasks(self._tasks)
        for loop in self._loops.values():
            self._end_later(loop)
        self._loops.clear()
        try:
            await asyncio.gather(*self._ending, return_exceptions=True)
        finally:
            await self._fetcher.close()

    async def _stop_tasks(self, tasks: Collection["asyncio.Task[None]"]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            pause = _SYNC_SECONDS
            try:
                await self._sync()
            except Exception:
                # The boundary of a job: what fails now must not prevent later attempts.
                _LOGGER.exception("targets not updated", extra={"job": self.job.name})
                self._changed.set()
                pause = _RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _sync(self) -> None:
        """Scrape what is static or discovered now. To relabel a target takes 0.1 to 0.5 ms."""
        groups = [*self.job.static, *(g for found in self._discoveries for g in found.groups)]
        n_targets = sum(len(group.targets) for group in groups)
        self._adopt(await offload(n_targets, targets_of, self.job, groups))

    def _adopt(self, found: DiscoveredTargets) -> None:
        """Begin and end loops so that they are those of the targets."""
        for fault in found.faults:
            _LOGGER.error("target not used", extra={"job": self.job.name, "reason": fault})
        limit = self.job.kept_dropped_targets
        self.dropped = found.dropped[:limit] if limit else found.dropped
        self.n_dropped = len(found.dropped)
        wanted = {target.identity: target for target in found.active}
        for identity in self._loops.keys() - wanted.keys():
            self._end_later(self._loops.pop(identity))
        for identity, target in wanted.items():
            self._keep(identity, target)
        self._check_target_limit()

    def _keep(self, identity: tuple[object, ...], target: Target) -> None:
        loop = self._loops.get(identity)
        if loop is None:
            self._loops[identity] = TargetLoop(target, self._fetcher, self._around)
        else:
            loop.target = target

    def _check_target_limit(self) -> None:
        limit, n_targets, error = self.job.target_limit, len(self._loops), ""
        if 0 < limit < n_targets:
            error = f"target_limit exceeded (number of targets: {n_targets}, limit: {limit})"
        for loop in self._loops.values():
            loop.forced_error = error

    def _end_later(self, loop: TargetLoop) -> None:
        task = asyncio.create_task(loop.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
