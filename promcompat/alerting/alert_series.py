"""The series `ALERTS` and `ALERTS_FOR_STATE`, through which PromQL sees alerts as in Prometheus.

Every alert has them, whether of a rule or of a threshold: a sample at each evaluation while it is
pending or firing, and a stale marker at the evaluation that ends it.
"""

import logging
from collections.abc import Collection, Iterable
from typing import Final

from promcompat.alerting.written_series import rule_batch
from promcompat.core.alerting.alerts import Alert
from promcompat.core.errors import WriteRejectedError
from promcompat.core.model import METRIC_NAME, Labels, WriteBatch
from promcompat.core.offloading import offload
from promcompat.core.ports import SampleWriter

_LOGGER = logging.getLogger(__name__)
_ALERT_STATE: Final = "alertstate"


async def write_alert_series(
    writer: SampleWriter,
    tenant: str,
    before: Collection[Alert],
    after: Collection[Alert],
    at_ms: int,
) -> bool:
    """Write the series of alerts as an evaluation at `at_ms` left them; those of closed alerts end.

    Returns whether there was something to write. A sample that another writer stored for that time
    is kept. Raises StorageUnavailableError.
    """
    if not before and not after:
        return False
    batch = await offload(len(before) + len(after), _batch_of, before, after, at_ms)
    if not len(batch):
        return False
    try:
        await writer.write(tenant, batch)
    except WriteRejectedError as exc:
        _LOGGER.debug("alert series could not be written", extra={"reason": str(exc)})
    return True


def _batch_of(before: Iterable[Alert], after: Iterable[Alert], at_ms: int) -> WriteBatch:
    samples = _samples(after)
    stale = [labels for labels in _samples(before) if labels not in samples]
    return rule_batch(samples, stale, at_ms)


def _samples(alerts: Iterable[Alert]) -> dict[Labels, float]:
    """The sample of each series of the open alerts, by the series' labels."""
    samples: dict[Labels, float] = {}
    for alert in alerts:
        if alert.state.is_open:
            named = alert.labels.with_label(METRIC_NAME, "ALERTS")
            samples[named.with_label(_ALERT_STATE, alert.state.value)] = 1.0
            samples[alert.labels.with_label(METRIC_NAME, "ALERTS_FOR_STATE")] = float(
                alert.active_at_ms // 1000
            )
    return samples
