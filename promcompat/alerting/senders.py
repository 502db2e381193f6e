"""Receivers of alerts over HTTP: Alertmanager's API version 2, and plain webhooks."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus

import aiohttp
import orjson

from promcompat.alerting.deliveries import (
    Notification,
    NotificationError,
    NotificationRefusedError,
    Notifier,
)
from promcompat.core.alerting.alerts import Alert, AlertState
from promcompat.core.errors import BadDataError
from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.relabelling import RelabelRule, relabel
from promcompat.core.texts.connection_faults import connection_fault
from promcompat.core.texts.secrets import Redactor, origin_of, public_url, url_secrets
from promcompat.core.texts.times import format_time_ms
from promcompat.outgoing.client import GuardedClient
from promcompat.outgoing.policy import ANYWHERE, OutgoingPolicy
from promcompat.outgoing.secrets import NO_SECRETS, NamedSecrets, SecretUnavailableError
from promcompat.version import PROMETHEUS_VERSION

TENANT_LABEL: Final = "promcompat_tenant"
"""Distinguishes the alerts of several tenants at one Alertmanager."""
_RESEND_DELAY_MS: Final = 60_000
_MAX_ERROR_CHARACTERS: Final = 200
_REFUSALS: Final = frozenset([400, 413, 422])
"""Statuses that blame what was sent; others blame the receiver or the way to it."""


def receiver_name(kind: str, url: str) -> str:
    """The name of a receiver; it hides the address, which may contain a secret."""
    return f"{kind}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def generator_url(external_url: str, alert: Alert) -> str:
    """The page that shows the expression of an alert, as Prometheus links it."""
    return f"{external_url}/graph?g0.expr={quote_plus(alert.expr, safe='~')}&g0.tab=1"


@dataclass(frozen=True, slots=True)
class SecretHeaders:
    """Headers whose values are secrets: the names of the secrets by the names of the headers."""

    secrets: NamedSecrets = NO_SECRETS
    names: Mapping[str, str] = field(default_factory=dict)

    def of(self, url: str) -> dict[str, str]:
        """The headers of a request. Raises NotificationError."""
        try:
            return self.secrets.headers(self.names, url)
        except (BadDataError, SecretUnavailableError) as exc:
            raise NotificationError(str(exc)) from exc


_NO_HEADERS: Final = SecretHeaders()


class HttpSender:
    """Posts JSON by one client for all receivers."""

    def __init__(
        self, policy: OutgoingPolicy = ANYWHERE, max_answer_bytes: int = _MAX_ERROR_CHARACTERS
    ) -> None:
        """`max_answer_bytes` bounds what is kept of an answer that is an error."""
        self._client = GuardedClient(policy)
        self._max_answer_bytes = min(max_answer_bytes, _MAX_ERROR_CHARACTERS)

    async def post(self, target: "Target", body: object, headers: dict[str, str]) -> None:
        """Raises NotificationError, whose text hides the address, unless the answer is 2xx."""
        secret = target.headers.of(target.url)
        redactor = target.redactor if not secret else target.redactor.also(secret.values())
        headers = {"Content-Type": "application/json", **headers, **secret}
        try:
            async with self._client.request(
                "POST", target.url, data=orjson.dumps(body), headers=headers
            ) as response:
                if not 200 <= response.status < 300:
                    read = await response.content.read(self._max_answer_bytes)
                    shown = redactor.hide_bytes(read, is_cut=not response.content.at_eof())
                    is_refusal = response.status in _REFUSALS
                    raise (NotificationRefusedError if is_refusal else NotificationError)(
                        _answer(response.status, shown)[:_MAX_ERROR_CHARACTERS]
                    )
        except TimeoutError:
            raise NotificationError("no response in time") from None
        except (aiohttp.ClientError, OSError, ValueError, BadDataError) as exc:
            # Without the cause, as its text may contain the address.
            text = redactor.hide(connection_fault(exc))
            raise NotificationError(text) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _answer(status: int, shown: str) -> str:
    return f"answered {status}: {shown}" if shown else f"answered {status}"


class Target:
    """An address to post to, and the parts of it that must not be shown."""

    def __init__(self, url: str, headers: SecretHeaders, *, is_path_secret: bool) -> None:
        self.url = url
        self.headers = headers
        self.redactor = Redactor(url_secrets(url, is_path_secret=is_path_secret))


def alerts_url(url: str) -> str:
    """The URL to post alerts to at an Alertmanager; its path prefix and query are kept."""
    path, question_mark, query = url.partition("?")
    return path.rstrip("/") + "/api/v2/alerts" + question_mark + query


@dataclass(frozen=True, slots=True)
class OutgoingLabels:
    """How the labels of alerts change on their way to Alertmanagers, as in Prometheus."""

    external: Labels = EMPTY_LABELS
    rules: Sequence[RelabelRule] = ()

    def of(self, labels: Labels) -> Labels | None:
        """The labels to send; None if the alert is not to be sent."""
        return relabel(Labels.of({**self.external.as_dict(), **labels.as_dict()}), self.rules)


_UNCHANGED: Final = OutgoingLabels()


class AlertmanagerNotifier(Notifier):
    """An Alertmanager, which drops an alert that is not sent again before its `endsAt`."""

    def __init__(
        self,
        sender: HttpSender,
        url: str,
        external_url: str,
        labels: OutgoingLabels = _UNCHANGED,
        *,
        has_tenants: bool,
        headers: SecretHeaders = _NO_HEADERS,
    ) -> None:
        """`url` is the address of the Alertmanager with its path prefix, if it has one.

        With `has_tenants` each alert has a label with its tenant, and each request has Mimir's
        header: otherwise equal alerts of two tenants would become one.
        """
        self.name = receiver_name("alertmanager", url)
        self._sender = sender
        self._target = Target(alerts_url(url), headers, is_path_secret=False)
        self.address = public_url(alerts_url(url))
        self._external_url = external_url
        self._labels = labels
        self._has_tenants = has_tenants

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        """See the port."""
        headers = {"User-Agent": f"Prometheus/{PROMETHEUS_VERSION}"}
        if self._has_tenants and notifications:
            headers["X-Scope-OrgID"] = notifications[0].tenant
        items = [
            self._item(notification, outgoing.as_dict(), now_ms)
            for notification in notifications
            if (outgoing := self._labels.of(notification.alert.labels)) is not None
        ]
        if items:
            await self._sender.post(self._target, items, headers)

    def _item(
        self, notification: Notification, labels: dict[str, str], now_ms: int
    ) -> dict[str, object]:
        """One alert; a firing one ends when it is not sent again for four intervals.

        It does not begin after its end, nor end after now, although its times may be those of a
        clock that was set back: Alertmanager refuses the former and shows the latter as firing.
        """
        alert = notification.alert
        if self._has_tenants:
            labels[TENANT_LABEL] = notification.tenant
        if alert.state is AlertState.FIRING:
            ends_ms = now_ms + 4 * max(alert.interval_ms, _RESEND_DELAY_MS)
        else:
            ends_ms = min(alert.resolved_at_ms, now_ms)
        return {
            "annotations": dict(alert.annotations),
            "endsAt": format_time_ms(ends_ms),
            "startsAt": format_time_ms(min(alert.fired_at_ms, ends_ms)),
            "generatorURL": generator_url(self._external_url, alert),
            "labels": labels,
        }


class WebhookNotifier(Notifier):
    """Any HTTP receiver: for each step in order, a POST of one alert in our own JSON."""

    def __init__(
        self,
        sender: HttpSender,
        url: str,
        external_url: str,
        headers: SecretHeaders = _NO_HEADERS,
    ) -> None:
        self.name = receiver_name("webhook", url)
        self._sender = sender
        self._target = Target(url, headers, is_path_secret=True)
        self.address = origin_of(url)
        self._external_url = external_url

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        """See the port. A repetition has the same `Idempotency-Key`."""
        for notification in notifications:
            headers = {"Idempotency-Key": notification.key}
            await self._sender.post(self._target, self._document(notification), headers)

    def _document(self, notification: Notification) -> dict[str, object]:
        alert = notification.alert
        return {
            "version": "1",
            "key": notification.key,
            "tenant": notification.tenant,
            "status": alert.state.value,
            "alert": {
                "id": alert.id,
                "rule_id": alert.rule_id,
                "rule": alert.rule_name,
                "group": alert.rule_group,
                "severity": alert.severity,
                "labels": alert.labels.as_dict(),
                "annotations": dict(alert.annotations),
                "value": repr(alert.value),
                "active_at": format_time_ms(alert.active_at_ms),
                "fired_at": format_time_ms(alert.fired_at_ms),
                "resolved_at": format_time_ms(alert.resolved_at_ms)
                if alert.resolved_at_ms
                else None,
                "generator_url": generator_url(self._external_url, alert),
            },
        }


def build_alertmanagers(
    sender: HttpSender,
    urls: Sequence[str],
    external_url: str,
    labels: OutgoingLabels,
    headers: SecretHeaders,
    *,
    has_tenants: bool,
) -> list[Notifier]:
    """An Alertmanager for each address."""
    return [
        AlertmanagerNotifier(
            sender, url, external_url, labels, has_tenants=has_tenants, headers=headers
        )
        for url in urls
    ]


def build_webhooks(
    sender: HttpSender, urls: Sequence[str], external_url: str, headers: SecretHeaders
) -> list[Notifier]:
    """A webhook for each address."""
    return [WebhookNotifier(sender, url, external_url, headers) for url in urls]
