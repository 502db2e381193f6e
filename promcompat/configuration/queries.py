"""The settings of queries."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt
from pydantic_settings import BaseSettings

from promcompat.configuration.types import DAY_MS, MEBIBYTE, DurationMs, Names, PositiveDurationMs
from promql import features

_LONGEST_TIMEOUT_MS: Final = 24 * DAY_MS
"""PostgreSQL keeps the timeout of a statement, a little more than this, in 32 bits of ms."""
DEFAULT_FEATURES: Final = tuple(map(str, features.DEFAULT_FEATURES))


def _check_features(names: tuple[str, ...]) -> tuple[str, ...]:
    known = {*map(str, features.Feature), *features.ALWAYS_ON}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown feature {unknown[0]}; there are {', '.join(sorted(known))}")
    return names


class QuerySettings(BaseSettings):
    """The language of queries, and what a query may take."""

    promql_features: Annotated[Names, AfterValidator(_check_features)] = Field(
        DEFAULT_FEATURES,
        description="Parts of PromQL that Prometheus has behind a flag, by the names of its "
        "--enable-feature: promql-experimental-functions, promql-binop-fill-modifiers, "
        "promql-extended-range-selectors, promql-delayed-name-removal, use-start-timestamps. "
        "Prometheus enables none by default.",
    )
    delayed_name_removal: bool = Field(
        False,
        description="Remove metric names at the end of a query instead of in each function "
        "(Prometheus: --enable-feature=promql-delayed-name-removal).",
    )
    query_timeout: Annotated[DurationMs, Field(gt=0, le=_LONGEST_TIMEOUT_MS)] = Field(
        120_000, description="Longest time a query may take (Prometheus: --query.timeout)."
    )
    query_max_samples: PositiveInt = Field(
        50_000_000,
        description="Most samples a query may hold in memory (Prometheus: --query.max-samples).",
    )
    query_max_memory_bytes: PositiveInt = Field(
        2048 * MEBIBYTE,
        description="Memory one query may use, approximately: its samples, steps, labels and "
        "intermediate results. One that needs more gets 422.",
    )
    queries_max_memory_bytes: NonNegativeInt = Field(
        0,
        description="Memory all queries of a process may use together; a query that needs more "
        "waits for others to end, and gets 503 when its time is up. 0: twice what one query may "
        "use.",
    )
    query_max_concurrency: PositiveInt = Field(
        20,
        description="Most queries a worker runs at the same time (Prometheus: "
        "--query.max-concurrency).",
    )
    query_processes: Annotated[int, Field(ge=0)] = Field(
        4,
        description="Most processes of low priority in which a worker evaluates long queries while "
        "several tenants query, or while samples are written and a tenant's queries take much "
        "time; 0: its own threads do that.",
    )
    query_lookback_delta: PositiveDurationMs = Field(
        300_000,
        description="How far an instant selector looks back for a sample (Prometheus: "
        "--query.lookback-delta).",
    )
    query_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        64 * MEBIBYTE,
        description="Memory of a worker for the results of earlier range queries; 0 keeps none.",
    )
    query_default_step: PositiveDurationMs = Field(
        60_000,
        description="Default step of a subquery (Prometheus: global.evaluation_interval).",
    )

    @property
    def language_features(self) -> features.Features:
        """The features of PromQL that are enabled."""
        chosen = {feature for feature in features.Feature if feature in self.promql_features}
        if self.delayed_name_removal:
            chosen.add(features.Feature.DELAYED_NAME_REMOVAL)
        return frozenset(chosen)
