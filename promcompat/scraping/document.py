"""Reads a scrape configuration of Prometheus: `global`, `scrape_configs`, `scrape_config_files`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Final

import yaml

from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.core.relabelling import RelabelRule, read_relabel_rules
from promcompat.core.texts.file_faults import reading_fault
from promcompat.core.texts.secrets import public_url
from promcompat.core.texts.yaml_nodes import StrictReader, YamlError, first_document
from promcompat.imports.strict_exposition import strict_float
from promcompat.scraping.configuration import (
    DEFAULT_PROTOCOLS,
    UTF8_NAMES,
    FileDiscovery,
    HistogramOptions,
    HttpDiscovery,
    JobConfig,
    ScrapeConfig,
    ScrapeLimits,
    ScrapeProtocol,
    TargetGroup,
)
from promcompat.scraping.document_keys import (
    FILE_DISCOVERY,
    GLOBAL,
    GROUP,
    HTTP_DISCOVERY,
    JOB,
    OTHER_SECTIONS,
    SECTIONS,
    explaining,
)
from promcompat.scraping.http_document import is_http_url, read_http

_Fields = Mapping[str, yaml.Node]
_SIZE: Final = re.compile(r"([0-9]+)\s*([KMGTPE]?)(i?)B?", re.IGNORECASE)
_PATTERN: Final = re.compile(r"[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)")
_DEFAULT_TIMEOUT_MS: Final = 10_000
_ESCAPINGS: Final = (UTF8_NAMES, "underscores", "dots", "values")


@dataclass(frozen=True, slots=True)
class _Source:
    """The reader of a file, and the folder that paths in it are relative to."""

    reader: StrictReader
    folder: Path

    def fields(self, node: yaml.Node | None, names: frozenset[str], place: str) -> _Fields:
        return self.reader.fields(node, names, place, explaining(place, names))


def read_config_file(path: Path) -> ScrapeConfig:
    """The configuration in a file, and in the files it names.

    Raises BadDataError, with the file and lines of what cannot be used.
    """
    source, fields = _open(path, SECTIONS | OTHER_SECTIONS.keys())
    with_global = source.fields(fields.get("global"), GLOBAL, "global")
    defaults = _defaults(source, with_global)
    jobs = _jobs(source, fields.get("scrape_configs"), defaults)
    patterns = source.reader.items(fields.get("scrape_config_files"), "[]string")
    texts = [str(path.parent / source.reader.text(pattern)) for pattern in patterns]
    external = Labels.of(_labels(source.reader, with_global.get("external_labels")))
    _finish(path, source)
    for name in (name for text in texts for name in sorted(glob(text))):
        jobs += _jobs_of_file(Path(name), defaults)
    _check_names(path, jobs)
    ignored = sorted(OTHER_SECTIONS.keys() & fields.keys())
    return ScrapeConfig(jobs=jobs, external_labels=external, ignored=ignored, patterns=texts)


def _jobs_of_file(path: Path, defaults: JobConfig) -> list[JobConfig]:
    source, fields = _open(path, frozenset(["scrape_configs"]))
    jobs = _jobs(source, fields.get("scrape_configs"), defaults)
    _finish(path, source)
    return jobs


def _open(path: Path, names: frozenset[str]) -> tuple[_Source, _Fields]:
    try:
        document = first_document(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YamlError) as exc:
        raise BadDataError(f"{path}: {reading_fault(exc)}") from exc
    source = _Source(StrictReader(), path.parent)
    return source, source.fields(document, names, "the configuration")


def _finish(path: Path, source: _Source) -> None:
    try:
        source.reader.finish()
    except YamlError as exc:
        raise BadDataError(f"{path}: {str(exc).removeprefix('yaml: unmarshal errors:')}") from exc


def _check_names(path: Path, jobs: Sequence[JobConfig]) -> None:
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise BadDataError(
                f'{path}: found multiple scrape configs with job name "{name}"; each job needs a'
                " name of its own"
            )


def _jobs(source: _Source, node: yaml.Node | None, defaults: JobConfig) -> list[JobConfig]:
    items = source.reader.items(node, "scrape_configs")
    return [_job(source, item, defaults) for item in items]


def _defaults(source: _Source, fields: _Fields) -> JobConfig:
    """What a job has unless it says something else."""
    interval_ms = _duration(source, fields.get("scrape_interval")) or 60_000
    timeout_ms = _timeout(source, fields, interval_ms, _DEFAULT_TIMEOUT_MS)
    plain = JobConfig(
        name="", interval_ms=interval_ms, timeout_ms=timeout_ms, protocols=(), escaping=""
    )
    shared = _with_shared(source, fields, plain)
    # That of the names that are valid by default, whichever are valid in a job.
    escaping = "underscores" if shared.legacy_names else ""
    return replace(shared, escaping=shared.escaping or escaping)


def _timeout(source: _Source, fields: _Fields, interval_ms: int, default_ms: int) -> int:
    """The timeout; a default one is never longer than the interval."""
    node = fields.get("scrape_timeout")
    timeout_ms = _duration(source, node)
    if node is not None and timeout_ms > interval_ms:
        source.reader.refuse(
            node,
            f"scrape timeout greater than scrape interval ({interval_ms} ms);"
            " choose a shorter scrape_timeout",
        )
    return timeout_ms or min(default_ms, interval_ms)


def _job(source: _Source, node: yaml.Node, defaults: JobConfig) -> JobConfig:
    reader, fields = source.reader, source.fields(node, JOB, "a scrape config")
    name = reader.text(fields.get("job_name"))
    if not name:
        reader.refuse(node, "job_name is empty; each scrape config needs one")
    interval_ms = _duration(source, fields.get("scrape_interval")) or defaults.interval_ms
    job = replace(
        _with_shared(source, fields, defaults),
        name=name,
        interval_ms=interval_ms,
        timeout_ms=_timeout(source, fields, interval_ms, defaults.timeout_ms),
        # An empty path is one, too.
        metrics_path=reader.text(fields["metrics_path"])
        if "metrics_path" in fields
        else "/metrics",
        scheme=_choice(source, fields.get("scheme"), ("http", "https")) or "http",
        params=_params(source, fields.get("params")),
        fallback_protocol=_protocol(source, fields.get("fallback_scrape_protocol")),
        http=read_http(reader, fields, source.folder),
        relabel_rules=_rules(source, fields.get("relabel_configs")),
        metric_relabel_rules=_rules(source, fields.get("metric_relabel_configs")),
    )
    protocols = job.protocols or _default_protocols(job)
    job = replace(job, protocols=protocols, escaping=_escaping(source, node, job))
    return _with_discoveries(source, fields, _with_switches(source, fields, job))


def _default_protocols(job: JobConfig) -> tuple[ScrapeProtocol, ...]:
    first = (ScrapeProtocol.PROTOBUF,) if job.histograms.has_native else ()
    return (*first, *DEFAULT_PROTOCOLS)


def _escaping(source: _Source, node: yaml.Node, job: JobConfig) -> str:
    """How names are escaped, by default as those that are valid need it."""
    if job.legacy_names and job.escaping == UTF8_NAMES:
        source.reader.refuse(
            node,
            "utf8 metric names requested but validation scheme is not set to UTF8;"
            " use another metric_name_escaping_scheme",
        )
    return job.escaping or ("underscores" if job.legacy_names else UTF8_NAMES)


def _with_switches(source: _Source, fields: _Fields, job: JobConfig) -> JobConfig:
    return replace(
        job,
        honor_labels=_switch(source, fields, "honor_labels", default=False),
        honor_timestamps=_switch(source, fields, "honor_timestamps", default=True),
        tracks_timestamps_staleness=_switch(
            source, fields, "track_timestamps_staleness", default=False
        ),
        enable_compression=_switch(source, fields, "enable_compression", default=True),
    )


def _with_discoveries(source: _Source, fields: _Fields, job: JobConfig) -> JobConfig:
    reader = source.reader
    groups = reader.items(fields.get("static_configs"), "static_configs")
    files = reader.items(fields.get("file_sd_configs"), "file_sd_configs")
    urls = reader.items(fields.get("http_sd_configs"), "http_sd_configs")
    return replace(
        job,
        static=[
            replace(_static_group(reader, group), source=str(number))
            for number, group in enumerate(groups)
        ],
        files=[_file_discovery(source, node) for node in files],
        urls=[_http_discovery(source, node) for node in urls],
    )


def _with_shared(source: _Source, fields: _Fields, defaults: JobConfig) -> JobConfig:
    """The defaults with what `global` and a job may both say."""
    reader, limits = source.reader, defaults.limits

    def limit(name: str, default: int) -> int:
        return reader.natural(fields[name]) if name in fields else default

    body = fields.get("body_size_limit")
    validation = _choice(source, fields.get("metric_name_validation_scheme"), ("utf8", "legacy"))
    escaping = _choice(source, fields.get("metric_name_escaping_scheme"), _ESCAPINGS)
    protocols = reader.items(fields.get("scrape_protocols"), "scrape_protocols")
    return replace(
        defaults,
        protocols=_protocols(source, protocols) or defaults.protocols,
        legacy_names=validation == "legacy" if validation else defaults.legacy_names,
        escaping=escaping or defaults.escaping,
        extra_metrics=_switch(
            source, fields, "extra_scrape_metrics", default=defaults.extra_metrics
        ),
        limits=ScrapeLimits(
            body_bytes=limits.body_bytes if body is None else _size(source, body),
            samples=limit("sample_limit", limits.samples),
            labels=limit("label_limit", limits.labels),
            label_name_bytes=limit("label_name_length_limit", limits.label_name_bytes),
            label_value_bytes=limit("label_value_length_limit", limits.label_value_bytes),
        ),
        histograms=_histograms(source, fields, defaults.histograms),
        target_limit=limit("target_limit", defaults.target_limit),
        kept_dropped_targets=limit("keep_dropped_targets", defaults.kept_dropped_targets),
    )


def _histograms(source: _Source, fields: _Fields, defaults: HistogramOptions) -> HistogramOptions:
    limit, factor = (
        fields.get(f"native_histogram_{name}") for name in ("bucket_limit", "min_bucket_factor")
    )
    return HistogramOptions(
        has_native=_switch(source, fields, "scrape_native_histograms", default=defaults.has_native),
        keeps_classic=_switch(
            source, fields, "always_scrape_classic_histograms", default=defaults.keeps_classic
        ),
        converts_classic=_switch(
            source, fields, "convert_classic_histograms_to_nhcb", default=defaults.converts_classic
        ),
        bucket_limit=source.reader.natural(limit) if limit else defaults.bucket_limit,
        min_bucket_factor=_number(source, factor) if factor else defaults.min_bucket_factor,
    )


def _number(source: _Source, node: yaml.Node) -> float:
    text = source.reader.text(node)
    try:
        return strict_float(text)
    except ValueError:
        source.reader.refuse(node, f"{text!r} is not a number")
        return 0.0


def _protocols(source: _Source, nodes: Sequence[yaml.Node]) -> tuple[ScrapeProtocol, ...]:
    found = [_protocol(source, node) for node in nodes]
    for number, protocol in enumerate(found):
        if protocol is not None and protocol in found[:number]:
            source.reader.refuse(
                nodes[number], f"duplicated protocol {protocol.value} in scrape_protocols"
            )
    return tuple(protocol for protocol in found if protocol is not None)


def _protocol(source: _Source, node: yaml.Node | None) -> ScrapeProtocol | None:
    names = [protocol.value for protocol in ScrapeProtocol]
    name = _choice(source, node, names)
    return ScrapeProtocol(name) if name else None


def _choice(source: _Source, node: yaml.Node | None, allowed: Sequence[str]) -> str:
    """One of a few texts; `""` if there is none."""
    text = source.reader.text(node)
    if node is not None and text and text not in allowed:
        source.reader.refuse(node, f"{text!r} is not one of: {', '.join(allowed)}")
        return ""
    return text


def _switch(source: _Source, fields: _Fields, name: str, *, default: bool) -> bool:
    return source.reader.boolean(fields[name]) if name in fields else default


def _duration(source: _Source, node: yaml.Node | None) -> int:
    try:
        return source.reader.duration_ms(node)
    except YamlError as exc:
        assert node is not None
        source.reader.refuse(node, f"{exc}; write a duration such as 15s or 1m")
        return 0


def _size(source: _Source, node: yaml.Node) -> int:
    """Bytes, with units of 1,024: `10MB`, as in Prometheus."""
    text = source.reader.text(node)
    found = _SIZE.fullmatch(text)
    if found is None:
        source.reader.refuse(node, f"{text!r} is not a size such as 10MB")
        return 0
    exponent = "KMGTPE".find(found[2].upper()) + 1 if found[2] else 0
    return int(found[1]) << (10 * exponent)


def _params(source: _Source, node: yaml.Node | None) -> Mapping[str, Sequence[str]]:
    reader = source.reader
    values = reader.mapping(node, "params")
    return {
        name: tuple(map(reader.text, reader.items(value, f"a list of values of {name}")))
        for name, value in values.items()
    }


def _rules(source: _Source, node: yaml.Node | None) -> Sequence[RelabelRule]:
    try:
        return read_relabel_rules(source.reader, node)
    except BadDataError as exc:
        assert node is not None
        source.reader.refuse(node, str(exc))
        return ()


def _static_group(reader: StrictReader, node: yaml.Node) -> TargetGroup:
    group = read_group(reader, node)
    for target in group.targets:
        if "/" in (address := target["__address__"]):
            reader.refuse(node, f"{address!r} is not a valid hostname; write host:port")
    return group


def read_group(reader: StrictReader, node: yaml.Node) -> TargetGroup:
    """A group of targets, of a static configuration or a discovered file."""
    fields = reader.fields(node, GROUP, "a target group", explaining("a target group", GROUP))
    items = reader.items(fields.get("targets"), "a list of targets")
    targets = [{"__address__": reader.text(item)} for item in items]
    return TargetGroup(targets, _labels(reader, fields.get("labels")))


def _labels(reader: StrictReader, node: yaml.Node | None) -> Mapping[str, str]:
    labels = reader.texts(node)
    if node is not None and "" in labels:
        reader.refuse(node, '"" is not a valid label name')
    return labels


def _file_discovery(source: _Source, node: yaml.Node) -> FileDiscovery:
    reader, place = source.reader, "a file discovery"
    fields = source.fields(node, FILE_DISCOVERY, place)
    items = reader.items(fields.get("files"), "a list of files")
    if not items:
        reader.refuse(node, "file service discovery config must contain at least one path name")
    for item in items:
        if not _PATTERN.fullmatch(reader.text(item)):
            reader.refuse(
                item,
                f"path name {reader.text(item)!r} is not valid for file discovery; it ends with"
                " .json, .yml or .yaml, and may have one * in its last part",
            )
    patterns = tuple(str(source.folder / reader.text(item)) for item in items)
    refresh_ms = _duration(source, fields.get("refresh_interval"))
    return FileDiscovery(patterns, refresh_ms or 300_000)


def _http_discovery(source: _Source, node: yaml.Node) -> HttpDiscovery:
    fields = source.fields(node, HTTP_DISCOVERY, "an HTTP discovery")
    url = source.reader.text(fields.get("url"))
    if not is_http_url(url):
        # A password must not be told in errors, which users see.
        shown = public_url(url) if "@" in url else url
        source.reader.refuse(node, f"the url {shown!r} is not http://host/… or https://host/…")
    refresh_ms = _duration(source, fields.get("refresh_interval")) or 60_000
    return HttpDiscovery(url, read_http(source.reader, fields, source.folder), refresh_ms)
