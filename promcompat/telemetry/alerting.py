"""The metrics of rules, alerts and remediations."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

from promcompat.telemetry.instruments import Totals

_ALERTING_COUNTERS = {
    "rule_evaluations": "Evaluations of rules.",
    "rule_evaluation_failures": "Evaluations that ended in an error.",
    "rule_evaluations_missed": "Evaluations that were skipped because earlier ones took too long "
    "or no process ran.",
    "rule_evaluation_seconds": "Time spent evaluating rules.",
    "rule_file_loads": "Times that changed rule files were loaded.",
    "rule_file_failures": "Times that changed rule files were refused, so that the old rules stay.",
    "breaches_handled": "Changes of breach levels read from the outbox.",
    "notifications_sent": "Alerts that receivers accepted.",
    "notifications_failed": "Alerts that receivers did not accept; they are sent again.",
    "notifications_outdated": "Firing notifications not sent because the alert had already ended.",
    "notifications_given_up": "Notifications given up because they were too old or too many were "
    "waiting.",
    "notifications_uncompared": "Alerts sent without knowing whether they are silenced, which took "
    "too long to find out.",
    "remediations_requested": "Remediations started on the workflow service.",
    "remediations_failed": "Remediations that the workflow service did not accept.",
}
_REMEDIATION_COUNTERS = {
    "started": "Remediation workflows started.",
    "already_started": "Starts of workflows that were already running.",
    "unavailable": "Starts that failed because Temporal could not be reached; they are retried.",
    "refused": "Starts that Temporal rejected for good; their remediations have failed.",
}


class AlertingMetrics:
    """Rules, alerts, and what waits for receivers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals = Totals("promcompat_alerting", _ALERTING_COUNTERS, registry)
        self._alerts = Gauge(
            "promcompat_alerts",
            "Open alerts by state.",
            ("state",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._depth = Gauge(
            "promcompat_alerting_outbox_rows",
            "Waiting entries, by outbox.",
            ("outbox",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def update(
        self,
        totals: Mapping[str, float],
        alerts_by_state: Mapping[str, int],
        rows_by_outbox: Mapping[str, int],
    ) -> None:
        """Publish totals, which only grow, and the counts of this moment."""
        self._totals.follow(totals)
        for state in ("pending", "firing"):
            self._alerts.labels(state).set(alerts_by_state.get(state, 0))
        for outbox, n_rows in rows_by_outbox.items():
            self._depth.labels(outbox).set(n_rows)


class RemediationMetrics:
    """Starts of remediation workflows, and how many remediations are open."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals = Totals("promcompat_remediation", _REMEDIATION_COUNTERS, registry)
        self._is_reachable = Gauge(
            "promcompat_remediation_temporal_reachable",
            "Whether the last call to Temporal succeeded.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._open = Gauge(
            "promcompat_remediations_open",
            "Remediations that have not ended, by state.",
            ("state",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def update(self, totals: Mapping[str, float], open_by_state: Mapping[str, int]) -> None:
        """Publish the launcher's totals, which only grow, and the counts of this moment."""
        self._totals.follow(totals)
        self._is_reachable.set(totals.get("is_reachable", 0.0))
        for state, n_remediations in open_by_state.items():
            self._open.labels(state).set(n_remediations)
