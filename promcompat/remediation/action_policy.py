"""What actions may touch: an action names things, the operator's allow lists say what they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from promcompat.core.errors import BadDataError

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPolicy:
    """Allow lists. Commands and functions not in them cannot be run.

    `commands` maps a name to an argv whose elements may hold `{placeholder}`s. `http_hosts` are
    `host`, `host:port` or `*.domain`; empty allows every host. `sql_functions` are names of
    functions of one jsonb, with their schema where that is not on the search path.
    """

    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    http_hosts: frozenset[str] = frozenset()
    sql_functions: frozenset[str] = frozenset()

    def check_url(self, url: str) -> None:
        """Raises BadDataError unless `url` is HTTP to an allowed host."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise BadDataError("the URL is not valid") from exc
        if parts.scheme not in ("http", "https") or not host:
            raise BadDataError("an action's URL must be http:// or https:// and name a host")
        port = port or (443 if parts.scheme == "https" else 80)
        if self.http_hosts and not any(
            _matches_host(allowed, host, port) for allowed in self.http_hosts
        ):
            raise BadDataError(f"the host {host}:{port} is not allowed")

    def check_function(self, name: str) -> None:
        """Raises BadDataError unless the function is allowed."""
        if name not in self.sql_functions:
            raise BadDataError(f"the SQL function {name} is not allowed")

    def command_line(self, name: str, arguments: Mapping[str, str]) -> list[str]:
        """The argv of an allowed command with its placeholders filled.

        No shell sees it. A value may not begin an element with `-`, where it would become an
        option of the command. Raises BadDataError for an unknown name, a missing or unused
        argument, or such a value.
        """
        template = self.commands.get(name)
        if template is None:
            raise BadDataError(f"the command {name} is not allowed")
        wanted = {key for element in template for key in _PLACEHOLDER.findall(element)}
        if wanted != set(arguments):
            takes = f"the arguments {', '.join(sorted(wanted))}" if wanted else "no arguments"
            raise BadDataError(f"the command {name} takes exactly {takes}")
        return [_fill(element, arguments) for element in template]


def _fill(element: str, arguments: Mapping[str, str]) -> str:
    filled = _PLACEHOLDER.sub(lambda found: arguments[found[1]], element)
    if "\0" in filled or (filled.startswith("-") and not element.startswith("-")):
        raise BadDataError(f"an argument in {element} is not allowed to begin with - or hold NUL")
    return filled


def _matches_host(allowed: str, host: str, port: int) -> bool:
    name, _, allowed_port = allowed.lower().partition(":")
    if allowed_port and allowed_port != str(port):
        return False
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
