"""The series `ALERTS` and `ALERTS_FOR_STATE`, through which PromQL sees alerts as in Prometheus.

Every alert has them, whether of a rule or of a threshold: a sample at each evaluation while it is
pending or firing, and a stale marker at the evaluation that ends it.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import orjson

from promcompat.core.alerts import Alert
from promcompat.core.errors import WriteRejectedError
from promcompat.core.model import METRIC_NAME, STALE_NAN_BITS, Labels, WriteBatch
from promcompat.metrics.metric_service import MetricService

_LOGGER = logging.getLogger(__name__)
_ALERT_STATE: Final = "alertstate"


async def write_alert_series(
    metrics: MetricService,
    tenant: str,
    before: Iterable[Alert],
    after: Iterable[Alert],
    at_ms: int,
) -> bool:
    """Write the series of alerts as an evaluation at `at_ms` left them; those of closed alerts end.

    Returns whether there was something to write. A sample that another writer stored for that time
    is kept. Raises StorageUnavailableError.
    """
    batch = _batch(_samples(after), _samples(before), at_ms)
    if not len(batch):
        return False
    try:
        await metrics.write(tenant, batch)
    except WriteRejectedError as exc:
        _LOGGER.debug("alert series could not be written", extra={"reason": str(exc)})
    return True


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


def _batch(samples: Mapping[Labels, float], before: Iterable[Labels], at_ms: int) -> WriteBatch:
    """The samples, and a stale marker for each series that ended, all of one time."""
    stale = [labels for labels in before if labels not in samples]
    series = [*samples, *stale]
    values = np.array([*samples.values(), *[0.0] * len(stale)], np.float64)
    values.view(np.uint64)[len(samples) :] = STALE_NAN_BITS
    # A key is any bytes unique to the series; the keys of senders never begin with a bracket.
    keys = [orjson.dumps(labels.pairs) for labels in series]
    return WriteBatch.of_keys(
        keys, np.full(len(series), at_ms, np.int64), values, dict(zip(keys, series, strict=True))
    )
