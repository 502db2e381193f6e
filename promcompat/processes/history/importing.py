"""`promcompat import`: the history of another system into a running service.

Windows of time are read one after another, sent on, and at the end compared with what the service
then has. The checkpoint file says how far the work is, so that the same command goes on there; a
window that is sent twice is stored once.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson
import uvloop

from promcompat.configuration.settings import TENANT_HEADER
from promcompat.core.texts.file_faults import reading_fault
from promcompat.core.texts.secrets import public_url
from promcompat.core.texts.times import format_time_ms
from promcompat.outgoing.client import system_context
from promcompat.processes.command_line import DEFAULT_URL
from promcompat.processes.history.blocks import opened_blocks, times_of_blocks
from promcompat.processes.history.promscale import promscale_source
from promcompat.processes.history.sent_series import SentSeries
from promcompat.processes.history.sources import (
    ExportSource,
    HistoryImportError,
    RemoteReadSource,
    Server,
    Source,
    Tally,
    Window,
    WindowTooLargeError,
    tally_of_request,
)
from promcompat.processes.times import times_of_flags
from promql.parsing.parser import parse_metric_selector

_DAY_MS: Final = 86_400_000
_FIRST_WINDOW_MS: Final = 3_600_000
_LONGEST_WINDOW_MS: Final = 7 * _DAY_MS
_FEW_SAMPLES: Final = 250_000
_MANY_SAMPLES: Final = 2_000_000
_GROWTH: Final = 4
_REPORT_SECONDS: Final = 5.0
ItemT = TypeVar("ItemT")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=600)


@dataclass(slots=True)
class Checkpoint:
    """What is imported, whereto, up to which time (exclusive) it is done, and the tally of that."""

    source: str
    match: str
    start_ms: int
    end_ms: int
    position_ms: int
    to: str
    tenant: str
    number: int = 0
    checksum: int | None = 0

    @property
    def work(self) -> tuple[str, str, int, str, str]:
        """What tells one import from another."""
        return self.source, self.match, self.start_ms, self.to, self.tenant

    @property
    def tally(self) -> Tally:
        """What was sent until the position."""
        return Tally(self.number, self.checksum)

    def save(self, file: Path | None) -> None:
        """Replace the file, if there is to be one. Raises HistoryImportError."""
        if file is None:
            return
        unfinished = file.with_name(f"{file.name}.unfinished")
        try:
            with unfinished.open("wb") as opened:
                opened.write(orjson.dumps(asdict(self)))
                opened.flush()
                # Otherwise a machine that crashes may leave an empty file of the new name.
                os.fsync(opened.fileno())
            unfinished.replace(file)
        except OSError as exc:
            raise HistoryImportError(
                f"the checkpoint {file} cannot be written: {exc.strerror}"
            ) from exc


def run_import(options: argparse.Namespace) -> int:
    """Run the command; 1 if the service does not have what was sent. Raises PromcompatError."""
    check_addresses(options)
    return uvloop.run(_import(options))


def check_addresses(options: argparse.Namespace) -> None:
    """Raises HistoryImportError, which does not tell an address: it may have a password."""
    addresses = {"--to": options.to}
    if options.kind in ("prometheus", "victoriametrics"):
        addresses["URL"] = options.source
    for name, address in addresses.items():
        try:
            parts = urlsplit(address)
            is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable:
            raise HistoryImportError(f"{name} must be an address such as {DEFAULT_URL}")


async def _import(options: argparse.Namespace) -> int:
    file = Path(options.checkpoint) if options.checkpoint else None
    checkpoint = load_checkpoint(options, file)
    sent = SentSeries(file, is_resumed=checkpoint.number > 0)
    async with _servers(options) as (source, service):
        warning = past_retention(await service.retention_days(), checkpoint.start_ms)
        if warning:
            sys.stderr.write(f"{warning}\n")
        await _copy(source, service, checkpoint, sent, file)
        if service.conflicts:
            sys.stderr.write(
                f"{len(service.conflicts):,} requests had samples that the service has with "
                f"another value, which it keeps; the first answer: {service.conflicts[0]}\n"
            )
        if options.no_check:
            return 0
        reader = RemoteReadSource(service, parse_metric_selector(options.match))
        # An earlier run may have sent more than this one was asked for.
        times = checkpoint.start_ms, max(checkpoint.end_ms, checkpoint.position_ms - 1)
        stored = await _tally_of(reader, *times, sent if sent.are_complete else None)
    agrees = checkpoint.tally.agrees_with(stored)
    if warning and not agrees:
        sys.stderr.write(f"{warning}\n")
    sys.stderr.write(
        f"{checkpoint.number:,} samples were sent; "
        f"{'of their series ' if sent.are_complete else ''}the service has "
        f"{stored.number:,}{_comparison(checkpoint.tally, stored)}\n"
    )
    return 0 if agrees else 1


def _comparison(sent: Tally, stored: Tally) -> str:
    if sent.number != stored.number:
        return ": DIFFERENT"
    if not sent.agrees_with(stored):
        return ", with other times or values: DIFFERENT"
    if sent.checksum is None:
        return ": they agree (values are not compared: an earlier version has begun this import)"
    return ", with the same times and values: they agree"


def past_retention(retention_days: int, start_ms: int) -> str:
    """What to say of an import that begins before what a service keeps (0: forever); else `""`."""
    kept_from_ms = int(time.time() * 1000) - retention_days * _DAY_MS
    if not retention_days or start_ms >= kept_from_ms:
        return ""
    return (
        f"the service keeps samples for {retention_days:,} days: it does not show those before "
        f"{format_time_ms(kept_from_ms)}, and drops them within the hour, unless the definition of "
        "their metric says otherwise. To keep them, set a longer retention first "
        "(PROMCOMPAT_RETENTION_DAYS, or promcompat tenant set-retention)"
    )


@asynccontextmanager
async def _servers(options: argparse.Namespace) -> AsyncIterator[tuple[Source, Server]]:
    matchers = parse_metric_selector(options.match)
    connector = aiohttp.TCPConnector(ssl=system_context())
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        service = Server(
            session,
            options.to.rstrip("/"),
            {TENANT_HEADER: options.tenant} if options.tenant else {},
        )
        server = Server(session, options.source.rstrip("/"))
        if options.kind == "tsdb":
            with opened_blocks(Path(options.source), matchers) as blocks:
                yield blocks, service
        elif options.kind == "promscale":
            async with promscale_source(options.source, matchers) as promscale:
                yield promscale, service
        elif options.kind == "prometheus":
            yield RemoteReadSource(server, matchers), service
        else:
            yield ExportSource(server, options.match), service


def load_checkpoint(options: argparse.Namespace, file: Path | None) -> Checkpoint:
    """The checkpoint of the file if there is one, which must be of the same work."""
    start_ms, end_ms = _times(options)
    # A file that stays must not tell a password.
    source = options.source if options.kind == "tsdb" else public_url(options.source)
    to = public_url(options.to.rstrip("/"))
    wanted = Checkpoint(source, options.match, start_ms, end_ms, start_ms, to, options.tenant)
    if file is None or not file.exists():
        return wanted
    try:
        saved = orjson.loads(file.read_bytes())
        # Earlier versions counted what they could not copy, and did not note where it went. They
        # added values up, of which no checksum can be made.
        saved.pop("n_histograms", None)
        missing = {"to": to, "tenant": options.tenant}
        if saved.pop("total", None) is not None:
            missing["checksum"] = None
        found = Checkpoint(**missing | saved)
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise HistoryImportError(
            f"the checkpoint {file} cannot be read: {reading_fault(exc)}"
        ) from exc
    if found.work != wanted.work:
        tenant = f", tenant {found.tenant}" if found.tenant else ""
        raise HistoryImportError(
            f"the checkpoint {file} is of another import ({found.source}, {found.match}, from "
            f"{format_time_ms(found.start_ms)} on, to {found.to}{tenant}); name another file, or "
            "remove it"
        )
    if options.end:
        found.end_ms = end_ms
    return found


def _times(options: argparse.Namespace) -> tuple[int, int]:
    """First and last time; those of the blocks of a folder, if none are given."""
    first_ms, last_ms = 0, int(time.time() * 1000)
    if options.kind == "tsdb":
        first_ms, last_ms = times_of_blocks(Path(options.source))
    elif not options.start:
        raise HistoryImportError("--start is missing: the first time to import")
    return times_of_flags(options.start, options.end, first_ms, last_ms)


async def _copy(
    source: Source, service: Server, checkpoint: Checkpoint, sent: SentSeries, file: Path | None
) -> None:
    """Send window after window from the position of the checkpoint on."""
    progress = _Progress(checkpoint.number)
    windows = _windows(source, checkpoint.position_ms, checkpoint.end_ms)
    async with aclosing(_one_ahead(windows)) as coming:
        async for last_ms, window in coming:
            await asyncio.to_thread(sent.add, source.keys_of(window))
            await source.send(window, service)
            tally = checkpoint.tally.plus(window.tally)
            checkpoint.number, checkpoint.checksum = tally.number, tally.checksum
            checkpoint.position_ms = last_ms + 1
            checkpoint.save(file)
            progress.show(checkpoint)
    progress.show(checkpoint, is_last=True)


async def _tally_of(
    service: RemoteReadSource, start_ms: int, end_ms: int, sent: SentSeries | None
) -> Tally:
    """What the service has of the series that were sent, or of all."""
    tally = Tally()
    async for _, window in _windows(service, start_ms, end_ms):
        found = window.tally
        if sent is not None:
            found = await asyncio.to_thread(_tally_of_these, window, sent)
        tally = tally.plus(found)
    return tally


def _tally_of_these(window: Window, sent: SentSeries) -> Tally:
    body = sent.only_these(window.body)
    return window.tally if body is window.body else tally_of_request(body)


async def _windows(
    source: Source, start_ms: int, end_ms: int
) -> AsyncGenerator[tuple[int, Window], None]:
    """The windows of a time, each with its last millisecond; as long as there is not too much."""
    size_ms = _FIRST_WINDOW_MS
    while start_ms <= end_ms:
        last_ms = min(start_ms + size_ms - 1, end_ms)
        try:
            window = await source.read(start_ms, last_ms)
        except WindowTooLargeError:
            size_ms = _smaller(size_ms)
            continue
        yield last_ms, window
        start_ms, size_ms = last_ms + 1, next_size(size_ms, window.tally.number)


async def _one_ahead(items: AsyncGenerator[ItemT, None]) -> AsyncGenerator[ItemT, None]:
    """The items; the next one is made while one is used."""
    coming = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await coming) is not None:
            coming = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await items.aclose()


def _smaller(size_ms: int) -> int:
    if size_ms == 1:
        raise HistoryImportError(
            "the source returns too many samples of one millisecond; choose fewer series"
        )
    return max(size_ms // _GROWTH, 1)


def next_size(size_ms: int, n_samples: int) -> int:
    """How long the next window is, after one of this size had so many samples."""
    if n_samples > _MANY_SAMPLES:
        return max(size_ms // _GROWTH, 1)
    return min(size_ms * _GROWTH, _LONGEST_WINDOW_MS) if n_samples < _FEW_SAMPLES else size_ms


class _Progress:
    """Shows every few seconds how far the work is, and how fast."""

    def __init__(self, n_before: int) -> None:
        self._n_before = n_before
        self._started = self._shown_at = time.monotonic()

    def show(self, checkpoint: Checkpoint, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if not is_last and now - self._shown_at < _REPORT_SECONDS:
            return
        self._shown_at = now
        span = max(checkpoint.end_ms - checkpoint.start_ms, 1)
        done = min((checkpoint.position_ms - checkpoint.start_ms) / span, 1.0)
        rate = (checkpoint.number - self._n_before) / max(now - self._started, 1e-3)
        counted = f"{checkpoint.number:,} samples imported, {done:.0%} of the time"
        sys.stderr.write(f"{counted}, {rate:,.0f} samples/s\n")
