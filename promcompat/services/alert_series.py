"""The series `ALERTS` and `ALERTS_FOR_STATE`, which show alerts to PromQL as in Prometheus."""

from collections.abc import Iterable, Mapping

import numpy as np
import orjson

from promcompat.core.alerts import AlertState
from promcompat.core.model import METRIC_NAME, STALE_NAN_BITS, Labels, WriteBatch
from promcompat.core.rule_groups import AlertProgress

_ALERT_STATE = "alertstate"


def alert_series(alerts: Mapping[Labels, AlertProgress]) -> dict[Labels, float]:
    """The sample of each series of the open alerts, by the series' labels."""
    samples: dict[Labels, float] = {}
    for labels, progress in alerts.items():
        if progress.state.is_open:
            samples[state_series(labels, progress.state)] = 1.0
            samples[labels.with_label(METRIC_NAME, "ALERTS_FOR_STATE")] = float(
                progress.active_at_ms // 1000
            )
    return samples


def state_series(labels: Labels, state: AlertState) -> Labels:
    """The series of `ALERTS` for an alert in a state."""
    return labels.with_label(METRIC_NAME, "ALERTS").with_label(_ALERT_STATE, state.value)


def alert_batch(samples: Mapping[Labels, float], ended: Iterable[Labels], at_ms: int) -> WriteBatch:
    """The samples, and a stale marker for each series that ended, all of one time."""
    stale = [labels for labels in ended if labels not in samples]
    series = [*samples, *stale]
    values = np.array([*samples.values(), *[0.0] * len(stale)], np.float64)
    values.view(np.uint64)[len(samples) :] = STALE_NAN_BITS
    # Any bytes that name a series alone are a key; no sender's begin with a bracket.
    keys = [orjson.dumps(labels.pairs) for labels in series]
    return WriteBatch(
        keys, np.full(len(series), at_ms, np.int64), values, dict(zip(keys, series, strict=True))
    )
