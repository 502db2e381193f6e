"""Starts the remediations of alerts that fired, which wait in table `alert_delivery`.

The workflow service recognises a second start of the same remediation by its id, so that a start
may be repeated after a crash.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from promcompat.alerting.deliveries import run_together
from promcompat.alerting.silences import NOT_COMPARED, ActiveSilences
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.templates.expansion import Surroundings, TemplateExpander
from promcompat.core.alerting.alerts import REMEDIATION_RECEIVER, Alert
from promcompat.core.alerting.ports import (
    AlertNote,
    Delivery,
    Postponement,
    RemediationDeliveries,
    SilenceRepository,
)
from promcompat.core.alerting.remediation import RemediationLauncher, RemediationRequest
from promcompat.core.errors import PromcompatError, StorageUnavailableError
from promcompat.core.model import EvalRange
from promql.query import Query, QueryRunner
from promql.values.matrix import QueryResult

_LEASE_MS: Final = 30_000
"""Longer than a start may take: its templates, and the calls of database and workflow service."""
_BATCH: Final = 8
"""How many are started together, of as many tenants as possible."""
_ROUND_SECONDS: Final = 5.0
_TEMPLATE_SECONDS: Final = 10.0
_SILENCED_SECONDS: Final = 5.0
_STALE_MS: Final = 3_600_000
"""How long a remediation may wait for its start once its alert has ended. Otherwise a workflow
service that comes back after a week would repair all that was wrong in that week."""
_CLOCK_ERROR_MS: Final = 600_000
"""How far the clock of another process may be ahead."""
_MAX_DELAY_SECONDS: Final = 300.0
_TEMPLATE_FAULT: Final = "<error expanding template: "


class RemediationStarts:
    """The loop of remediations; any number of processes may run it."""

    def __init__(
        self,
        deliveries: RemediationDeliveries,
        silences: SilenceRepository,
        launcher: RemediationLauncher,
        queries: QueryRunner,
        stats: AlertingStats,
        *,
        external_url: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._deliveries = deliveries
        self._silences = silences
        self._launcher = launcher
        self._queries = queries
        self._stats = stats
        self._external_url = external_url
        self._now_ms = now_ms

    async def start_due(self) -> None:
        """Start the remediations that are due, for a few seconds. Raises StorageUnavailableError.

        A tenant whose templates have slow queries delays those of others by `_TEMPLATE_SECONDS`.
        """
        silences = ActiveSilences(self._silences, self._now_ms)
        deadline = time.monotonic() + _ROUND_SECONDS
        while time.monotonic() < deadline:
            now_ms = self._now_ms()
            due = await self._deliveries.claim(
                REMEDIATION_RECEIVER, _BATCH, now_ms, now_ms + _LEASE_MS
            )
            if not due:
                return
            await run_together(self._handle(delivery, silences) for delivery in due)

    async def _handle(self, delivery: Delivery, silences: ActiveSilences) -> None:
        is_silenced = await silences.is_silenced(delivery.tenant, delivery.alert)
        waited_ms = self._now_ms() - delivery.created_at_ms
        if is_silenced is None:
            await self._wait(delivery, NOT_COMPARED)
        elif is_silenced and delivery.is_over:
            await self._withdraw(delivery, "its alert ended while it was silenced")
        elif is_silenced:
            await self._wait(delivery, "silenced")
        elif delivery.is_over and waited_ms > _STALE_MS:
            await self._withdraw(delivery, "its alert ended before it could be started")
        else:
            await self._start(delivery)

    async def _withdraw(self, delivery: Delivery, reason: str) -> None:
        """Give up a start; an earlier attempt may have recorded the request."""
        await self._launcher.withdraw(_workflow_id(delivery), reason)
        await self._give_up(delivery, reason)

    async def _wait(self, delivery: Delivery, reason: str) -> None:
        wait = Postponement(delivery.id, _SILENCED_SECONDS, reason, counts=False)
        await self._deliveries.postpone([wait], self._now_ms())

    async def _start(self, delivery: Delivery) -> None:
        alert, now_ms = delivery.alert, self._now_ms()
        spec = alert.remediation
        last_ms = await self._deliveries.last_remediation_ms(alert.id)
        if spec is None or (last_ms and _is_within(spec.cooldown_ms, now_ms - last_ms)):
            return await self._give_up(delivery, "within its cooldown")
        try:
            request = await self._request_in_time(delivery)
            await self._launcher.start(request)
        except StorageUnavailableError as exc:
            self._stats.remediations_failed += 1
            delay_seconds = min(2.0 ** min(delivery.attempts, 10), _MAX_DELAY_SECONDS)
            wait = Postponement(delivery.id, delay_seconds, str(exc), counts=True)
            await self._deliveries.postpone([wait], now_ms)
        except PromcompatError as exc:
            self._stats.remediations_failed += 1
            await self._give_up(delivery, str(exc))
        else:
            self._stats.remediations_requested += 1
            text = f"remediation requested: {request.workflow_id}"
            note = AlertNote(alert_id=alert.id, at_ms=now_ms, text=text)
            await self._deliveries.remediated(delivery.id, note)

    async def _give_up(self, delivery: Delivery, reason: str) -> None:
        text = f"remediation not started: {reason}"
        note = AlertNote(alert_id=delivery.alert.id, at_ms=self._now_ms(), text=text)
        await self._deliveries.done([delivery.id], [note])

    async def _request_in_time(self, delivery: Delivery) -> RemediationRequest:
        """The request with its input. Raises StorageUnavailableError if that takes too long."""
        try:
            async with asyncio.timeout(_TEMPLATE_SECONDS):
                return await self._request(delivery)
        except TimeoutError as exc:
            raise StorageUnavailableError(
                f"the queries of the templates take longer than {_TEMPLATE_SECONDS:g} s"
            ) from exc

    async def _request(self, delivery: Delivery) -> RemediationRequest:
        alert = delivery.alert
        assert alert.remediation is not None

        async def query(text: str) -> QueryResult:
            return await self._queries.run(
                Query(delivery.tenant, text, EvalRange.instant(alert.fired_at_ms))
            )

        templates = TemplateExpander(query, Surroundings(self._external_url), alert.fired_at_ms)
        rendered = {
            name: await _render(value, templates, alert)
            for name, value in alert.remediation.input_template.items()
        }
        return RemediationRequest(
            tenant=delivery.tenant,
            workflow_id=_workflow_id(delivery),
            spec=alert.remediation,
            workflow_input=rendered,
            alert_id=alert.id,
            rule_name=alert.rule_name,
            query=alert.expr,
            series_labels=alert.series_labels.as_dict(),
        )


def _is_within(cooldown_ms: int, since_ms: int) -> bool:
    """Whether a start so long ago prevents another; one ahead of now is of a clock set back."""
    return -_CLOCK_ERROR_MS <= since_ms < cooldown_ms


def _workflow_id(delivery: Delivery) -> str:
    alert = delivery.alert
    cause = f"rule-{alert.rule_id}" if alert.rule_id else f"threshold-{alert.series_id}"
    # The time makes it unique: a new database repeats ids that Temporal has already.
    return f"promcompat-{delivery.tenant}-{cause}-alert-{alert.id}-{alert.active_at_ms}"


async def _render(value: object, templates: TemplateExpander, alert: Alert) -> object:
    match value:
        case str():
            text = await templates.expand(value, alert.rule_name, alert.labels, alert.value)
            if text.startswith(_TEMPLATE_FAULT) and not value.startswith(_TEMPLATE_FAULT):
                raise PromcompatError(text)
            return text
        case Mapping():
            return {key: await _render(item, templates, alert) for key, item in value.items()}
        case list() | tuple():
            return [await _render(item, templates, alert) for item in value]
        case _:
            return value
