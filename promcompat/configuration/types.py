"""The types of settings, as they are written in the environment."""

import json
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from promcompat.core.errors import BadDataError
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.texts.durations import to_milliseconds
from promcompat.core.texts.secrets import public_url
from promcompat.outgoing.policy import host_of

MEBIBYTE = 1 << 20
DAY_MS = 86_400_000


def duration_of_setting(value: object) -> object:
    """As `to_milliseconds`; ValueError with what a duration looks like."""
    try:
        return to_milliseconds(value)
    except ValueError as exc:
        raise ValueError("must be a duration such as 500ms, 30s, 5m, 1h30m or 7d") from exc


DurationMs = Annotated[int, BeforeValidator(duration_of_setting), Field(ge=0)]
"""Written as `5m` or `500ms`, kept as int milliseconds."""
PositiveDurationMs = Annotated[DurationMs, Field(gt=0)]
"""The same, and not zero."""


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part for piece in text.split(",") if (part := piece.strip()))


Names = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(lambda value: split_list(value) if isinstance(value, str) else value),
]
"""Written as `a,b`."""


def check_urls(text: str) -> str:
    """A comma-separated list of URLs without a slash at its end; ValueError for anything else."""
    for url in split_list(text):
        try:
            host_of(url)
        except BadDataError as exc:
            raise ValueError("must be http://HOST or https://HOST, with a port or path") from exc
    return text.rstrip("/")


def _check_public_url(url: str) -> str:
    if "," in url:
        raise ValueError("must be one URL")
    if url and public_url(url) != url:
        raise ValueError(
            "must not contain a user, password, query or fragment, because links would show it"
        )
    return url


Urls = Annotated[str, AfterValidator(check_urls)]
"""Written as `http://a,https://b`."""
PublicUrl = Annotated[Urls, AfterValidator(_check_public_url)]
"""A URL that people see."""


def _check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        try:
            if "/" in name:
                ip_network(name, strict=False)
        except ValueError as exc:
            raise ValueError(
                f"{name} is neither a host (host, host:port, *.domain), an address nor a network "
                "such as 10.0.0.0/8"
            ) from exc
    return names


Hosts = Annotated[Names, AfterValidator(_check_hosts)]
"""Hosts and networks, written as `a.example.com,10.0.0.0/8`."""


def split_listen_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[v6]:port` or `:port` (every interface); else ValueError."""
    host, colon, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and int(port) <= 65_535
    if not colon or not is_port or "/" in host:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:9201")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address must be in brackets, for example [::1]:9201")
    return host or "0.0.0.0", int(port)


def _check_address(value: str) -> str:
    split_listen_address(value)
    return value


Address = Annotated[str, AfterValidator(_check_address)]
"""Written as `host:port`."""


def _to_commands(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise ValueError('must be JSON, for example {"restart": ["systemctl", "restart"]}') from exc


Commands = Annotated[
    dict[str, Annotated[tuple[str, ...], Field(min_length=1)]],
    NoDecode,
    BeforeValidator(_to_commands),
]
"""Written as a JSON object of names to lists of strings."""


def parse_labels(text: str) -> Labels:
    """The labels of `cluster=eu-1,replica=a`; ValueError for another text."""
    pairs: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or name.strip() in (METRIC_NAME, *pairs):
            raise ValueError("must be NAME=VALUE,…, for example cluster=eu-1,replica=a")
        pairs[name.strip()] = value.strip()
    return Labels.of(pairs)


def _check_labels(text: str) -> str:
    parse_labels(text)
    return text


LabelList = Annotated[str, AfterValidator(_check_labels)]
"""Written as `name=value,name=value`."""
