"""The table of the limits that a tenant has: names, units, and what exceeding them does.

The API, the command line, the file of overrides and docs/limits.md take them from here, and so does
`TenantLimits`, which has the values. The settings have the defaults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.errors import BadDataError
from promcompat.core.texts.durations import format_duration_ms, parse_duration_ms

LimitValues = Mapping[str, int]
"""Values by the names of the limits."""
DURATION: Final = "duration"
"""The unit of limits that are written as `10m`, and kept in milliseconds."""
LARGEST_NUMBER: Final = 1 << 53
"""Many readers of JSON round larger numbers, and some columns of the database cannot hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitDefinition:
    """A limit: its name (Mimir's, if Mimir has it), what it bounds, and what exceeding it does.

    `setting` has the default. `status` is the status of the answer to a request that exceeds the
    limit (for limits of rules, in the ruler API; the native API answers 409). `reason` is the label
    of the metric that counts such requests, or their samples if `counts_samples`; it is empty if
    the limit refuses nothing. A value of 0 means `zero`, unless `least` is above 0.
    """

    name: str
    setting: str
    unit: str
    bounds: str
    text: str
    reason: str
    status: int
    least: int = 0
    most: int = LARGEST_NUMBER
    counts_samples: bool = False
    zero: str = "no limit"

    def parse(self, value: object) -> int:
        """A value as the API, the file and the command line give it. Raises BadDataError."""
        if isinstance(value, str):
            return self._within_bounds(self._read(value), value)
        if self.is_duration and value != 0:
            # Nobody can tell whether a number means milliseconds, seconds or hours.
            return self._within_bounds(None, value)
        return self.check(value)

    def check(self, value: object) -> int:
        """A value as it is kept. Raises BadDataError for what is no number within the bounds."""
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        return self._within_bounds(number, value)

    def _read(self, text: str) -> int | None:
        try:
            return parse_duration_ms(text) if self.is_duration else int(text)
        except ValueError:
            return None

    def _within_bounds(self, number: int | None, given: object) -> int:
        if number is None or not self.least <= number <= self.most:
            raise BadDataError(f"{self.name}: {given!r} is not allowed; expected {self.expected}")
        return number

    @property
    def is_duration(self) -> bool:
        """Whether the value is a time."""
        return self.unit == DURATION

    @property
    def expected(self) -> str:
        """What a value may be."""
        if self.is_duration:
            return f"a duration such as 10m or 1h, or 0 for {self.zero}"
        off = "" if self.least else f", 0 for {self.zero}"
        return f"a whole number from {self.least} to {self.most}{off}"

    def shown(self, value: int) -> int | str:
        """A value as the API shows it."""
        return format_duration_ms(value) if self.is_duration else value

    def exceeded(self, limit: int, detail: str = "") -> str:
        """Why something is refused, and how to change that."""
        reason = self.text.format(limit=self.shown(limit))
        return f"{reason}{detail} ({self.how_to_change})"

    @property
    def how_to_change(self) -> str:
        """For the end of an error."""
        setting = f"PROMCOMPAT_{self.setting.upper()}"
        return (
            f"limit {self.name}; change it for the tenant with promcompat limits set or "
            f"PUT /api/v1/limits, for all with {setting}"
        )


def _definition(name: str, setting: str = "", **fields: object) -> LimitDefinition:
    return LimitDefinition(name=name, setting=setting or name, **fields)  # type: ignore[arg-type]


LIMITS: Final[Sequence[LimitDefinition]] = (
    _definition(
        "ingestion_rate",
        unit="samples/s",
        bounds="Samples that senders may write in a second, on average.",
        text="the tenant exceeded the ingestion rate limit of {limit} samples/s",
        reason="rate_limited",
        status=429,
        counts_samples=True,
    ),
    _definition(
        "ingestion_burst_size",
        unit="samples",
        bounds="Samples of one request, and of a burst above `ingestion_rate`.",
        text="the request has more samples than the ingestion burst size limit of {limit}",
        reason="burst_exceeded",
        status=400,
        least=1,
        counts_samples=True,
    ),
    _definition(
        "max_global_series_per_user",
        unit="series",
        bounds="Series of the tenant that are stored; known series go on.",
        text="per-user series limit of {limit} exceeded",
        reason="per_user_series_limit",
        status=400,
        counts_samples=True,
    ),
    _definition(
        "max_global_series_per_metric",
        unit="series",
        bounds="Series of one metric name that are stored; known series go on.",
        text="per-metric series limit of {limit} exceeded",
        reason="per_metric_series_limit",
        status=400,
        counts_samples=True,
    ),
    _definition(
        "max_label_names_per_series",
        unit="labels",
        bounds="Labels of a series, its name included.",
        text="the series has more than {limit} labels",
        reason="max_label_names_per_series",
        status=400,
        least=1,
        most=1000,
        counts_samples=True,
    ),
    _definition(
        "max_label_names_per_info_series",
        unit="labels",
        bounds="The same of a series whose metric name ends in _info.",
        text="the info series has more than {limit} labels",
        reason="max_label_names_per_info_series",
        status=400,
        least=1,
        most=1000,
        counts_samples=True,
    ),
    _definition(
        "max_label_name_length",
        "max_label_name_bytes",
        unit="bytes",
        bounds="Length of a label name.",
        text="a label name is longer than {limit} bytes",
        reason="label_name_too_long",
        status=400,
        least=1,
        most=65_536,
        counts_samples=True,
    ),
    _definition(
        "max_label_value_length",
        "max_label_value_bytes",
        unit="bytes",
        bounds="Length of a label value; a metric name has at most 2000 bytes besides.",
        text="a label value is longer than {limit} bytes",
        reason="label_value_too_long",
        status=400,
        least=1,
        most=65_536,
        counts_samples=True,
    ),
    _definition(
        "max_metadata_length",
        "max_metadata_bytes",
        unit="bytes",
        bounds="Length of metric name and unit in metadata; a longer help text is cut.",
        text="metadata is longer than {limit} bytes",
        reason="metadata_too_long",
        status=400,
        least=1,
        most=2000,
    ),
    _definition(
        "creation_grace_period",
        "max_future",
        unit=DURATION,
        bounds="How far ahead of now a sample may be.",
        text="out of bounds: timestamp is too far in the future",
        reason="too_far_in_future",
        status=400,
        counts_samples=True,
    ),
    _definition(
        "past_grace_period",
        unit=DURATION,
        bounds="How old a sample may be when it is written.",
        text="out of bounds: the sample is older than {limit}",
        reason="too_far_in_past",
        status=400,
        counts_samples=True,
    ),
    _definition(
        "max_global_exemplars_per_user",
        "max_exemplars",
        unit="exemplars",
        bounds="Exemplars that are kept, the newest ones; 0 keeps none.",
        text="",
        reason="",
        status=200,
        zero="none",
    ),
    _definition(
        "max_total_query_length",
        unit=DURATION,
        bounds="Time between start and end of a range query, and of `series` and `aggregate` of "
        "the native API.",
        text="the total query time range exceeds the limit of {limit}",
        reason="max_total_query_length",
        status=400,
    ),
    _definition(
        "max_fetched_series_per_query",
        unit="series",
        bounds="Series that the selectors of a query read together.",
        text="the query exceeded the maximum number of series (limit: {limit} series)",
        reason="max_series_per_query",
        status=422,
    ),
    _definition(
        "max_samples_per_query",
        "query_max_samples",
        unit="samples",
        bounds="Samples that a query holds in memory at once.",
        text="query processing would load too many samples into memory in query execution",
        reason="max_samples_per_query",
        status=422,
        least=1,
    ),
    _definition(
        "max_estimated_memory_consumption_per_query",
        "query_max_memory_bytes",
        unit="bytes",
        bounds="Memory that a query holds, approximately.",
        text="query would hold more than {limit} bytes in memory in query execution",
        reason="max_memory_per_query",
        status=422,
        least=1,
    ),
    _definition(
        "max_concurrent_queries",
        "max_concurrent_queries_per_tenant",
        unit="queries",
        bounds="Queries that run at the same time in one process; others wait for their turn.",
        text="",
        reason="",
        status=200,
    ),
    _definition(
        "max_outstanding_requests_per_tenant",
        unit="queries",
        bounds="Queries that wait for their turn in one process.",
        text="too many outstanding requests: {limit} queries of the tenant are waiting",
        reason="too_many_outstanding_requests",
        status=429,
        least=1,
    ),
    _definition(
        "ruler_max_rules_per_rule_group",
        "max_rules_per_group",
        unit="rules",
        bounds="Rules of a group.",
        text="per-user rules per rule group limit (limit: {limit}) exceeded",
        reason="max_rules_per_rule_group",
        status=400,
    ),
    _definition(
        "ruler_max_rule_groups_per_tenant",
        "max_rule_groups",
        unit="groups",
        bounds="Groups of rules.",
        text="per-user rule groups limit (limit: {limit}) exceeded",
        reason="max_rule_groups",
        status=400,
    ),
    _definition(
        "max_rules",
        unit="rules",
        bounds="Rules of all groups together.",
        text="the tenant would have more than {limit} rules",
        reason="max_rules",
        status=400,
    ),
    _definition(
        "max_rules_bytes",
        unit="bytes",
        bounds="All rules together: their texts and remediations.",
        text="the rules of the tenant would have more than {limit} bytes",
        reason="max_rules_bytes",
        status=400,
    ),
    _definition(
        "max_definitions",
        unit="definitions",
        bounds="Metric definitions.",
        text="the tenant already has {limit} definitions",
        reason="max_definitions",
        status=409,
    ),
    _definition(
        "max_definitions_bytes",
        unit="bytes",
        bounds="All metric definitions together: their texts and thresholds.",
        text="the definitions of the tenant would have more than {limit} bytes",
        reason="max_definitions_bytes",
        status=409,
    ),
    _definition(
        "max_dashboards",
        unit="dashboards",
        bounds="Dashboards.",
        text="the tenant already has {limit} dashboards",
        reason="max_dashboards",
        status=409,
    ),
    _definition(
        "max_dashboards_bytes",
        unit="bytes",
        bounds="All dashboards together, with each version that is kept.",
        text="the dashboards of the tenant would have more than {limit} bytes with their versions",
        reason="max_dashboards_bytes",
        status=409,
    ),
    _definition(
        "alertmanager_max_silences_count",
        "max_silences",
        unit="silences",
        bounds="Silences that have not ended.",
        text="the tenant already has {limit} silences that have not ended",
        reason="max_silences",
        status=409,
    ),
    _definition(
        "max_alerts_per_rule",
        unit="alerts",
        bounds="Open alerts of one rule; all alerts of a rule that finds more end.",
        text="exceeded limit of {limit} with too many alerts of one rule",
        reason="max_alerts",
        status=422,
    ),
    _definition(
        "max_tokens",
        "max_tokens_per_tenant",
        unit="tokens",
        bounds="Access tokens of the tenant that have not expired.",
        text="the tenant already has {limit} tokens",
        reason="max_tokens",
        status=409,
    ),
    _definition(
        "weight",
        "tenant_weight",
        unit="",
        bounds="The tenant's share of ingest, queries and rules while several tenants have work.",
        text="",
        reason="",
        status=200,
        least=1,
        most=100,
    ),
)
LIMIT_OF: Final[Mapping[str, LimitDefinition]] = {limit.name: limit for limit in LIMITS}


def parse_overrides(given: Mapping[str, object]) -> dict[str, int]:
    """Overrides by name. Raises BadDataError for an unknown name or a value not allowed."""
    return {name: limit_named(name).parse(value) for name, value in given.items()}


def limit_named(name: str) -> LimitDefinition:
    """The limit of a name. Raises BadDataError for an unknown one."""
    limit = LIMIT_OF.get(name)
    if limit is None:
        raise BadDataError(f"there is no limit {name!r}; expected one of {', '.join(LIMIT_OF)}")
    return limit
