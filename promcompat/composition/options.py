"""Settings as the options of each part."""

from collections.abc import Mapping
from typing import Final

from promcompat.alerting.senders import OutgoingLabels
from promcompat.composition.limits import same_limits
from promcompat.composition.outgoing import action_outgoing_policy, named_secrets
from promcompat.configuration.settings import Settings
from promcompat.core.errors import BadDataError
from promcompat.core.exemplars import ExemplarLimits
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.relabelling import parse_relabel_rules
from promcompat.core.texts.file_faults import reading_fault
from promcompat.database import (
    is_own_database,
)
from promcompat.limits.current_limits import CurrentLimits
from promcompat.otlp.names import TranslationStrategy
from promcompat.otlp.resources import OtlpOptions
from promcompat.remediation.actions import ActionPolicy
from promcompat.remediation.temporal import TemporalOptions
from promql.engine import EngineOptions
from sql.database.database import DatabaseOptions
from sql.embedded.server_settings import memory_bytes
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.draining.drainer import DrainOptions
from sql.samples.storage_options import StorageOptions, StoreKind
from sql.samples.writing.backlog import BacklogLimits

_LEAST_SERIES_CACHE_BYTES: Final = 256 << 20
_MOST_SERIES_CACHE_BYTES: Final = 8 << 30


def engine_options(settings: Settings) -> EngineOptions:
    """The limits of queries."""
    return EngineOptions(
        lookback_delta_ms=settings.query_lookback_delta,
        max_samples=settings.query_max_samples,
        max_memory_bytes=settings.query_max_memory_bytes,
        max_shared_memory_bytes=settings.queries_max_memory_bytes
        or 2 * settings.query_max_memory_bytes,
        timeout_seconds=settings.query_timeout / 1000,
        features=settings.language_features,
        default_subquery_step_ms=settings.query_default_step,
        max_concurrency=settings.query_max_concurrency,
    )


def database_options(settings: Settings) -> DatabaseOptions:
    """The limits of connections."""
    return DatabaseOptions(
        query_timeout_seconds=settings.query_timeout / 1000,
        is_own_server=is_own_database(settings),
        max_tenants=settings.max_tenants,
    )


def storage_options(settings: Settings, limits: Limits | None = None) -> StorageOptions:
    """The limits of what is kept and remembered; without `limits`, tenants have no overrides."""
    return StorageOptions(
        store=None if settings.store is None else StoreKind(settings.store),
        max_samples=settings.query_max_samples,
        max_memory_bytes=settings.query_max_memory_bytes,
        max_head_bytes=settings.head_bytes,
        series_cache_bytes=settings.series_cache_bytes
        or default_series_cache_bytes(memory_bytes(), settings.workers),
        limits=limits or same_limits(settings),
        pushdown=PushdownMode.AUTO if settings.pushdown else PushdownMode.OFF,
        alert_max_sample_age_ms=settings.alert_max_sample_age,
        backlog=backlog_limits(settings),
        drains=drain_options(settings),
        retention_days=settings.retention_days,
        rollup_retention_days=settings.rollup_retention_days,
        coarse_rollups=settings.coarse_rollups,
    )


def default_series_cache_bytes(machine_bytes: int, n_workers: int) -> int:
    """An eighth of the memory for all workers together, within bounds for each."""
    share = machine_bytes // (8 * n_workers)
    return min(max(share, _LEAST_SERIES_CACHE_BYTES), _MOST_SERIES_CACHE_BYTES)


def backlog_limits(settings: Settings) -> BacklogLimits:
    """How much may wait to be drained."""
    max_bytes = settings.max_undrained_bytes
    of_tenant = settings.max_tenant_undrained_bytes or max_bytes * 3 // 4
    return BacklogLimits(max_bytes=max_bytes, max_tenant_bytes=of_tenant)


def drain_options(settings: Settings) -> DrainOptions:
    """Draining begins at a quarter of what fits into the head, or half of what may wait.

    So a head has room for what comes while drains are behind, and takes no more than it needs while
    they are not.
    """
    backlog = backlog_limits(settings)
    most = min(settings.head_bytes // 2, backlog.max_bytes, backlog.max_tenant_bytes)
    return DrainOptions(start_bytes=most // 2)


def otlp_options(settings: Settings) -> OtlpOptions:
    """How OTLP is translated."""
    promotes_all = settings.otlp_promote_all_resource_attributes
    promoted = settings.otlp_promote_resource_attributes
    ignored = settings.otlp_ignore_resource_attributes
    return OtlpOptions(
        strategy=TranslationStrategy(settings.otlp_translation_strategy),
        promoted=frozenset(ignored if promotes_all else promoted),
        promotes_all=promotes_all,
        keeps_identifying=settings.otlp_keep_identifying_resource_attributes,
        promotes_scope=settings.otlp_promote_scope_metadata,
        converts_to_custom_buckets=settings.otlp_convert_histograms_to_nhcb,
        target_info_interval_ms=max(1, settings.query_lookback_delta // 2),
        sums_deltas=settings.otlp_delta == "cumulative",
    )


def exemplar_limits(settings: Settings, current: CurrentLimits) -> ExemplarLimits:
    """What is kept of exemplars."""

    def overrides() -> Mapping[str, int]:
        name = "max_global_exemplars_per_user"
        return {
            tenant: values[name]
            for tenant, values in current.all_overrides().items()
            if name in values
        }

    return ExemplarLimits(
        max_per_series=settings.max_exemplars_per_series,
        max_per_tenant=settings.max_exemplars,
        retention_ms=settings.exemplar_retention,
        overrides=overrides,
    )


def action_policy(settings: Settings) -> ActionPolicy:
    """What the operator lets remediations touch."""
    return ActionPolicy(
        commands=settings.remediation_commands,
        http_hosts=frozenset(settings.remediation_http_hosts),
        sql_functions=frozenset(settings.remediation_sql_functions),
        outgoing=action_outgoing_policy(settings),
        secrets=named_secrets(settings),
        max_recorded_characters=settings.outgoing_answer_bytes,
    )


def temporal_options(settings: Settings, address: str) -> TemporalOptions:
    """How to reach the Temporal at an address."""
    api_key = settings.temporal_api_key
    return TemporalOptions(
        address=address,
        namespace=settings.temporal_namespace,
        api_key=api_key.get_secret_value() if api_key else None,
        uses_tls=settings.temporal_tls,
        timeout_seconds=settings.temporal_timeout / 1000,
    )


def outgoing_labels(settings: Settings) -> OutgoingLabels:
    """How the labels of alerts change on their way out.

    Raises BadDataError for a relabelling file that cannot be used.
    """
    path = settings.alert_relabel_file
    if path is None:
        return OutgoingLabels(settings.external_label_set)
    try:
        rules = parse_relabel_rules(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BadDataError) as exc:
        raise BadDataError(f"PROMCOMPAT_ALERT_RELABEL_FILE {path}: {reading_fault(exc)}") from exc
    return OutgoingLabels(settings.external_label_set, tuple(rules))
