"""Tells receivers about alerts: webhooks about each step, Alertmanagers about label sets.

Every receiver has its own work and a bounded number of requests at once, so that a slow receiver
delays no other one. No database connection is held while a receiver answers. Work is claimed for
`_LEASE_MS`, longer than a request may take. If the process dies after a request and before it
records the outcome, the same request is sent once more.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from promcompat.alerting.silences import NOT_COMPARED, ActiveSilences
from promcompat.alerting.stats import AlertingStats
from promcompat.core.alerting.alerts import Alert, AlertState
from promcompat.core.alerting.ports import (
    AlertNote,
    Delivery,
    LabelSetState,
    LabelSetStates,
    Postponement,
    Repetition,
    SilenceRepository,
    StatePostponement,
    StepDeliveries,
)
from promcompat.core.errors import PromcompatError
from promcompat.core.texts.durations import format_duration_ms

_LOGGER = logging.getLogger(__name__)
_PARALLEL: Final = 8
"""How many requests one receiver gets at once."""
_CLAIM: Final = 128
"""How many steps are claimed together, as looking for them is costly."""
_BATCH: Final = 256
"""How many label sets one request to an Alertmanager has at most, as in Prometheus."""
_LEASE_MS: Final = 20_000
_ROUND_SECONDS: Final = 5.0
"""After this time a round begins nothing new, so that it ends within its lease: a request may take
10 s."""
_SILENCED_SECONDS: Final = 5.0
_LATE_MS: Final = 60_000
_MAX_DELAY_SECONDS: Final = 300.0
_MAX_STATE_DELAY_SECONDS: Final = 60.0
_REPETITION: Final = Repetition(every_ms=60_000, resolved_for_ms=15 * 60_000)
"""Prometheus' resend delay, and how long it keeps resolved alerts."""


class NotificationError(PromcompatError):
    """A receiver did not take a notification; try again later."""


class NotificationRefusedError(NotificationError):
    """A receiver refused what was sent: a part of it is at fault, the rest may be accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """An alert as it was when it fired or ended. `key` is the same when it is sent again."""

    key: str
    tenant: str
    alert: Alert


class Notifier(Protocol):
    """One receiver, of steps of alerts or of states of label sets."""

    name: str
    """Its name in deliveries; the same in every process for the same address."""
    address: str
    """Without secrets, to be shown."""

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        """Send all of them; they belong to one tenant.

        Raises NotificationError when not all were accepted.
        """


class StepNotifications:
    """Sends every step of an alert to webhooks, in order."""

    def __init__(
        self,
        deliveries: StepDeliveries,
        silences: SilenceRepository,
        stats: AlertingStats,
        *,
        retry_ms: int,
        max_waiting: int,
        now_ms: Callable[[], int],
    ) -> None:
        """A step is tried for `retry_ms`; `max_waiting` steps wait for one receiver."""
        self._deliveries = deliveries
        self._silences = silences
        self._stats = stats
        self._retry_ms = retry_ms
        self._max_waiting = max_waiting
        self._now_ms = now_ms

    async def deliver(self, notifier: Notifier) -> None:
        """Send what is due to a receiver. Raises StorageUnavailableError."""
        silences = ActiveSilences(self._silences, self._now_ms, self._stats)
        deadline = time.monotonic() + _ROUND_SECONDS
        slots = asyncio.Semaphore(_PARALLEL)
        while time.monotonic() < deadline:
            now_ms = self._now_ms()
            due = await self._deliveries.claim(notifier.name, _CLAIM, now_ms, now_ms + _LEASE_MS)
            if not due:
                return
            await run_together(
                self._deliver_in_time(notifier, delivery, silences, deadline, slots)
                for delivery in due
            )

    async def _deliver_in_time(
        self,
        notifier: Notifier,
        delivery: Delivery,
        silences: ActiveSilences,
        deadline: float,
        slots: asyncio.Semaphore,
    ) -> None:
        """Send, or give the work back when the round ends before its turn."""
        async with slots:
            if time.monotonic() < deadline:
                return await self._deliver_one(notifier, delivery, silences)
            wait = Postponement(delivery.id, 0.0, "", counts=False)
            await self._deliveries.postpone([wait], self._now_ms())

    async def bound(self, notifier: Notifier) -> None:
        """Drop the oldest steps when too many wait. Raises StorageUnavailableError."""
        n_dropped = await self._deliveries.drop_overflow(
            notifier.name, self._max_waiting, self._now_ms()
        )
        if n_dropped:
            self._stats.notifications_given_up += n_dropped
            _LOGGER.error(
                "notifications given up: too many are waiting",
                extra={"receiver": notifier.name, "notifications": n_dropped},
            )

    async def _deliver_one(
        self, notifier: Notifier, delivery: Delivery, silences: ActiveSilences
    ) -> None:
        is_silenced = await silences.is_silenced(delivery.tenant, delivery.alert)
        if is_silenced is None:
            wait = Postponement(delivery.id, _SILENCED_SECONDS, NOT_COMPARED, counts=False)
            await self._deliveries.postpone([wait], self._now_ms())
        elif is_silenced:
            await self._keep_silent(notifier, delivery)
        elif self._is_outdated(delivery):
            self._stats.notifications_outdated += 1
            await self._deliveries.done([delivery.id])
        else:
            await self._send(notifier, delivery)

    def _is_outdated(self, delivery: Delivery) -> bool:
        """Whether it is too late to report a firing alert: it ended while the step waited.

        The steps of a short alert that were not delayed are all sent.
        """
        if not delivery.is_over or delivery.alert.state is not AlertState.FIRING:
            return False
        waited_ms = self._now_ms() - delivery.created_at_ms
        return delivery.attempts > 0 or waited_ms >= _LATE_MS

    async def _keep_silent(self, notifier: Notifier, delivery: Delivery) -> None:
        """Postpone the step of a silenced alert, or drop it when the alert has ended."""
        await self._deliveries.drop_unheard(delivery.id)
        if not delivery.is_over or delivery.alert.state is not AlertState.FIRING:
            wait = Postponement(delivery.id, _SILENCED_SECONDS, "silenced", counts=False)
            await self._deliveries.postpone([wait], self._now_ms())
        elif delivery.begins:
            await self._deliveries.drop_alert(notifier.name, delivery.alert.id)
        else:
            await self._deliveries.done([delivery.id])

    async def _send(self, notifier: Notifier, delivery: Delivery) -> None:
        notification = Notification(
            key=f"{delivery.alert.id}-{delivery.id}", tenant=delivery.tenant, alert=delivery.alert
        )
        try:
            await notifier.send([notification], self._now_ms())
        except NotificationError as exc:
            self._stats.notifications_failed += 1
            _warn(notifier, 1, exc)
            await self._retry_later(notifier, delivery, str(exc))
        else:
            self._stats.notifications_sent += 1
            await self._deliveries.done([delivery.id])

    async def _retry_later(self, notifier: Notifier, delivery: Delivery, error: str) -> None:
        """Wait longer each time, and give up after `retry_ms`."""
        now_ms = self._now_ms()
        if _tried_for_seconds(delivery.attempts) * 1000 < self._retry_ms:
            delay_seconds = _delay_seconds(delivery.attempts, _MAX_DELAY_SECONDS)
            wait = Postponement(delivery.id, delay_seconds, error, counts=True)
            return await self._deliveries.postpone([wait], now_ms)
        self._stats.notifications_given_up += 1
        fields = {"receiver": notifier.name, "address": notifier.address, "reason": error}
        _LOGGER.error("notification given up", extra=fields)
        tried = format_duration_ms(self._retry_ms)
        text = f"notification to {notifier.name} given up after {tried}: {error}"
        note = AlertNote(alert_id=delivery.alert.id, at_ms=now_ms, text=text)
        await self._deliveries.done([delivery.id], [note])


class StateNotifications:
    """Sends Alertmanagers which label sets fire and which have ended, as Prometheus does.

    Several alerts may have the same label set, one after the other or of different rules; it fires
    while any of them does. A change is sent at once, a firing label set again each minute, and one
    that ended for 15 minutes unless it fires again.
    """

    def __init__(
        self,
        states: LabelSetStates,
        silences: SilenceRepository,
        stats: AlertingStats,
        now_ms: Callable[[], int],
    ) -> None:
        self._states = states
        self._silences = silences
        self._stats = stats
        self._now_ms = now_ms

    async def deliver(self, notifier: Notifier) -> None:
        """Send a receiver the states that are due. Raises StorageUnavailableError."""
        silences = ActiveSilences(self._silences, self._now_ms, self._stats)
        deadline = time.monotonic() + _ROUND_SECONDS
        while time.monotonic() < deadline:
            now_ms = self._now_ms()
            due = await self._states.claim(
                notifier.name, _BATCH, now_ms, now_ms + _LEASE_MS, _REPETITION
            )
            if not due:
                return
            slots = asyncio.Semaphore(_PARALLEL)
            by_tenant = await self._without_silenced(notifier, due, silences)
            await run_together(
                self._send_of_tenant(notifier, states, deadline, slots) for states in by_tenant
            )

    async def _without_silenced(
        self, notifier: Notifier, due: Sequence[LabelSetState], silences: ActiveSilences
    ) -> list[list[LabelSetState]]:
        """The states of each tenant; silenced ones are postponed."""
        by_tenant: defaultdict[str, list[LabelSetState]] = defaultdict(list)
        waiting: list[StatePostponement] = []
        for state in due:
            is_silenced = await silences.is_silenced(state.tenant, state.alert)
            if is_silenced is False:
                by_tenant[state.tenant].append(state)
            else:
                reason = NOT_COMPARED if is_silenced is None else "silenced"
                waiting.append(StatePostponement(state, _SILENCED_SECONDS, reason, False))
        await self._states.postpone(notifier.name, waiting, self._now_ms())
        return list(by_tenant.values())

    async def _send_of_tenant(
        self,
        notifier: Notifier,
        states: Sequence[LabelSetState],
        deadline: float,
        slots: asyncio.Semaphore,
    ) -> None:
        async with slots:
            await self._send(notifier, states, deadline)

    async def _send(
        self, notifier: Notifier, states: Sequence[LabelSetState], deadline: float
    ) -> None:
        """Send a batch; a refused one is halved until the state at fault is alone."""
        if time.monotonic() >= deadline:
            waiting = [StatePostponement(state, 0.0, "", False) for state in states]
            return await self._states.postpone(notifier.name, waiting, self._now_ms())
        notifications = [
            Notification(key=f"{state.alert.id}", tenant=state.tenant, alert=state.alert)
            for state in states
        ]
        try:
            await notifier.send(notifications, self._now_ms())
        except NotificationRefusedError as exc:
            if len(states) == 1:
                return await self._retry_later(notifier, states, exc)
            middle = len(states) // 2
            await self._send(notifier, states[:middle], deadline)
            await self._send(notifier, states[middle:], deadline)
        except NotificationError as exc:
            await self._retry_later(notifier, states, exc)
        else:
            self._stats.notifications_sent += len(states)
            await self._states.sent(notifier.name, states, self._now_ms())

    async def _retry_later(
        self, notifier: Notifier, states: Sequence[LabelSetState], error: NotificationError
    ) -> None:
        self._stats.notifications_failed += len(states)
        _warn(notifier, len(states), error)
        waiting = [
            StatePostponement(
                state, _delay_seconds(state.failures, _MAX_STATE_DELAY_SECONDS), str(error), True
            )
            for state in states
        ]
        await self._states.postpone(notifier.name, waiting, self._now_ms())


async def run_together(work: Iterable[Awaitable[None]]) -> None:
    """Wait for all of it, then raise the first error."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _warn(notifier: Notifier, n_alerts: int, error: NotificationError) -> None:
    _LOGGER.warning(
        "alerts could not be sent",
        extra={
            "receiver": notifier.name,
            "address": notifier.address,
            "alerts": n_alerts,
            "reason": str(error),
        },
    )


def _delay_seconds(n_failures: int, longest: float) -> float:
    """2 s, 4 s, 8 s …"""
    return min(2.0 ** min(n_failures + 1, 10), longest)


def _tried_for_seconds(n_failures: int) -> float:
    """The sum of the delays after so many failures."""
    return sum(_delay_seconds(number, _MAX_DELAY_SECONDS) for number in range(n_failures))
