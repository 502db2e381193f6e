"""Silences: making, listing and ending them, and which of them an alert matches."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from promcompat.alerting.stats import AlertingStats
from promcompat.core.alerting.alerts import Alert, Silence
from promcompat.core.alerting.ports import SilenceRepository
from promcompat.core.errors import (
    ConflictError,
    FieldFault,
    InvalidFieldsError,
    NotFoundError,
    QueryTimeoutError,
)
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.limits.turns import OneOfTenant
from promcompat.core.matchers import MatchOp
from promcompat.core.model import Labels
from promcompat.core.offloading import offload
from promql.budget import TimeLimit, run_limited

_LOGGER = logging.getLogger(__name__)
_MAX_AGE_SECONDS: Final = 0.5
_INLINE_SILENCES: Final = 100
"""More are compared with an alert in a thread, so that nobody else waits for that."""
NOT_COMPARED: Final = "not compared with the silences of the tenant yet, which takes long"
"""Why an alert waits."""
_SECONDS_OF_ROUND: Final = 1.0
"""For the alerts of one tenant; a round takes five."""
_SECONDS_OF_LIST: Final = 10.0
_KEPT_VALUES: Final = 10_000


class SilenceIndex:
    """Some silences, by the label that they require: thousands of them cost little for an alert.

    A silence that requires a label to have a value is found by that pair; most do. The others are
    compared with every alert.
    """

    def __init__(self, silences: Sequence[Silence]) -> None:
        self._by_pair: defaultdict[tuple[str, str], list[Silence]] = defaultdict(list)
        self._others: list[Silence] = []
        for silence in silences:
            pair = _required_pair(silence)
            (self._others if pair is None else self._by_pair[pair]).append(silence)

    def candidates(self, labels: Labels) -> Iterator[Silence]:
        """The silences that may match an alert with these labels."""
        yield from self._others
        for pair in labels:
            yield from self._by_pair.get(pair, ())


def _required_pair(silence: Silence) -> tuple[str, str] | None:
    """A label and the value that it must have, if a silence requires one."""
    required = (
        (matcher.name, matcher.value)
        for matcher in silence.all_matchers
        if matcher.op is MatchOp.EQUAL and matcher.value
    )
    return next(required, None)


_NO_SILENCES: Final = SilenceIndex(())


class ActiveSilences:
    """The silences during one round of notifications; a long round reads them again.

    Comparing them with the alerts of one tenant takes a bounded part of the round, so that the
    alerts of other tenants do not wait for a tenant with costly silences.
    """

    def __init__(
        self,
        silences: SilenceRepository,
        now_ms: Callable[[], int],
        stats: AlertingStats | None = None,
    ) -> None:
        """`stats` counts alerts that take too long to compare, which count as not silenced.

        The comparison would take as long in each later round, and a receiver must hear of them.
        Without `stats` it is never known whether they are silenced, and nothing is done that a
        silence forbids.
        """
        self._silences = silences
        self._stats = stats
        self._now_ms = now_ms
        self._by_tenant: dict[str, tuple[float, SilenceIndex]] = {}
        self._left_seconds: defaultdict[str, float] = defaultdict(lambda: _SECONDS_OF_ROUND)

    async def is_silenced(self, tenant: str, alert: Alert) -> bool | None:
        """Whether an alert is silenced now; None: not known in this round, ask in a later one.

        Raises StorageUnavailableError.
        """
        index = await self._index_of(tenant)
        now_ms = self._now_ms()
        active = [one for one in index.candidates(alert.labels) if one.is_active(now_ms)]
        has_pattern = any(matcher.has_pattern for one in active for matcher in one.matchers)
        if not has_pattern and len(active) <= _INLINE_SILENCES:
            return any(silence.matches(alert.labels) for silence in active)
        if self._left_seconds[tenant] <= 0:
            return None
        # One alert may take all that is left: so each tenant has some of its alerts compared.
        limit, started = TimeLimit.after(_SECONDS_OF_ROUND), time.monotonic()
        comparison = _Comparison(active, alert, limit)
        try:
            return await run_limited(None, limit, comparison.run)
        except QueryTimeoutError:
            # It may have waited for a thread most of the time.
            is_costly = comparison.ran_seconds() > _SECONDS_OF_ROUND / 2
            return self._give_up(tenant, alert) if is_costly else None
        finally:
            self._spend(tenant, time.monotonic() - started)

    def _give_up(self, tenant: str, alert: Alert) -> bool | None:
        """Whether an alert that cannot be compared in time counts as silenced."""
        if self._stats is None:
            return None
        self._stats.notifications_uncompared += 1
        _LOGGER.warning(
            "it takes too long to compare an alert with the silences of its tenant; it is sent "
            "although it may be silenced",
            extra={"tenant": tenant, "alert": alert.id},
        )
        return False

    def _spend(self, tenant: str, seconds: float) -> None:
        left = self._left_seconds[tenant]
        self._left_seconds[tenant] = left - seconds
        if left > 0 >= left - seconds:
            _LOGGER.warning(
                "alerts wait, as it takes long to compare them with the silences of their tenant",
                extra={"tenant": tenant},
            )

    async def _index_of(self, tenant: str) -> SilenceIndex:
        read_at_seconds, index = self._by_tenant.get(tenant, (float("-inf"), _NO_SILENCES))
        if time.monotonic() - read_at_seconds > _MAX_AGE_SECONDS:
            silences = await self._silences.active(tenant, self._now_ms())
            index = await offload(len(silences), SilenceIndex, silences)
            self._by_tenant[tenant] = time.monotonic(), index
        return index


@dataclass(slots=True)
class _Comparison:
    """An alert and the silences that it is compared with, in a thread."""

    silences: Sequence[Silence]
    alert: Alert
    limit: TimeLimit
    _began_at: float | None = None

    def run(self) -> bool:
        """Whether one of the silences matches. Raises QueryTimeoutError."""
        self._began_at = time.monotonic()
        for silence in self.silences:
            self.limit.check_time()
            if silence.matches(self.alert.labels):
                return True
        return False

    def ran_seconds(self) -> float:
        """For how long it has run until now."""
        return 0.0 if self._began_at is None else time.monotonic() - self._began_at


class SilenceService:
    """Silences of tenants."""

    def __init__(
        self, silences: SilenceRepository, limits: Limits, now_ms: Callable[[], int]
    ) -> None:
        """Concurrent requests may exceed the limit of a tenant's silences a little."""
        self._silences = silences
        self._limits = limits
        self._now_ms = now_ms
        self._comparing = OneOfTenant()

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

    async def silenced_by(self, tenant: str, alerts: Sequence[Alert]) -> Mapping[int, list[int]]:
        """The ids of the active silences that match each open alert, by the id of the alert.

        Requests of a tenant wait for each other. Raises QueryTimeoutError if one takes too long.
        """
        silences = await self._silences.active(tenant, self._now_ms())
        if not silences or not alerts:
            return {}
        async with self._comparing.turn(tenant):
            limit = TimeLimit.after(_SECONDS_OF_LIST)
            return await run_limited(None, limit, partial(_silenced_by, silences, alerts, limit))


def _silenced_by(
    silences: Sequence[Silence], alerts: Iterable[Alert], limit: TimeLimit
) -> Mapping[int, list[int]]:
    """Silence by silence: there may be more regular expressions than are kept compiled."""
    open_alerts = [alert for alert in alerts if alert.state.is_open]
    wanted = {_required_pair(silence) for silence in silences}
    by_pair: defaultdict[tuple[str, str], list[Alert]] = defaultdict(list)
    for alert in open_alerts:
        for pair in alert.labels:
            if pair in wanted:
                by_pair[pair].append(alert)
    found: defaultdict[int, list[int]] = defaultdict(list)
    for silence in sorted(silences, key=lambda silence: silence.id):
        required = _required_pair(silence)
        candidates = open_alerts if required is None else by_pair.get(required, ())
        matches = _test_of(silence) if candidates else None
        for alert in candidates:
            limit.check_time()
            if matches is not None and matches(alert.labels):
                found[alert.id].append(silence.id)
    return found


def _test_of(silence: Silence) -> Callable[[Labels], bool]:
    """Whether a label set satisfies all matchers, for many of them, whose values repeat."""
    tests = [
        (matcher.name, lru_cache(_KEPT_VALUES)(matcher.predicate()))
        for matcher in silence.all_matchers
    ]
    return lambda labels: all(test(labels.get(name)) for name, test in tests)
