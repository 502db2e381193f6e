"""Every setting of the service, validated once.

A field `listen` is `PROMCOMPAT_LISTEN` in the environment and `--listen` on the command line; a
flag wins over the environment. The description of each field is what `--help` prints. How settings
are written and shown is in `promcompat.configuration.text`.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import SettingsConfigDict

from promcompat.configuration.access import AccessSettings
from promcompat.configuration.ingest import IngestSettings
from promcompat.configuration.limits import LimitSettings
from promcompat.configuration.network import NetworkSettings
from promcompat.configuration.outgoing import OutgoingSettings
from promcompat.configuration.queries import QuerySettings
from promcompat.configuration.types import (
    Address,
    Commands,
    DurationMs,
    LabelList,
    Names,
    parse_labels,
    split_list,
    split_listen_address,
)
from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.core.secrets import public_url
from promcompat.outgoing.policy import host_of

ENV_PREFIX = "PROMCOMPAT_"
MEBIBYTE = 1 << 20
DAY_MS = 86_400_000
TENANT_HEADER = "X-Scope-OrgID"
"""Names the tenant of a request with the setting `tenancy=header`."""


_SQL_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)


def default_data_dir() -> Path:
    """The folder for the user's data by the XDG rules."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "promcompat"


class Settings(
    AccessSettings, IngestSettings, LimitSettings, NetworkSettings, OutgoingSettings, QuerySettings
):
    """The configuration of one process; immutable."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    listen: Address = Field(
        "127.0.0.1:9201",
        description="Address and port to serve HTTP on, as HOST:PORT. Port 0 picks a free port.",
    )
    graphite_listen: Address | None = Field(
        None, description="HOST:PORT (UDP and TCP) for Graphite's plaintext; none by default."
    )
    statsd_listen: Address | None = Field(
        None, description="HOST:PORT (UDP and TCP) for StatsD and DogStatsD; none by default."
    )
    statsd_flush_interval: Annotated[DurationMs, Field(gt=0)] = Field(
        10_000, description="How often the state of StatsD's metrics is stored."
    )
    database_url: SecretStr | None = Field(
        None,
        description="postgresql:// URL of the database. Without it, the service installs and "
        "runs its own database in the data folder.",
    )
    migration_database_url: SecretStr | None = Field(
        None,
        description="postgresql:// URL of the same database for the role that owns the schema, "
        "if the role of PROMCOMPAT_DATABASE_URL does not own it: migrations, grants to readers and "
        "backups use this URL, and the service gets rights to rows only.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder of the service's own database, which survives restarts. Default: "
        "promcompat in $XDG_DATA_HOME or ~/.local/share.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Number of processes that serve requests, all on the same port."
    )
    pushdown: bool = Field(
        True,
        description="Let the database compute the parts of a query that it can compute exactly, "
        "and read rollups of past days where the answer stays the same.",
    )
    admin_api: bool = Field(
        False,
        description="Enable Prometheus' admin API, which deletes series and makes snapshots "
        "(Prometheus: --web.enable-admin-api).",
    )
    ruler_feature: bool = Field(
        False,
        description="Announce the ruler API in /api/v1/status/buildinfo, as Mimir does: Grafana "
        "then lets people edit rules, and treats the data source as a Mimir. The API itself is "
        "always on.",
    )
    head_bytes: PositiveInt = Field(
        512 * MEBIBYTE,
        description="Memory of a worker for recent samples, which are not moved into blocks or "
        "rows yet. What does not fit is read from the database when a query needs it. Drained "
        "samples that queries read lately may take a quarter as much besides, and rollups an "
        "eighth.",
    )
    series_cache_bytes: PositiveInt = Field(
        1024 * MEBIBYTE,
        description="Memory of a worker for its caches of series: half for series that are "
        "written, a quarter for labels that are read, one eighth each for the series of selectors "
        "and for lists of labels. The default holds a million series that are written.",
    )
    write_max_body_bytes: PositiveInt = Field(
        32 * MEBIBYTE,
        description="Largest remote-write body as sent, compressed; a larger one is refused with "
        "413.",
    )
    write_max_decoded_bytes: PositiveInt = Field(
        32 * MEBIBYTE,
        description="Largest remote-write body after decompression; a larger one is refused with "
        "400.",
    )
    write_max_series: PositiveInt = Field(
        250_000,
        description="Most series and metadata entries of a remote-write request; a request with "
        "more is refused with 400.",
    )
    max_held_body_bytes: Annotated[int, Field(ge=MEBIBYTE)] = Field(
        256 * MEBIBYTE,
        description="Memory of a worker for request bodies, as sent and as unpacked; a request "
        "that needs more gets 503, and its sender tries again.",
    )
    max_undrained_bytes: Annotated[int, Field(ge=MEBIBYTE)] = Field(
        1024 * MEBIBYTE,
        description="Memory that samples which are not in blocks or rows yet may need, 16 bytes "
        "each; while there are more, writes get 503, and their senders try again.",
    )
    max_tenant_undrained_bytes: NonNegativeInt = Field(
        0,
        description="The same for the samples of one tenant, so that the others can go on. 0: "
        "three quarters of what all may need.",
    )
    timescaledb: Literal["auto", "require", "off"] = Field(
        "auto",
        description="auto: use TimescaleDB where the server has it. require: refuse a server "
        "without it. off: plain PostgreSQL partitions, unless the database has the extension "
        "already, as the service's own one does. Decided when the schema is created.",
    )
    store: Literal["blocks", "rows"] | None = Field(
        None,
        description="blocks: samples are compressed blocks, and recent ones are in memory. rows: "
        "every sample is a row of the table `sample`. Default: the store of the database; for a "
        "new one blocks. promcompat migrate-store moves rows into blocks.",
    )
    chunk_interval: DurationMs = Field(
        DAY_MS,
        description="Time range of each chunk created from now on: whole days, such as 1d or 1w.",
    )
    retention_days: Annotated[int, Field(ge=0, le=365_000)] = Field(
        30,
        description="Days that samples are kept, where tenant and metric have no retention of "
        "their own. 0 keeps them forever.",
    )
    rollup_retention_days: Annotated[int, Field(ge=0, le=365_000)] | None = Field(
        None,
        description="Days that rollups are kept, where that is longer than their samples are kept. "
        "0 keeps them forever. Default: as long as samples. Store blocks only.",
    )
    coarse_rollups: bool = Field(
        False,
        description="Where samples are no longer kept, answer from rollups also what these cannot "
        "answer exactly, and say so in infos. Off: only exact answers.",
    )
    alerting: bool = Field(
        True,
        description="Evaluate alert rules, watch thresholds and notify. Off: rules are only "
        "stored.",
    )
    external_url: str = Field(
        "",
        description="URL under which people reach this service; notifications link to it "
        "(Prometheus: --web.external-url). Default: the listen address, with the name of the "
        "machine if it listens on every interface.",
    )
    alertmanager_urls: str = Field(
        "", description="Addresses of the Alertmanagers that alerts are sent to, comma-separated."
    )
    external_labels: LabelList = Field(
        "",
        description="Labels that alerts get when they are sent to Alertmanagers, unless they have "
        "them, as name=value,name=value (Prometheus: external_labels). Templates see them too.",
    )
    alert_relabel_file: Path | None = Field(
        None,
        description="File with a YAML list of relabelling rules for alerts on their way to "
        "Alertmanagers (Prometheus: alert_relabel_configs).",
    )
    rule_files: Names = Field(
        (),
        description="Rule files of Prometheus, as comma-separated patterns such as "
        "/etc/rules/*.yml. They are loaded at start and whenever they change; their rules belong "
        "to the tenant `default`.",
    )
    rules_for_grace_period: DurationMs = Field(
        600_000,
        description="How long an alert that was pending before an outage of this service waits "
        "after it at least, unless its `for` is shorter "
        "(Prometheus: --rules.alert.for-grace-period).",
    )
    rules_for_outage_tolerance: DurationMs = Field(
        3_600_000,
        description="After a longer outage, `for` of pending alerts begins anew "
        "(Prometheus: --rules.alert.for-outage-tolerance).",
    )
    dashboard_folder: Path | None = Field(
        None,
        description="Folder with dashboards as JSON files, of promcompat or of Grafana, also in "
        "folders below it. They are loaded at start and whenever they change; they belong to the "
        "tenant `default`, and are not changed by the API.",
    )
    webhook_urls: SecretStr | None = Field(
        None, description="Addresses of the webhooks that alerts are sent to, comma-separated."
    )
    alert_max_sample_age: DurationMs = Field(
        3_600_000,
        description="How old a sample may be to raise the alert of a threshold; older ones, such "
        "as those of a backfill, raise none. 0: any age. PromQL rules only look at the present.",
    )
    alert_retention: DurationMs = Field(
        365 * DAY_MS, description="How long ended alerts and their history are kept."
    )
    threshold_expiry: DurationMs = Field(
        DAY_MS,
        description="Time without a sample after which the alert of a threshold ends. 0: never.",
    )
    notification_retry: DurationMs = Field(
        DAY_MS, description="How long a notification that a webhook does not accept is sent again."
    )
    max_waiting_notifications: PositiveInt = Field(
        10_000,
        description="Notifications that may wait for one webhook; beyond that, the oldest of the "
        "tenants with most of them are dropped.",
    )
    temporal_address: Address | None = Field(
        None,
        description="HOST:PORT of the Temporal server that runs remediations. Without it they are "
        "recorded and wait.",
    )
    temporal_namespace: str = Field("default", description="Temporal namespace.")
    temporal_ui_url: str = Field(
        "",
        description="Address of Temporal's web page, such as http://127.0.0.1:8233; remediations "
        "link to their workflows there.",
    )
    temporal_api_key: SecretStr | None = Field(
        None, description="API key for Temporal; Temporal Cloud requires one."
    )
    temporal_tls: bool = Field(False, description="Connect to Temporal with TLS.")
    temporal_timeout: Annotated[DurationMs, Field(gt=0)] = Field(
        5_000, description="How long a call to Temporal may take before Temporal counts as down."
    )
    task_queue: str = Field(
        "promcompat", description="Temporal task queue that `promcompat worker` polls."
    )
    remediation_package: str | None = Field(
        None,
        description="Python package whose lists WORKFLOWS and ACTIVITIES the worker registers too.",
    )
    remediation_commands: Commands = Field(
        {},
        description="Commands that remediations may run, as a JSON object from names to lists of "
        "arguments, which may contain {placeholders}. They run without a shell.",
    )
    remediation_http_hosts: Names = Field(
        (),
        description="Hosts that remediations may call, comma-separated: host, host:port or "
        "*.domain. Empty allows every host.",
    )
    remediation_sql_functions: Names = Field(
        (),
        description="Database functions of one jsonb argument that remediations may call, "
        "comma-separated.",
    )
    read_timeout: Annotated[DurationMs, Field(gt=0)] = Field(
        300_000,
        description="How long a client may take to send a request, or stop reading its answer; "
        "idle connections are closed as well (Prometheus: --web.read-timeout).",
    )
    max_connections: PositiveInt = Field(
        512,
        description="Connections of a worker at once (Prometheus: --web.max-connections). Beyond "
        "that, the one that has been idle longest is closed; if none is idle, a new one gets 503.",
    )
    shutdown_timeout: DurationMs = Field(
        30_000,
        description="How long requests in flight may take to finish on SIGTERM; queries have a "
        "sixth of it, and are answered 503 then.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity that is logged."
    )
    log_format: Literal["logfmt", "json"] = Field(
        "logfmt",
        description="Format of the log on standard error, one line per event: key=value pairs or "
        "JSON.",
    )

    @field_validator("alertmanager_urls", "external_url", "temporal_ui_url")
    @classmethod
    def _check_urls(cls, value: str) -> str:
        for url in split_list(value):
            try:
                host_of(url)
            except BadDataError as exc:
                raise ValueError(
                    "must be http://HOST or https://HOST, with a port or path"
                ) from exc
        return value.rstrip("/")

    @field_validator("external_url", "temporal_ui_url")
    @classmethod
    def _check_external_url(cls, value: str) -> str:
        if value and public_url(value) != value:
            raise ValueError(
                "must not contain a user, password, query or fragment, because links would show it"
            )
        return value

    @field_validator("webhook_urls")
    @classmethod
    def _check_webhook_urls(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            cls._check_urls(value.get_secret_value())
        return value

    @field_validator("remediation_sql_functions")
    @classmethod
    def _check_sql_functions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if _SQL_FUNCTION.fullmatch(name) is None:
                raise ValueError(f"{name} is not a function name; use name or schema.name")
        return value

    @field_validator("database_url", "migration_database_url", mode="before")
    @classmethod
    def _check_database_url(cls, value: object) -> object:
        if value == "":
            return None
        if isinstance(value, str) and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        if isinstance(value, str) and not _is_readable_url(value):
            raise ValueError(
                "is not a valid URL; in a user or password, write the characters @ : / ? # [ ] % "
                "as %40 %3A %2F %3F %23 %5B %5D %25"
            )
        return value

    @field_validator("chunk_interval")
    @classmethod
    def _check_chunk_interval(cls, value: int) -> int:
        if value < DAY_MS or value % DAY_MS:
            raise ValueError("must be a whole number of days, for example 1d")
        return value

    @model_validator(mode="after")
    def _check_deltas(self) -> Self:
        if self.otlp_delta == "cumulative" and self.workers > 1:
            raise ValueError("otlp_delta=cumulative needs workers=1: sums are kept in one process")
        return self

    @property
    def origins_that_read(self) -> str | None:
        """The pattern of the browser origins that may read; None: no other than our own."""
        return (
            (".*" if self.access == "off" else None)
            if self.cors_origin is None
            else self.cors_origin
        )

    @property
    def scrapes_itself(self) -> bool:
        """Whether this service scrapes its own metrics.

        By default not where clients need certificates, as it has none.
        """
        if self.scrape_self is not None:
            return self.scrape_self
        return self.tenancy == "single" and self.tls_client_auth != "RequireAndVerifyClientCert"

    @property
    def alertmanager_url_list(self) -> tuple[str, ...]:
        """The addresses of Alertmanagers."""
        return split_list(self.alertmanager_urls)

    @property
    def webhook_url_list(self) -> tuple[str, ...]:
        """The addresses of webhooks."""
        return () if self.webhook_urls is None else split_list(self.webhook_urls.get_secret_value())

    @property
    def external_label_set(self) -> Labels:
        """The labels of alerts that are sent."""
        return parse_labels(self.external_labels)

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return split_listen_address(self.listen)


def _is_readable_url(url: str) -> bool:
    """Whether no character of a user or password is taken for another part of the address."""
    try:
        hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
        for host in hosts:
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return "@" not in urlsplit(url).path
