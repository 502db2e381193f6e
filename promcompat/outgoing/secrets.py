"""Secrets that definitions and settings name, which are in the operator's environment and files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.outgoing.policy import AllowList, host_of


class SecretUnavailableError(ExecutionError):
    """The variable or file of a secret is not there; it may come later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a secret is, and the hosts that it may be sent to."""

    variable: str = ""
    file: Path | None = None
    hosts: tuple[str, ...] = ()

    def read(self, name: str) -> str:
        """The secret as it is now. Raises SecretUnavailableError, which does not contain it."""
        try:
            if self.file is not None:
                text = self.file.read_text("utf-8").strip()
            else:
                text = os.environ[self.variable]
        except (OSError, UnicodeDecodeError, KeyError) as exc:
            raise SecretUnavailableError(f"the secret {name} cannot be read") from exc
        if not text or not text.isprintable():
            raise SecretUnavailableError(f"the secret {name} is empty, or more than one line")
        return text


@dataclass(frozen=True, slots=True)
class NamedSecrets:
    """The secrets of the operator, by the names that others use."""

    sources: Mapping[str, SecretSource] = field(default_factory=dict)

    def check(self, name: str, url: str | None = None) -> SecretSource:
        """Where a secret is. Raises BadDataError if it may not be sent to the host of a URL."""
        source = self.sources.get(name)
        if source is None:
            raise BadDataError(f"there is no secret named {name}")
        hosts = AllowList(tuple(host.lower() for host in source.hosts))
        if url is not None and not hosts.names(host_of(url)):
            raise BadDataError(f"the secret {name} may not be sent to this host")
        return source

    def headers(self, names: Mapping[str, str], url: str) -> dict[str, str]:
        """The headers whose values are these secrets, for a request to a URL.

        Raises BadDataError, and SecretUnavailableError.
        """
        return {header: self.check(name, url).read(name) for header, name in names.items()}

    @property
    def variables(self) -> frozenset[str]:
        """The environment variables with secrets."""
        return frozenset(source.variable for source in self.sources.values() if source.variable)


NO_SECRETS: Final = NamedSecrets()
