"""The settings of limits: the defaults for tenants that have no overrides (docs/limits.md)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic_settings import BaseSettings

from promcompat.configuration.types import DurationMs


class LimitSettings(BaseSettings):
    """What bounds tenants; `promcompat.core.limits.limit_definitions` names each limit."""

    limits_file: Path | None = Field(
        None,
        description="YAML file with overrides of limits by tenant, as Mimir's runtime "
        "configuration has them (overrides: {tenant: {limit: value}}). It is read again when it "
        "changes; while it cannot be used, the last ones count.",
    )
    ingestion_rate: NonNegativeInt = Field(
        0,
        description="Samples a second that a tenant may write; beyond that, 429 with Retry-After. "
        "0: any.",
    )
    ingestion_burst_size: PositiveInt = Field(
        200_000,
        description="Samples that a tenant with an ingestion rate may write at once; a request "
        "with more is refused with 400.",
    )
    max_global_series_per_user: NonNegativeInt = Field(
        0, description="Most series of a tenant; the samples of new ones get 400. 0: any number."
    )
    max_global_series_per_metric: NonNegativeInt = Field(
        0, description="Most series of a metric; the samples of new ones get 400. 0: any number."
    )
    past_grace_period: DurationMs = Field(
        0, description="How old a sample may be when it is written; older ones get 400. 0: any age."
    )
    max_total_query_length: DurationMs = Field(
        0, description="Longest time between start and end of a range query. 0: any."
    )
    max_fetched_series_per_query: NonNegativeInt = Field(
        0,
        description="Most series that a query reads; one that needs more gets 422. 0: any number.",
    )
    max_concurrent_queries_per_tenant: NonNegativeInt = Field(
        0,
        description="Most queries of a tenant that a worker runs at the same time. 0: as many as "
        "a worker runs of all tenants together.",
    )
    max_outstanding_requests_per_tenant: PositiveInt = Field(
        100,
        description="Most queries of a tenant that wait for their turn in a worker; another one "
        "gets 429.",
    )
    max_rule_groups: NonNegativeInt = Field(
        0, description="Most groups of rules of a tenant. 0: any number."
    )
    max_alerts_per_rule: NonNegativeInt = Field(
        0,
        description="Most open alerts of one rule; all alerts of a rule that finds more end, and "
        "it is in error. 0: any number.",
    )
    max_tokens_per_tenant: PositiveInt = Field(
        100,
        description="Most access tokens of a tenant that are valid; another one is refused with "
        "409.",
    )
    tenant_weight: Annotated[int, Field(ge=1, le=100)] = Field(
        1,
        description="A tenant's share of ingest, queries and rules while several have work: one of "
        "weight 2 gets twice as much as one of weight 1.",
    )
    max_rules: PositiveInt = Field(
        10_000, description="Most rules of a tenant; another one is refused with 409."
    )
    max_rules_bytes: PositiveInt = Field(
        33_554_432,
        description="Most bytes of all rules of a tenant together (texts and remediations); what "
        "would add to them is refused with 409.",
    )
    max_rules_per_group: PositiveInt = Field(
        1_000,
        description="Most rules of a group, which are evaluated one after another; another "
        "one is refused with 409.",
    )
    max_definitions: PositiveInt = Field(
        10_000, description="Most metric definitions of a tenant; another one is refused with 409."
    )
    max_definitions_bytes: PositiveInt = Field(
        33_554_432,
        description="Most bytes of all metric definitions of a tenant together (texts and "
        "thresholds); what would add to them is refused with 409.",
    )
    max_dashboards: PositiveInt = Field(
        1_000, description="Most dashboards of a tenant; another one is refused with 409."
    )
    max_dashboards_bytes: PositiveInt = Field(
        1_073_741_824,
        description="Most bytes of all dashboards of a tenant together, with the versions that are "
        "kept; another dashboard or version is refused with 409.",
    )
    max_label_names_per_series: Annotated[int, Field(ge=1, le=1000)] = Field(
        30,
        description="Most labels of a series, including its name. This limit and the next four "
        "have Mimir's defaults. A series that exceeds one is refused with 400; the other series "
        "of the request are stored.",
    )
    max_label_names_per_info_series: Annotated[int, Field(ge=1, le=1000)] = Field(
        80, description="Most labels of a series whose metric name ends in _info."
    )
    max_label_name_bytes: Annotated[int, Field(ge=1, le=65_536)] = Field(
        1024, description="Longest label name."
    )
    max_label_value_bytes: Annotated[int, Field(ge=1, le=65_536)] = Field(
        2048,
        description="Longest label value. A metric name may have at most 2000 bytes.",
    )
    max_metadata_bytes: Annotated[int, Field(ge=1, le=2000)] = Field(
        1024,
        description="Longest metric name and unit in metadata; a longer help text is truncated.",
    )
    max_tenants: PositiveInt = Field(
        1000,
        description="Most tenants; the first write of another one is refused with 400.",
    )
    max_future: DurationMs = Field(
        600_000,
        description="How far ahead of now a sample may be; later ones get 400, as in Prometheus. "
        "0 accepts any time.",
    )
    max_silences: PositiveInt = Field(
        1000,
        description="Most silences of a tenant that have not ended; another one is refused with "
        "409.",
    )
    max_exemplars: NonNegativeInt = Field(
        100_000,
        description="Most exemplars of a tenant that are kept, the newest ones (Prometheus: "
        "storage.exemplars.max_exemplars). 0 keeps none.",
    )
