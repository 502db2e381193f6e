"""Counters of alerting; the composition root publishes them."""

from dataclasses import dataclass


@dataclass(slots=True)
class AlertingStats:
    """Running totals since the process started."""

    rule_evaluations: int = 0
    rule_evaluation_failures: int = 0
    rule_evaluations_missed: int = 0
    rule_file_loads: int = 0
    rule_file_failures: int = 0
    rule_evaluation_seconds: float = 0.0
    breaches_handled: int = 0
    notifications_sent: int = 0
    notifications_failed: int = 0
    notifications_outdated: int = 0
    notifications_given_up: int = 0
    notifications_uncompared: int = 0
    remediations_requested: int = 0
    remediations_failed: int = 0
