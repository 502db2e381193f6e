"""Every setting of the service, validated once.

A field `listen` is `PROMCOMPAT_LISTEN` in the environment and `--listen` on the command line; a
flag wins over the environment. The description of each field is what `--help` prints. How settings
are written and shown is in `promcompat.configuration.text`.
"""

from typing import Self

from pydantic import model_validator
from pydantic_settings import SettingsConfigDict

from promcompat.configuration.access import AccessSettings
from promcompat.configuration.alerting import AlertingSettings
from promcompat.configuration.ingest import IngestSettings
from promcompat.configuration.limits import LimitSettings
from promcompat.configuration.outgoing import OutgoingSettings
from promcompat.configuration.queries import QuerySettings
from promcompat.configuration.remediation import RemediationSettings
from promcompat.configuration.serving import ServingSettings
from promcompat.configuration.storage import StorageSettings
from promcompat.core.limits.limit_definitions import LARGEST_NUMBER

ENV_PREFIX = "PROMCOMPAT_"
TENANT_HEADER = "X-Scope-OrgID"
"""Names the tenant of a request with the setting `tenancy=header`."""


class Settings(
    # `--help` has the last one first.
    RemediationSettings,
    AlertingSettings,
    IngestSettings,
    QuerySettings,
    StorageSettings,
    OutgoingSettings,
    LimitSettings,
    AccessSettings,
    ServingSettings,
):
    """The configuration of one process; immutable."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, int) and value > LARGEST_NUMBER:
                raise ValueError(f"{name} must be at most {LARGEST_NUMBER}")
        return self

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
