"""What a scrape configuration of Prometheus says, as values; `document` reads them from YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.relabelling import RelabelRule

UTF8_NAMES: Final = "allow-utf-8"
"""The escaping that changes no names."""
META_URL: Final = "__meta_url"
"""The label with the URL that a target was discovered at."""


class ScrapeProtocol(StrEnum):
    """The formats of targets, by the names of the configuration."""

    PROTOBUF = "PrometheusProto"
    OPEN_METRICS_0 = "OpenMetricsText0.0.1"
    OPEN_METRICS_1 = "OpenMetricsText1.0.0"
    TEXT_0 = "PrometheusText0.0.4"
    TEXT_1 = "PrometheusText1.0.0"


DEFAULT_PROTOCOLS: Final = (
    ScrapeProtocol.OPEN_METRICS_1,
    ScrapeProtocol.OPEN_METRICS_0,
    ScrapeProtocol.TEXT_1,
    ScrapeProtocol.TEXT_0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A text, or the file that has it; a file is read again for each request."""

    text: str = field(default="", repr=False)
    file: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.text) or self.file is not None

    def read(self) -> str:
        """The text. Raises OSError and UnicodeDecodeError."""
        return self.text if self.file is None else self.file.read_text("utf-8").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How a TLS connection is verified, and what the client shows."""

    ca: Secret = Secret()
    cert: Secret = Secret()
    key: Secret = Secret()
    server_name: str = ""
    insecure_skip_verify: bool = False
    min_version: str = ""
    max_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2Config:
    """How tokens are fetched by the client credentials of OAuth 2.0 (RFC 6749, section 4.4)."""

    client_id: str
    client_secret: Secret
    token_url: str
    scopes: Sequence[str] = ()
    endpoint_params: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: TlsConfig = TlsConfig()
    proxy_url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """How targets, or a service discovery, are asked."""

    username: Secret = Secret()
    password: Secret = Secret()
    authorization_type: str = "Bearer"
    credentials: Secret = Secret()
    tls: TlsConfig = TlsConfig()
    follow_redirects: bool = True
    proxy_url: str = field(default="", repr=False)
    headers: Mapping[str, Sequence[Secret]] = field(default_factory=dict)
    oauth2: OAuth2Config | None = None


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Addresses with common labels; `labels` of discovered groups begin with __meta_ too."""

    targets: Sequence[Mapping[str, str]]
    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class FileDiscovery:
    """Files with target groups: names, or patterns with one `*` in the last part."""

    patterns: tuple[str, ...]
    refresh_ms: int = 300_000


@dataclass(frozen=True, slots=True)
class HttpDiscovery:
    """A URL that answers with a JSON list of target groups."""

    url: str = field(repr=False)
    http: HttpConfig = HttpConfig()
    refresh_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeLimits:
    """What one scrape may bring; 0 sets no limit."""

    body_bytes: int = 0
    samples: int = 0
    labels: int = 0
    label_name_bytes: int = 0
    label_value_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramOptions:
    """Which forms of histograms are stored, and how fine they may be; 0 sets no limit.

    `keeps_classic`: classic buckets are stored beside the native ones, too.
    """

    has_native: bool = False
    keeps_classic: bool = False
    converts_classic: bool = False
    bucket_limit: int = 0
    min_bucket_factor: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """One entry of `scrape_configs`, with what it takes from `global`."""

    name: str
    interval_ms: int = 60_000
    timeout_ms: int = 10_000
    metrics_path: str = "/metrics"
    scheme: str = "http"
    params: Mapping[str, Sequence[str]] = field(default_factory=dict)
    protocols: tuple[ScrapeProtocol, ...] = DEFAULT_PROTOCOLS
    fallback_protocol: ScrapeProtocol | None = None
    honor_labels: bool = False
    honor_timestamps: bool = True
    tracks_timestamps_staleness: bool = False
    enable_compression: bool = True
    legacy_names: bool = False
    escaping: str = UTF8_NAMES
    """How targets are asked to write names that are not letters, digits, colons and underscores."""
    extra_metrics: bool = False
    limits: ScrapeLimits = ScrapeLimits()
    histograms: HistogramOptions = HistogramOptions()
    target_limit: int = 0
    kept_dropped_targets: int = 0
    http: HttpConfig = HttpConfig()
    relabel_rules: Sequence[RelabelRule] = ()
    metric_relabel_rules: Sequence[RelabelRule] = ()
    static: Sequence[TargetGroup] = ()
    files: Sequence[FileDiscovery] = ()
    urls: Sequence[HttpDiscovery] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeConfig:
    """A whole configuration; `ignored` are sections that concern other parts of Prometheus.

    `patterns` are those of the other files that it is read from.
    """

    jobs: Sequence[JobConfig] = ()
    external_labels: Labels = EMPTY_LABELS
    ignored: Sequence[str] = ()
    patterns: Sequence[str] = ()
