"""Targets: the labels and addresses that discovery, a job and relabelling make of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode

from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.relabelling import relabel
from promcompat.core.texts.durations import format_duration_ms, parse_duration_ms
from promcompat.core.texts.secrets import public_url
from promcompat.scraping.configuration import META_URL, JobConfig, TargetGroup

_ADDRESS: Final = "__address__"
_PARAM: Final = "__param_"
_PATH_CHARACTERS: Final = "/:@$&+,;=~"
"""What Go does not escape in a path."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is scraped; `labels` are those of its series, `discovered` those before relabelling.

    `discovered` is shown to users, so the URL in it has neither password nor query.
    Two targets of a job with the same `identity` are the same target.
    """

    job: JobConfig
    discovered: Labels
    labels: Labels
    url: str
    interval_ms: int
    timeout_ms: int

    @property
    def identity(self) -> tuple[Labels, str, int, int]:
        """What tells the targets of a job apart."""
        return (self.labels, self.url, self.interval_ms, self.timeout_ms)

    def offset_seconds(self, now_seconds: float, seed: int) -> float:
        """The time until the first scrape: targets are spread over their interval by a hash.

        As in Prometheus, the hash is of what identifies the target, and the seed of what identifies
        the scraper, so that a target keeps its moments over restarts.
        """
        text = f"{self.labels}{self.url}".encode()
        digest = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") ^ seed
        interval = self.interval_ms / 1000
        return (digest % self.interval_ms / 1000 - now_seconds) % interval


@dataclass(slots=True)
class DiscoveredTargets:
    """The targets of a job; `faults` say which could not become targets and why."""

    active: list[Target] = field(default_factory=list)
    dropped: list[Labels] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def targets_of(job: JobConfig, groups: Sequence[TargetGroup]) -> DiscoveredTargets:
    """The targets that groups make, each once: as it was discovered last, as in Prometheus."""
    found, active = DiscoveredTargets(), {}
    for group in groups:
        for number, own in enumerate(group.targets):
            discovered = _discovered_labels(job, {**group.labels, **own})
            labels = relabel(discovered, job.relabel_rules)
            if labels is None:
                found.dropped.append(_without_secrets(discovered))
                continue
            try:
                target = _target(job, _without_secrets(discovered), labels)
            except ValueError as exc:
                found.faults.append(f"target {number} of group {group.source!r}: {exc}")
                continue
            active[target.identity] = target
    found.active = list(active.values())
    return found


def _discovered_labels(job: JobConfig, given: Mapping[str, str]) -> Labels:
    """The labels before relabelling: those of the job where discovery has none."""
    labels = {
        "job": job.name,
        "__scrape_interval__": format_duration_ms(job.interval_ms),
        "__scrape_timeout__": format_duration_ms(job.timeout_ms),
        "__metrics_path__": job.metrics_path,
        "__scheme__": job.scheme,
    }
    labels |= {f"{_PARAM}{name}": values[0] for name, values in job.params.items() if values}
    return Labels.of({**labels, **{name: value for name, value in given.items() if value}})


def _without_secrets(discovered: Labels) -> Labels:
    url = discovered.get(META_URL)
    return Labels.of({**discovered.as_dict(), META_URL: public_url(url)}) if url else discovered


def _target(job: JobConfig, discovered: Labels, labels: Labels) -> Target:
    """The target after relabelling. Raises ValueError when it cannot be scraped."""
    address = labels.get(_ADDRESS)
    if not address:
        raise ValueError("no address; relabelling must leave the label __address__")
    if "/" in address:
        raise ValueError(f"{address!r} is not a valid hostname; __address__ is host:port")
    interval_ms = _duration(labels, "__scrape_interval__", "interval")
    timeout_ms = _duration(labels, "__scrape_timeout__", "timeout")
    if timeout_ms > interval_ms:
        raise ValueError(
            "scrape timeout cannot be greater than scrape interval "
            f'("{labels.get("__scrape_timeout__")}" > "{labels.get("__scrape_interval__")}")'
        )
    kept = {name: value for name, value in labels if not name.startswith("__")}
    kept.setdefault("instance", address)
    url = _url(job, labels)
    return Target(job, discovered, Labels.of(kept), url, interval_ms, timeout_ms)


def _duration(labels: Labels, name: str, word: str) -> int:
    try:
        duration_ms = parse_duration_ms(labels.get(name))
    except ValueError as exc:
        raise ValueError(f"error parsing scrape {word}: {exc}") from exc
    if not duration_ms:
        raise ValueError(f"scrape {word} cannot be 0")
    return duration_ms


def _url(job: JobConfig, labels: Labels) -> str:
    params = {name: list(values) for name, values in job.params.items()}
    for name, value in labels:
        if name.startswith(_PARAM):
            rest = params.get(name[len(_PARAM) :], [])[1:]
            params[name[len(_PARAM) :]] = [value, *rest]
    query = urlencode(sorted(params.items()), doseq=True)
    path = quote(labels.get("__metrics_path__"), safe=_PATH_CHARACTERS)
    slash = "" if path.startswith("/") or not path else "/"
    base = f"{labels.get('__scheme__')}://{labels.get(_ADDRESS)}{slash}{path}"
    return f"{base}?{query}" if query else base


class LabelMerge:
    """How the labels of a target join those that it exposes."""

    def __init__(self, target: Target, extra: Labels) -> None:
        """`extra` are set on every series that does not have them."""
        self._target = target.labels.as_dict()
        self._honors = target.job.honor_labels
        self._rules = target.job.metric_relabel_rules
        self._extra = extra.as_dict()

    def of_sample(self, exposed: dict[str, str]) -> Labels | None:
        """The labels of a series; None when metric relabelling drops it.

        A label that is exposed with an empty value counts as exposed.
        """
        if self._honors:
            labels = {**self._target, **exposed}
        else:
            labels = {**self._target}
            clashing = sorted(exposed.keys() & labels.keys(), key=lambda name: (len(name), name))
            labels |= {name: exposed[name] for name in exposed.keys() - labels.keys()}
            # A target's own labels with an empty value have nothing to keep.
            for name in clashing:
                if exposed[name]:
                    labels[_free_name(name, labels, exposed)] = exposed[name]
        found = relabel(Labels.of(labels), self._rules)
        return None if found is None else self._with_extra(found)

    def of_report(self, name: str) -> Labels:
        """The labels of a series about the scrape."""
        return self._with_extra(Labels.of({**self._target, METRIC_NAME: name}))

    def _with_extra(self, labels: Labels) -> Labels:
        return Labels.of({**self._extra, **labels.as_dict()}) if self._extra else labels


def _free_name(name: str, taken: Mapping[str, str], exposed: Mapping[str, str]) -> str:
    while taken.get(name) or exposed.get(name):
        name = f"exported_{name}"
    return name
