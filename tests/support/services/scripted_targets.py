"""A server of expositions that change from scrape to scrape, the same way for every scraper."""

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


ELSEWHERE = "elsewhere"
"""The script that redirects lead to, which no scraper asks for by itself."""


@dataclass(frozen=True, slots=True)
class Step:
    """One answer. `seconds`: it comes so late; `location`: it leads elsewhere."""

    body: str | bytes = ""
    content_type: str = TEXT
    status: int = 200
    seconds: float = 0.0
    location: str = ""
    is_gzip: bool = False


@dataclass(slots=True)
class ScriptedTargets:
    """Answers `/NAME` by the steps of its script; after the last one with 503.

    Every scraper, told apart by its User-Agent, goes through the scripts from the beginning.
    """

    scripts: Mapping[str, Sequence[Step]]
    address: str = ""
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    headers: dict[str, Mapping[str, str]] = field(default_factory=dict)
    accepted: dict[tuple[str, str], str] = field(default_factory=dict)
    """The header `Accept` by scraper and script."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        scraper = request.headers["User-Agent"].partition("/")[0]
        self.headers[scraper] = dict(request.headers)
        self.accepted[scraper, name] = request.headers["Accept"]
        number = self.asked[scraper, name]
        self.asked[scraper, name] += 1
        if number >= len(self.scripts[name]):
            return web.Response(status=503)
        step = self.scripts[name][number]
        await asyncio.sleep(step.seconds)
        if step.location:
            return web.Response(status=302, headers={"Location": step.location})
        headers = {"Content-Type": step.content_type} if step.content_type else {}
        body = step.body.encode() if isinstance(step.body, str) else step.body
        if step.is_gzip:
            headers["Content-Encoding"], body = "gzip", gzip.compress(body)
        return web.Response(status=step.status, body=body, headers=headers)

    def all_done(self, scraper: str) -> bool:
        """Whether a scraper has begun to ask for more than there is, everywhere."""
        return all(
            self.asked[scraper, name] > len(steps)
            for name, steps in self.scripts.items()
            if name != ELSEWHERE
        )


@asynccontextmanager
async def scripted_targets(scripts: Mapping[str, Sequence[Step]]) -> AsyncIterator[ScriptedTargets]:
    """Serve scripts as long as the block lasts."""
    targets = ScriptedTargets(scripts)
    app = web.Application()
    app.router.add_get("/{name}", targets.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    targets.address = f"{host}:{port}"
    try:
        yield targets
    finally:
        await runner.cleanup()
