"""The settings of calls to other hosts, and of the secrets that these need."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode

from promcompat.configuration.types import Hosts, LabelList, parse_labels
from promcompat.core.model import Labels

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
"""A token of RFC 9110."""


class SecretSetting(BaseModel):
    """Where a secret is: an environment variable or a file; and the hosts that may get it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str = ""
    file: Path | None = None
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_source(self) -> "SecretSetting":
        if bool(self.env) == (self.file is not None):
            raise ValueError("a secret needs env or file, and not both")
        return self


def _to_secrets(value: object) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise ValueError(
            'must be JSON, for example {"pager": {"file": "/run/secrets/pager", "hosts": '
            '["pager.example.com"]}}'
        ) from exc


class OutgoingSettings(BaseSettings):
    """Whom notifications, remediations and scraping may call."""

    outgoing_allow: Hosts = Field(
        (),
        description="Hosts that notifications and remediations may call, comma-separated: host, "
        "host:port, *.domain, an address or a network (CIDR). Empty: every host; while access is "
        "on, only at public addresses. Networks in this list are allowed for scraping too. "
        "Remediations reach hosts of this list at public addresses only, while access is on.",
    )
    outgoing_answer_bytes: NonNegativeInt = Field(
        4000,
        description="How much of what a receiver of notifications or an action of a remediation "
        "answers is stored and logged; 0 stores nothing.",
    )
    secrets: Annotated[dict[str, SecretSetting], NoDecode, BeforeValidator(_to_secrets)] = Field(
        {},
        description="Secrets that headers of calls may use by name, as a JSON object: for each "
        "name env (an environment variable) or file, and hosts that may get it.",
    )
    alertmanager_headers: LabelList = Field(
        "",
        description="Headers of calls to Alertmanagers, as Header=secret,Header=secret, with names "
        "of PROMCOMPAT_SECRETS.",
    )
    webhook_headers: LabelList = Field(
        "",
        description="Headers of calls to webhooks, as Header=secret,Header=secret, with names of "
        "PROMCOMPAT_SECRETS.",
    )

    @model_validator(mode="after")
    def _check_secrets(self) -> "OutgoingSettings":
        for name in ("alertmanager_headers", "webhook_headers"):
            headers = parse_labels(getattr(self, name)).as_dict()
            for header in headers:
                if _HEADER.fullmatch(header) is None:
                    raise ValueError(f"{name} has {header!r}, which is not the name of a header")
            unknown = set(headers.values()) - set(self.secrets)
            if unknown:
                named = ", ".join(sorted(unknown))
                raise ValueError(f"{name} names {named}, which PROMCOMPAT_SECRETS does not have")
        return self

    @property
    def alertmanager_header_set(self) -> Labels:
        """The secrets by the headers of calls to Alertmanagers."""
        return parse_labels(self.alertmanager_headers)

    @property
    def webhook_header_set(self) -> Labels:
        """The secrets by the headers of calls to webhooks."""
        return parse_labels(self.webhook_headers)
