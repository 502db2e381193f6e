"""Receivers of alerts over HTTP: Alertmanager's API version 2, and plain webhooks."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote_plus

import aiohttp
import orjson

from promcompat.core.alerts import Alert, AlertState
from promcompat.core.notifications import Notification, NotificationError, Notifier
from promcompat.version import PROMETHEUS_VERSION, promcompat_version

_MAX_ALERTS: Final = 256
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_RESEND_DELAY_MS: Final = 60_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(unix_ms: int) -> str:
    """RFC 3339 with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=unix_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ms % 1000:03d}Z"


def receiver_name(kind: str, url: str) -> str:
    """Names a receiver without telling its address, which may hold a secret."""
    return f"{kind}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def generator_url(external_url: str, alert: Alert) -> str:
    """Where the expression of an alert can be looked at, as Prometheus links it."""
    return f"{external_url}/graph?g0.expr={quote_plus(alert.expr, safe='~')}&g0.tab=1"


class HttpSender:
    """Posts JSON; one session for all receivers, opened by the first."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: object, headers: dict[str, str]) -> None:
        """Raises NotificationError unless the answer is 2xx."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        headers = {"Content-Type": "application/json", **headers}
        try:
            async with self._session.post(
                url, data=orjson.dumps(body), headers=headers, allow_redirects=False
            ) as response:
                if not 200 <= response.status < 300:
                    text = (await response.text(errors="replace"))[:200]
                    raise NotificationError(f"answered {response.status}: {text}")
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise NotificationError(str(exc) or type(exc).__name__) from exc
        except TimeoutError as exc:
            raise NotificationError("no answer in time") from exc

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class AlertmanagerNotifier:
    """An Alertmanager; it forgets an alert that is not sent again before its `endsAt`."""

    wants_repetition = True

    def __init__(self, sender: HttpSender, url: str, external_url: str) -> None:
        """`url` is the Alertmanager's, with its path prefix if it has one."""
        self.name = receiver_name("alertmanager", url)
        self._sender = sender
        self._url = url.rstrip("/") + "/api/v2/alerts"
        self._external_url = external_url

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        """See the port."""
        headers = {"User-Agent": f"Prometheus/{PROMETHEUS_VERSION}"}
        for batch in _batches(notifications):
            items = [self._item(one.alert, now_ms) for one in batch]
            await self._sender.post(self._url, items, headers)

    def _item(self, alert: Alert, now_ms: int) -> dict[str, object]:
        """One alert; a firing one ends by itself when it is not told of for four intervals."""
        if alert.state is AlertState.FIRING:
            ends_ms = now_ms + 4 * max(alert.interval_ms, _RESEND_DELAY_MS)
        else:
            ends_ms = alert.resolved_at_ms
        return {
            "annotations": alert.annotations.as_dict(),
            "endsAt": format_time(ends_ms),
            "startsAt": format_time(alert.fired_at_ms),
            "generatorURL": generator_url(self._external_url, alert),
            "labels": alert.labels.as_dict(),
        }


class WebhookNotifier:
    """Any HTTP receiver: a POST with one alert for each step, in order, in JSON of our own."""

    wants_repetition = False

    def __init__(self, sender: HttpSender, url: str, external_url: str) -> None:
        self.name = receiver_name("webhook", url)
        self._sender = sender
        self._url = url
        self._external_url = external_url

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        """See the port. A receiver knows a repetition by `Idempotency-Key`."""
        for one in notifications:
            headers = {
                "User-Agent": f"promcompat/{promcompat_version()}",
                "Idempotency-Key": one.key,
            }
            await self._sender.post(self._url, self._document(one), headers)

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
                "annotations": alert.annotations.as_dict(),
                "value": repr(alert.value),
                "active_at": format_time(alert.active_at_ms),
                "fired_at": format_time(alert.fired_at_ms),
                "resolved_at": format_time(alert.resolved_at_ms) if alert.resolved_at_ms else None,
                "generator_url": generator_url(self._external_url, alert),
            },
        }


def _batches(notifications: Sequence[Notification]) -> Iterator[Sequence[Notification]]:
    for start in range(0, len(notifications), _MAX_ALERTS):
        yield notifications[start : start + _MAX_ALERTS]


def build_notifiers(
    sender: HttpSender,
    alertmanager_urls: Sequence[str],
    webhook_urls: Sequence[str],
    external_url: str,
) -> list[Notifier]:
    """A notifier for each address."""
    return [
        *(AlertmanagerNotifier(sender, url, external_url) for url in alertmanager_urls),
        *(WebhookNotifier(sender, url, external_url) for url in webhook_urls),
    ]
