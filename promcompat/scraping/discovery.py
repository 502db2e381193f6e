"""Service discovery: target groups from the configuration, from files and over HTTP."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Any, Final, Protocol, Self

import orjson

from promcompat.core.errors import BadDataError
from promcompat.core.file_states import FileState, state_of
from promcompat.core.texts.file_faults import reading_fault
from promcompat.core.texts.secrets import Redactor, public_url, url_secrets
from promcompat.core.texts.strconv import format_decimal
from promcompat.core.texts.yaml_nodes import StrictReader, first_document
from promcompat.outgoing.policy import ANYWHERE, OutgoingPolicy
from promcompat.scraping.configuration import (
    META_URL,
    FileDiscovery,
    HttpDiscovery,
    JobConfig,
    TargetGroup,
)
from promcompat.scraping.document import read_group
from promcompat.scraping.document_keys import GROUP, explaining
from promcompat.scraping.fetching import FetchError, HttpFetcher
from promcompat.version import promcompat_version

_LOGGER = logging.getLogger(__name__)
_WATCH_SECONDS: Final = 1.0
"""How soon a changed file is read."""
_MAX_LIST_BYTES: Final = 64 << 20
_JSON: Final = re.compile(r'application/json(;\s*charset=("utf-8"|utf-8))?', re.IGNORECASE)

GroupsChanged = Callable[[], None]


class Discovery(Protocol):
    """Finds target groups until it is cancelled."""

    config: FileDiscovery | HttpDiscovery

    @property
    def groups(self) -> Sequence[TargetGroup]:
        """What was found last."""

    def take_over(self, earlier: Self) -> None:
        """Begin with what a discovery of the same configuration has found."""

    async def run(self, changed: GroupsChanged) -> None:
        """Look again and again, and call `changed` after a change; does not return."""


def discoveries_of(
    job: JobConfig,
    failed: Callable[[], None],
    policy: OutgoingPolicy = ANYWHERE,
    earlier: Iterable[Discovery] = (),
) -> list[Discovery]:
    """Every discovery of a job; `failed` counts attempts without a result.

    Those that are configured as an `earlier` one begin with what this one has found, as in
    Prometheus: a server of targets may be away while another part of the job changes.
    """
    files = [FileWatch(config, failed) for config in job.files]
    found = [*files, *(UrlWatch(config, failed, policy) for config in job.urls)]
    for one in found:
        for before in earlier:
            if before.config == one.config:
                one.take_over(before)
    return found


class FileWatch(Discovery):
    """Files with target groups. One that is broken keeps the groups it had."""

    def __init__(self, config: FileDiscovery, failed: Callable[[], None]) -> None:
        self.config = config
        self._failed = failed
        self._seen: dict[str, FileState] = {}
        self._groups: dict[str, Sequence[TargetGroup]] = {}

    @property
    def groups(self) -> Sequence[TargetGroup]:
        """See the port."""
        return [group for groups in self._groups.values() for group in groups]

    def take_over(self, earlier: Self) -> None:
        """See the port."""
        self._groups = earlier._groups

    async def run(self, changed: GroupsChanged) -> None:
        """See the port. Files are read when they change, and all of them every refresh interval."""
        read_all_at = 0.0
        while True:
            if time.monotonic() >= read_all_at:
                self._seen.clear()
                read_all_at = time.monotonic() + self.config.refresh_ms / 1000
            before = self._groups
            try:
                self._groups = await asyncio.to_thread(self._look)
            except Exception:
                # The boundary of a discovery: what fails must not prevent later attempts.
                self._failed()
                self._seen.clear()
                _LOGGER.exception("files with targets not read")
            if self._groups != before:
                changed()
            await asyncio.sleep(_WATCH_SECONDS)

    def _look(self) -> dict[str, Sequence[TargetGroup]]:
        """The groups of each file; others read those of before meanwhile."""
        found = {}
        for name in sorted({name for text in self.config.patterns for name in glob(text)}):
            groups = self._read(name) if self._has_changed(name) else None
            if groups is None:
                groups = self._groups.get(name)
            if groups is not None:
                found[name] = groups
        return found

    def _has_changed(self, name: str) -> bool:
        try:
            state = state_of(Path(name))
        except OSError:
            return False
        before, self._seen[name] = self._seen.get(name), state
        return before != state

    def _read(self, name: str) -> Sequence[TargetGroup] | None:
        """The groups of a file; None if it cannot be used."""
        try:
            return read_group_file(Path(name))
        except BadDataError as exc:
            self._failed()
            _LOGGER.error("file with targets not read", extra={"reason": str(exc)})
            return None


def read_group_file(path: Path) -> Sequence[TargetGroup]:
    """The groups of a YAML or JSON file. Raises BadDataError with the file and the place."""
    is_json = path.suffix.lower() == ".json"
    try:
        groups = _groups_of_json(path.read_bytes()) if is_json else _groups_of_yaml(path)
    except (OSError, UnicodeDecodeError, BadDataError) as exc:
        raise BadDataError(f"{path}: {reading_fault(exc)}") from exc
    return [
        replace(
            group,
            labels={**group.labels, "__meta_filepath": str(path)},
            source=f"{path}:{number}",
        )
        for number, group in enumerate(groups)
    ]


def _groups_of_yaml(path: Path) -> Sequence[TargetGroup]:
    reader = StrictReader()
    nodes = reader.items(first_document(path.read_text("utf-8")), "a list of target groups")
    groups = [read_group(reader, node) for node in nodes]
    reader.finish()
    return groups


class UrlWatch(Discovery):
    """A URL that answers with target groups; a failure keeps the groups of the last answer."""

    groups: Sequence[TargetGroup] = ()

    def __init__(
        self,
        config: HttpDiscovery,
        failed: Callable[[], None],
        policy: OutgoingPolicy = ANYWHERE,
    ) -> None:
        self.config = config
        self._policy = policy
        self._failed = failed
        self._redactor = Redactor(url_secrets(config.url))

    def take_over(self, earlier: Self) -> None:
        """See the port."""
        self.groups = earlier.groups

    async def run(self, changed: GroupsChanged) -> None:
        """See the port."""
        refresh_seconds = self.config.refresh_ms / 1000
        async with HttpFetcher(self.config.http, refresh_seconds, self._policy) as fetcher:
            while True:
                before = self.groups
                try:
                    self.groups = await self._ask(fetcher)
                except (FetchError, BadDataError) as exc:
                    self._tell_failure(str(exc))
                except Exception:
                    # The boundary of a discovery: what fails must not prevent later attempts.
                    self._failed()
                    shown = public_url(self.config.url)
                    _LOGGER.exception("list of targets not read", extra={"url": shown})
                if self.groups != before:
                    changed()
                await asyncio.sleep(refresh_seconds)

    def _tell_failure(self, reason: str) -> None:
        self._failed()
        shown = public_url(self.config.url)
        reason = self._redactor.hide(reason.replace(self.config.url, shown))
        _LOGGER.error("list of targets not read", extra={"url": shown, "reason": reason})

    async def _ask(self, fetcher: HttpFetcher) -> Sequence[TargetGroup]:
        url, seconds = self.config.url, self.config.refresh_ms / 1000
        headers = {
            "Accept": "application/json",
            "User-Agent": f"promcompat/{promcompat_version()}",
            "X-Prometheus-Refresh-Interval-Seconds": format_decimal(seconds),
        }
        answer = await fetcher.get(url, headers, _MAX_LIST_BYTES)
        if not _JSON.fullmatch(answer.content_type):
            raise BadDataError(
                f'unsupported content type "{answer.content_type}"; it must be application/json'
            )
        return await asyncio.to_thread(read_group_list, answer.body, url)


def read_group_list(body: bytes, url: str) -> Sequence[TargetGroup]:
    """The groups of a JSON list that a URL answers with. Raises BadDataError."""
    return [
        replace(group, labels={**group.labels, META_URL: url}, source=f"{public_url(url)}:{number}")
        for number, group in enumerate(_groups_of_json(body))
    ]


def _groups_of_json(body: bytes) -> Sequence[TargetGroup]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadDataError(f"no valid JSON: {exc}") from exc
    if not isinstance(found, list | None):
        raise BadDataError("no list of target groups")
    return [_group_of(item, number) for number, item in enumerate(found or ())]


def _group_of(item: Any, number: int) -> TargetGroup:
    if not isinstance(item, dict):
        raise BadDataError(f"item {number} is not an object with targets and labels")
    for name in item.keys() - GROUP:
        raise BadDataError(explaining(f"item {number}", GROUP)(name))
    targets, labels = item.get("targets") or [], item.get("labels") or {}
    if not isinstance(targets, list) or not all(isinstance(text, str) for text in targets):
        raise BadDataError(f"targets of item {number} is not a list of host:port")
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise BadDataError(f"labels of item {number} is not an object of texts")
    if "" in labels:
        raise BadDataError(f"item {number} has a label without a name")
    addresses = [{"__address__": address} for address in targets]
    return TargetGroup(addresses, labels)
