"""What checks, starts and verifies remediations."""

import logging
from typing import TYPE_CHECKING

from promcompat.composition.options import action_policy, temporal_options
from promcompat.configuration.settings import Settings
from promcompat.core.alerting.remediation import RemediationJournal
from promcompat.querying.query_service import QueryService
from promcompat.remediation.conditions import ConditionChecker
from promcompat.remediation.payloads import REMEDIATION_WORKFLOW
from promcompat.remediation.registry import RegistryError, load_registered
from promcompat.remediation.spec_check import SpecChecker
from promcompat.remediation.temporal import UnconfiguredRemediationLauncher
from sql.alerting.alert_repository import PostgresAlertRepository
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.metric_storage import MetricStorage

if TYPE_CHECKING:
    from promcompat.remediation.launcher import TemporalRemediationLauncher


_LOGGER = logging.getLogger(__name__)


def build_remediation_check(settings: Settings) -> SpecChecker:
    """What checks remediations when they are defined."""
    workflow_types: frozenset[str] | None
    try:
        registered = load_registered(settings.remediation_package)
    except RegistryError as exc:
        # The worker needs the package and fails without it; the service only checks less.
        _LOGGER.warning("workflow types are not checked", extra={"reason": str(exc)})
        workflow_types = None
    else:
        workflow_types = frozenset({REMEDIATION_WORKFLOW, *registered.workflow_types})
    return SpecChecker(settings.task_queue, action_policy(settings), workflow_types)


def build_launcher(
    settings: Settings, journal: RemediationJournal
) -> "TemporalRemediationLauncher | UnconfiguredRemediationLauncher":
    """What starts remediations; Temporal is reached when the first one starts."""
    if settings.temporal_address is None:
        return UnconfiguredRemediationLauncher(journal)
    # Imported here: Temporal's client takes 0.3 s and 30 MB, and most services do not need it.
    from promcompat.remediation.launcher import TemporalRemediationLauncher

    return TemporalRemediationLauncher(
        temporal_options(settings, settings.temporal_address), journal
    )


def build_condition_checker(queries: QueryService, storage: MetricStorage) -> ConditionChecker:
    """What a remediation worker verifies conditions with."""
    database, samples = storage.database, storage.sample_lookup
    return ConditionChecker(
        queries,
        PostgresAlertRepository(database, database.read_pool, samples, (), queries.now_ms),
        PostgresRuleRepository(database),
        PostgresDefinitionRepository(database),
    )
