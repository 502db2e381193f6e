"""Silences: making, listing and ending them, and which of them an alert matches."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from promcompat.core.alerting.alerts import Alert, Silence
from promcompat.core.alerting.ports import SilenceRepository
from promcompat.core.errors import ConflictError, FieldFault, InvalidFieldsError, NotFoundError
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.matchers import MatchOp
from promcompat.core.model import Labels
from promcompat.core.offloading import offload

_MAX_AGE_SECONDS: Final = 0.5
_INLINE_SILENCES: Final = 100
"""More are compared with an alert in a thread, so that nobody else waits for that."""


class SilenceIndex:
    """Some silences, by the label that they require: thousands of them cost little for an alert.

    A silence that requires a label to have a value is found by that pair; most do. The others are
    compared with every alert.
    """

    def __init__(self, silences: Sequence[Silence]) -> None:
        self._by_pair: defaultdict[tuple[str, str], list[Silence]] = defaultdict(list)
        self._others: list[Silence] = []
        for silence in silences:
            required = (
                (matcher.name, matcher.value)
                for matcher in silence.all_matchers
                if matcher.op is MatchOp.EQUAL and matcher.value
            )
            pair = next(required, None)
            (self._others if pair is None else self._by_pair[pair]).append(silence)

    def candidates(self, labels: Labels) -> Iterator[Silence]:
        """The silences that may match an alert with these labels."""
        yield from self._others
        for pair in labels:
            yield from self._by_pair.get(pair, ())

    def matching(self, labels: Labels) -> Iterator[Silence]:
        """The silences that match it."""
        return (silence for silence in self.candidates(labels) if silence.matches(labels))


_NO_SILENCES: Final = SilenceIndex(())


class ActiveSilences:
    """The silences during one round of notifications; a long round reads them again."""

    def __init__(self, silences: SilenceRepository, now_ms: Callable[[], int]) -> None:
        self._silences = silences
        self._now_ms = now_ms
        self._by_tenant: dict[str, tuple[float, SilenceIndex]] = {}

    async def is_silenced(self, tenant: str, alert: Alert) -> bool:
        """Whether an alert is silenced now. Raises StorageUnavailableError."""
        index = await self._index_of(tenant)
        now_ms = self._now_ms()
        active = [one for one in index.candidates(alert.labels) if one.is_active(now_ms)]
        has_pattern = any(matcher.has_pattern for one in active for matcher in one.matchers)
        if has_pattern or len(active) > _INLINE_SILENCES:
            return await asyncio.to_thread(_any_matches, active, alert.labels)
        return _any_matches(active, alert.labels)

    async def _index_of(self, tenant: str) -> SilenceIndex:
        read_at_seconds, index = self._by_tenant.get(tenant, (float("-inf"), _NO_SILENCES))
        if time.monotonic() - read_at_seconds > _MAX_AGE_SECONDS:
            silences = await self._silences.active(tenant, self._now_ms())
            index = await offload(len(silences), SilenceIndex, silences)
            self._by_tenant[tenant] = time.monotonic(), index
        return index


def _any_matches(silences: Sequence[Silence], labels: Labels) -> bool:
    return any(silence.matches(labels) for silence in silences)


class SilenceService:
    """Silences of tenants."""

    def __init__(
        self, silences: SilenceRepository, limits: Limits, now_ms: Callable[[], int]
    ) -> None:
        """Concurrent requests may exceed the limit of a tenant's silences a little."""
        self._silences = silences
        self._limits = limits
        self._now_ms = now_ms

    async def create(self, tenant: str, silence: Silence) -> Silence:
        """Create a silence.

        Raises InvalidFieldsError for one that has ended or would match every alert, and
        ConflictError when there are too many.
        """
        if silence.ends_at_ms <= max(silence.starts_at_ms, self._now_ms()):
            fault = FieldFault(
                "ends_at", "is over", "an end after the start and after the current time"
            )
            raise InvalidFieldsError([fault])
        matchers = silence.all_matchers
        if all(matcher.matches_empty() for matcher in matchers):
            expected = (
                "a label or matcher, in `labels` or `matchers`, that does not match the empty "
                "string"
            )
            raise InvalidFieldsError([FieldFault("matchers", "match every alert", expected)])
        limit = self._limits.of(tenant).alertmanager_max_silences_count
        if limit and await self._silences.count(tenant, self._now_ms()) >= limit:
            raise ConflictError(self._limits.refuse(tenant, "alertmanager_max_silences_count"))
        return await self._silences.save(tenant, silence)

    async def get(self, tenant: str, silence_id: int) -> Silence:
        """One silence. Raises NotFoundError."""
        found = await self._silences.page(tenant, silence_id=silence_id)
        if not found:
            raise NotFoundError(f"there is no silence {silence_id}")
        return found[0]

    async def page(
        self, tenant: str, *, includes_ended: bool, before_id: int, limit: int
    ) -> Sequence[Silence]:
        """A page of silences, newest first."""
        after_ms = None if includes_ended else self._now_ms()
        return await self._silences.page(
            tenant, after_ms=after_ms, before_id=before_id, limit=limit
        )

    async def end(self, tenant: str, silence_id: int) -> Silence:
        """End a silence now. Raises NotFoundError."""
        found = await self.get(tenant, silence_id)
        await self._silences.end(tenant, silence_id, self._now_ms())
        return await self.get(tenant, found.id)

    async def silenced_by(self, tenant: str, alerts: Iterable[Alert]) -> Mapping[int, list[int]]:
        """The ids of the active silences that match each open alert, by the id of the alert."""
        silences = await self._silences.active(tenant, self._now_ms())
        if not silences:
            return {}
        # In a thread, as a thousand silences and as many alerts take long.
        return await asyncio.to_thread(_silenced_by, silences, alerts)


def _silenced_by(silences: Sequence[Silence], alerts: Iterable[Alert]) -> Mapping[int, list[int]]:
    index = SilenceIndex(silences)
    found = {
        alert.id: sorted(silence.id for silence in index.matching(alert.labels))
        for alert in alerts
        if alert.state.is_open
    }
    return {alert_id: ids for alert_id, ids in found.items() if ids}
