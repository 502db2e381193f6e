"""The settings of remediations: Temporal, and what they may do."""

import re
from typing import Final

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from promcompat.configuration.types import (
    Address,
    Commands,
    Hosts,
    Names,
    PositiveDurationMs,
    PublicUrl,
)

_SQL_FUNCTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)


class RemediationSettings(BaseSettings):
    """The server that runs remediations, and the commands, hosts and functions they may use."""

    temporal_address: Address | None = Field(
        None,
        description="HOST:PORT of the Temporal server that runs remediations. Without it they are "
        "recorded and wait.",
    )
    temporal_namespace: str = Field("default", description="Temporal namespace.")
    temporal_ui_url: PublicUrl = Field(
        "",
        description="Address of Temporal's web page, such as http://127.0.0.1:8233; remediations "
        "link to their workflows there.",
    )
    temporal_api_key: SecretStr | None = Field(
        None, description="API key for Temporal; Temporal Cloud requires one."
    )
    temporal_tls: bool = Field(False, description="Connect to Temporal with TLS.")
    temporal_timeout: PositiveDurationMs = Field(
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
    remediation_http_hosts: Hosts = Field(
        (),
        description="Hosts that remediations may call, comma-separated: host, host:port or "
        "*.domain. Empty allows every host.",
    )
    remediation_sql_functions: Names = Field(
        (),
        description="Database functions of one jsonb argument that remediations may call, "
        "comma-separated.",
    )

    @field_validator("remediation_sql_functions")
    @classmethod
    def _check_sql_functions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if _SQL_FUNCTION.fullmatch(name) is None:
                raise ValueError(f"{name} is not a function name; use name or schema.name")
        return value
