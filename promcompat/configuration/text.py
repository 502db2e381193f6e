"""Settings as texts: names, defaults and forms, and their values without secrets."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, SecretStr, ValidationError
from pydantic_core import PydanticUndefined

from promcompat.configuration.settings import ENV_PREFIX, Settings
from promcompat.configuration.types import duration_of_setting
from promcompat.core.texts.durations import format_duration_ms
from promcompat.core.texts.secrets import (
    HIDDEN,
    database_secrets,
    origin_of,
    public_url,
    url_secrets,
)
from promcompat.outgoing.secrets import SecretSource, SecretUnavailableError

_SHOWN_CHARACTERS = 100
_WORDS_OF_LIBRARY = "Input should be "
_REASONS = {
    "bool_parsing": "must be true or false",
    "dataclass_type": "must be an object",
    "dict_type": "must be an object",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "missing": "is missing",
    "model_type": "must be an object",
    "extra_forbidden": "is unknown",
    "string_type": "must be text",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
}
_BOUND = re.compile(r"(?<=than |l to )[0-9]+$")
"""The number at the end of "must be greater than 0" or "must be less than or equal to 5"."""
_NAME = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
_SECRET = frozenset(
    ("alertmanager_urls", "database_url", "external_url", "migration_database_url",
     "remediation_commands", "secrets", "temporal_api_key", "temporal_ui_url", "webhook_urls")
)  # fmt: skip
"""Settings that are, or may contain, secrets."""


def env_name(field_name: str) -> str:
    """The environment variable of a setting."""
    return ENV_PREFIX + field_name.upper()


def flag_name(field_name: str) -> str:
    """The flag of a setting on the command line."""
    return f"--{field_name.replace('_', '-')}"


def is_duration(field_name: str) -> bool:
    """Whether a setting is a duration, written as `5m`."""
    metadata = Settings.model_fields[field_name].metadata
    return any(
        isinstance(part, BeforeValidator) and part.func is duration_of_setting for part in metadata
    )


def default_text(field_name: str) -> str:
    """The default of a setting as a person writes it, `""` for none."""
    default = Settings.model_fields[field_name].default
    return "" if default is PydanticUndefined else value_text(field_name, default)


def value_text(field_name: str, value: object) -> str:
    """A value of the setting as a person writes it, `""` for none."""
    if value is None:
        return ""
    if is_duration(field_name) and isinstance(value, int):
        return format_duration_ms(value)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, dict):
        return json.dumps(value, default=str) if value else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_form(field_name: str) -> str:
    """What a value of the setting looks like: `true|false`, `DURATION`, `single|header`, …"""
    if is_duration(field_name):
        return "DURATION"
    annotation = _bare_type(Settings.model_fields[field_name].annotation)
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return {bool: "true|false", int: "NUMBER", Path: "PATH"}.get(annotation, "TEXT")


def _bare_type(annotation: Any) -> Any:
    """A type without `| None` and without the conditions of `Annotated`."""
    while get_origin(annotation) in (Union, UnionType, Annotated):
        annotation = get_args(annotation)[0]
    return annotation


def unknown_variables(environment: Iterable[str]) -> dict[str, str]:
    """Variables with our prefix that name no setting: a typing error would be silent otherwise.

    Each has the variable that it resembles most, or `""`.
    """
    known = set(map(env_name, Settings.model_fields))
    unknown = sorted(
        name for name in environment if name.startswith(ENV_PREFIX) and name not in known
    )
    return {name: _similar(name.removeprefix(ENV_PREFIX).lower()) for name in unknown}


def _similar(name: str) -> str:
    found = get_close_matches(name, Settings.model_fields, 1)
    return env_name(found[0]) if found else ""


def _named(found: re.Match[str]) -> str:
    """The variable of a setting, if the word is its name."""
    return env_name(found[0]) if found[0] in Settings.model_fields else found[0]


def faults_of(error: ValidationError) -> Iterator[str]:
    """A line for each setting that cannot be used, with its flag, its variable and its value.

    Settings that do not fit together are named in the text.
    """
    for fault in error.errors(include_url=False, include_context=False):
        text = _REASONS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
        text = text.replace(_WORDS_OF_LIBRARY, "must be ")
        if not fault["loc"]:
            # Only names with an underscore: others are words, too.
            yield _NAME.sub(_named, text)
            continue
        name, *inner = map(str, fault["loc"])
        if is_duration(name):
            text = _BOUND.sub(lambda found: format_duration_ms(int(found[0])), text)
        if inner:
            # Of a document in a setting, such as `pager.hosts` of the secrets.
            text = f"{'.'.join(inner)} {text}"
        given = fault["input"]
        is_shown = isinstance(given, str) and name not in _SECRET
        shown = f"; it is {given[:_SHOWN_CHARACTERS]!r}" if is_shown else ""
        yield f"{flag_name(name)} ({env_name(name)}): {text}{shown}"


def public_values(settings: Settings) -> Mapping[str, str]:
    """Every setting as text, without secrets."""
    texts = {name: value_text(name, getattr(settings, name)) for name in Settings.model_fields}
    alertmanagers, webhooks = settings.alertmanager_url_list, settings.webhook_url_list
    return texts | {
        "database_url": hide_password(settings.database_url),
        "migration_database_url": hide_password(settings.migration_database_url),
        "alertmanager_urls": ",".join(map(public_url, alertmanagers)),
        "webhook_urls": ",".join(map(origin_of, webhooks)),
        "temporal_api_key": HIDDEN if settings.temporal_api_key else "",
        # Only the names of commands, as their arguments may be tokens.
        "remediation_commands": ",".join(settings.remediation_commands),
        "secrets": ",".join(settings.secrets),
    }


def secrets_of(settings: Settings) -> Iterator[str]:
    """Every text in the settings that nobody should see in an answer or a log."""
    for database in (settings.database_url, settings.migration_database_url):
        if database is not None:
            yield from database_secrets(database.get_secret_value())
    for url in settings.alertmanager_url_list:
        yield from url_secrets(url)
    for url in settings.webhook_url_list:
        yield from url_secrets(url, is_path_secret=True)
    for name, secret in settings.secrets.items():
        source = SecretSource(variable=secret.env, file=secret.file)
        with suppress(SecretUnavailableError):
            yield source.read(name)
    if settings.temporal_api_key is not None:
        yield settings.temporal_api_key.get_secret_value()


def hide_password(url: SecretStr | None) -> str:
    """The address without user and password."""
    return "" if url is None else public_url(url.get_secret_value())
