"""The settings of serving: addresses, TLS, connections, processes and the log."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings

from promcompat.configuration.types import (
    MEBIBYTE,
    Address,
    DurationMs,
    PositiveDurationMs,
    split_listen_address,
)
from promcompat.core.errors import BadDataError
from promcompat.core.patterns.compiled import compile_pattern


class ServingSettings(BaseSettings):
    """How clients reach the service, and how its processes run.

    TLS has the words of Prometheus' web.yml for client certificates.
    """

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
    statsd_flush_interval: PositiveDurationMs = Field(
        10_000, description="How often the state of StatsD's metrics is stored."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Number of processes that serve requests, all on the same port."
    )
    worker_timeout: Annotated[DurationMs, Field(ge=1000)] = Field(
        30_000,
        description="With several workers: one whose event loop has not run for so long is killed "
        "and started again.",
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
    read_timeout: PositiveDurationMs = Field(
        300_000,
        description="How long a client may take to send a request, or stop reading its answer; "
        "idle connections are closed as well (Prometheus: --web.read-timeout).",
    )
    max_connections: PositiveInt = Field(
        512,
        description="Connections of a worker at once (Prometheus: --web.max-connections). Beyond "
        "that, the one that has been idle longest is closed; if none is idle, a new one gets 503.",
    )
    max_held_body_bytes: Annotated[int, Field(ge=MEBIBYTE)] = Field(
        256 * MEBIBYTE,
        description="Memory of a worker for request bodies, as sent and as unpacked; a request "
        "that needs more gets 503, and its sender tries again.",
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
    tls_cert_file: Path | None = Field(
        None,
        description="File with the certificate of the HTTP server, and the chain behind it (PEM). "
        "With it and the key, the service speaks https only; changed files are read within "
        "seconds.",
    )
    tls_key_file: Path | None = Field(
        None, description="File with the private key of that certificate (PEM, not encrypted)."
    )
    tls_client_ca_file: Path | None = Field(
        None, description="File with the authorities that sign certificates of clients (PEM)."
    )
    tls_client_auth: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = Field(
        "NoClientCert",
        description="Whether clients have to show a certificate of those authorities, by the words "
        "of Prometheus' client_auth_type.",
    )
    tls_min_version: Literal["TLS12", "TLS13"] = Field(
        "TLS12", description="Lowest version of TLS that is spoken."
    )
    cors_origin: str | None = Field(
        None,
        description="Anchored regular expression for the browser origins whose pages may read "
        "answers of the query API (Prometheus: --web.cors.origin). Default: .* while access is "
        "off, otherwise none. Pages of other origins may never write or change anything.",
    )
    allow_unauthenticated: bool = Field(
        False,
        description="Listen also on addresses that other machines can reach where whoever reaches "
        "them needs no credential: HTTP while access is off, and always Graphite and StatsD, which "
        "have no credentials. For networks of trusted machines only.",
    )
    hsts_max_age: DurationMs = Field(
        0,
        description="How long browsers have to use https for this host name "
        "(Strict-Transport-Security). Sent only over TLS; 0 sends nothing.",
    )

    @field_validator("cors_origin")
    @classmethod
    def _check_cors_origin(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                compile_pattern(value)
        except BadDataError as exc:
            raise ValueError(str(exc)) from exc
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file must be set together")
        has_authorities = self.tls_client_ca_file is not None
        if has_authorities and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        if has_authorities != (self.tls_client_auth != "NoClientCert"):
            raise ValueError(
                "tls_client_ca_file and a tls_client_auth other than NoClientCert must be set "
                "together"
            )
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether the HTTP server speaks https."""
        return self.tls_cert_file is not None

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return split_listen_address(self.listen)
