"""What the scraper tells about its targets, as the documents that answers are made of.

One process scrapes, and every process answers: the documents are published in the database.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson

from promcompat.core.model import MetricMetadata
from promcompat.core.texts.durations import format_duration_ms
from promcompat.core.texts.times import format_time_ms
from promcompat.scraping.pool import ScrapePool
from promcompat.scraping.target_loop import TargetLoop

_NEVER: Final = "0001-01-01T00:00:00Z"
_LOCAL_HOSTS: Final = frozenset(["127.0.0.1", "localhost", "::1"])
_FASTEST: Final = 1


@dataclass(frozen=True, slots=True)
class TargetsDocument:
    """The targets by the words of the HTTP API; pools and targets are in the order of answers."""

    active: Sequence[dict[str, Any]] = ()
    dropped: Sequence[dict[str, Any]] = ()
    dropped_counts: dict[str, int] = field(default_factory=dict)
    pools: Sequence[str] = ()

    def encode(self) -> bytes:
        """The document, compressed."""
        return _pack([list(self.active), list(self.dropped), self.dropped_counts, self.pools])

    @classmethod
    def decode(cls, packed: bytes) -> "TargetsDocument":
        """The document of what `encode` returned."""
        return cls(*orjson.loads(zlib.decompress(packed)))


@dataclass(frozen=True, slots=True)
class MetadataDocument:
    """What targets say about metrics. `targets` has labels and indexes into `families`.

    Most targets describe the same families, which are kept once.
    """

    families: Sequence[tuple[str, str, str, str]] = ()
    targets: Sequence[tuple[dict[str, str], Sequence[int]]] = ()

    def encode(self) -> bytes:
        """The document, compressed."""
        return _pack([self.families, self.targets])

    @classmethod
    def decode(cls, packed: bytes) -> "MetadataDocument":
        """The document of what `encode` returned."""
        return cls(*orjson.loads(zlib.decompress(packed)))


def _pack(document: object) -> bytes:
    return zlib.compress(orjson.dumps(document), _FASTEST)


def targets_document(pools: Mapping[str, ScrapePool], external_url: str) -> TargetsDocument:
    """The targets of pools; `external_url` is where people reach this service.

    May run in a thread while the pools work, if the mapping does not change.
    """
    names = sorted(pools)
    return TargetsDocument(
        active=[
            _active(loop, name, external_url)
            for name in names
            for loop in sorted(pools[name].loops, key=lambda loop: loop.target.url)
        ],
        dropped=[
            {"discoveredLabels": labels.as_dict(), "scrapePool": name}
            for name in names
            for labels in pools[name].dropped
        ],
        dropped_counts={name: pools[name].n_dropped for name in names},
        pools=names,
    )


def _active(loop: TargetLoop, pool: str, external_url: str) -> dict[str, Any]:
    target, last = loop.target, loop.last
    return {
        "discoveredLabels": target.discovered.as_dict(),
        "labels": target.labels.as_dict(),
        "scrapePool": pool,
        "scrapeUrl": target.url,
        "globalUrl": global_url(target.url, external_url),
        "lastError": last.error,
        "lastScrape": _NEVER if last.at_ms is None else format_time_ms(last.at_ms),
        "lastScrapeDuration": last.seconds,
        "health": last.health,
        "scrapeInterval": format_duration_ms(target.interval_ms),
        "scrapeTimeout": format_duration_ms(target.timeout_ms),
    }


def global_url(url: str, external_url: str) -> str:
    """The URL of a target as others reach it: this machine's own addresses get its name."""
    outside = urlsplit(external_url)
    try:
        parts = urlsplit(url)
        hostname, own_port = parts.hostname, parts.port
    except ValueError:
        # Discovery may find anything, which then cannot be scraped.
        return url
    if hostname not in _LOCAL_HOSTS or not outside.hostname:
        return url
    if own_port == outside.port:
        return urlunsplit(parts._replace(scheme=outside.scheme, netloc=outside.netloc))
    host = f"[{outside.hostname}]" if ":" in outside.hostname else outside.hostname
    port = "" if own_port is None else f":{own_port}"
    return urlunsplit(parts._replace(netloc=f"{host}{port}"))


def metadata_state(pools: Mapping[str, ScrapePool]) -> list[tuple[TargetLoop, int]]:
    """What differs when `metadata_document` returns something else."""
    return [
        (loop, loop.series.metadata_changes) for name in sorted(pools) for loop in pools[name].loops
    ]


def metadata_document(pools: Mapping[str, ScrapePool]) -> MetadataDocument:
    """What the targets of pools say about their metrics; may run in a thread, as the targets'."""
    numbers: dict[MetricMetadata, int] = {}
    targets = [
        (
            loop.target.labels.as_dict(),
            # A copy, since a scrape may add families in another thread meanwhile.
            [numbers.setdefault(m, len(numbers)) for m in list(loop.series.metadata.values())],
        )
        for name in sorted(pools)
        for loop in pools[name].loops
    ]
    families = [(entry.family, entry.type, entry.help, entry.unit) for entry in numbers]
    return MetadataDocument(families, targets)
