"""Settings as anybody may see them, and what in them nobody may."""

from collections.abc import Iterator, Mapping

from pydantic import SecretStr

from promcompat.core.secrets import HIDDEN, origin_of, public_url, url_secrets
from promcompat.settings import Settings, value_text


def public_values(settings: Settings) -> Mapping[str, str]:
    """Every setting as text, without anything secret in it."""
    texts = {name: value_text(name, getattr(settings, name)) for name in Settings.model_fields}
    alertmanagers, webhooks = settings.alertmanager_url_list, settings.webhook_url_list
    return texts | {
        "database_url": hide_password(settings.database_url),
        "alertmanager_urls": ",".join(map(public_url, alertmanagers)),
        "webhook_urls": ",".join(map(origin_of, webhooks)),
        "temporal_api_key": HIDDEN if settings.temporal_api_key else "",
        # Arguments may be tokens: the names tell what may be run.
        "remediation_commands": ",".join(settings.remediation_commands),
    }


def secrets_of(settings: Settings) -> Iterator[str]:
    """Every text in the settings that nobody should see in an answer or a log."""
    if settings.database_url is not None:
        yield from url_secrets(settings.database_url.get_secret_value())
    for url in settings.alertmanager_url_list:
        yield from url_secrets(url)
    for url in settings.webhook_url_list:
        yield from url_secrets(url, is_path_secret=True)
    if settings.temporal_api_key is not None:
        yield settings.temporal_api_key.get_secret_value()


def hide_password(url: SecretStr | None) -> str:
    """The address without user and password."""
    return "" if url is None else public_url(url.get_secret_value())
