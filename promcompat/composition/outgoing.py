"""What the settings let the service call, and with which secrets."""

from promcompat.alerting.senders import SecretHeaders
from promcompat.configuration.settings import Settings
from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.outgoing.addresses import Place
from promcompat.outgoing.policy import AllowList, OutgoingPolicy
from promcompat.outgoing.secrets import NamedSecrets, SecretSource


def notification_policy(settings: Settings) -> OutgoingPolicy:
    """For Alertmanagers and webhooks.

    Raises BadDataError for an address in the settings that it refuses.
    """
    policy = OutgoingPolicy(AllowList.of(settings.outgoing_allow), _furthest(settings))
    urls = (*settings.alertmanager_url_list, *settings.webhook_url_list)
    for url in urls:
        try:
            policy.check_url(url)
        except BadDataError as exc:
            raise BadDataError(f"an Alertmanager or webhook cannot be called: {exc}") from exc
    return policy


def action_outgoing_policy(settings: Settings) -> OutgoingPolicy:
    """For requests of remediations, whose URLs are those of tenants.

    So what the operator listed for notifications is not within reach of tenants by being listed.
    """
    return OutgoingPolicy(
        AllowList.of(settings.remediation_http_hosts),
        _furthest(settings),
        only_near=AllowList.of(settings.outgoing_allow),
        setting="PROMCOMPAT_REMEDIATION_HTTP_HOSTS",
    )


def _furthest(settings: Settings) -> Place:
    return Place.LOCAL_LINK if settings.access == "off" else Place.PUBLIC


def scrape_policy(settings: Settings) -> OutgoingPolicy:
    """For targets and discoveries, which the operator's file names: most are in private networks.

    A discovery may name any address, but not, while access is on, those where a cloud has the
    credentials of the machine.
    """
    return OutgoingPolicy(
        AllowList.of(settings.outgoing_allow),
        Place.LOCAL_LINK if settings.access == "off" else Place.PRIVATE,
        is_exclusive=False,
    )


def named_secrets(settings: Settings) -> NamedSecrets:
    """The secrets of the settings."""
    return NamedSecrets(
        {
            name: SecretSource(variable=given.env, file=given.file, hosts=given.hosts)
            for name, given in settings.secrets.items()
        }
    )


def secret_headers(settings: Settings, headers: Labels) -> SecretHeaders:
    """The headers of a kind of receiver."""
    return SecretHeaders(named_secrets(settings), headers.as_dict())
