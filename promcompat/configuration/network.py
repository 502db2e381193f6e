"""The settings of how others reach the service over the network."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from promcompat.configuration.types import DurationMs
from promcompat.core.errors import BadDataError
from promcompat.core.patterns import compile_pattern


class NetworkSettings(BaseSettings):
    """TLS of the HTTP server, with the words of Prometheus' web.yml for client certificates."""

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
