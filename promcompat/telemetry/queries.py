"""The metrics of queries."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from promcompat.telemetry.instruments import SECONDS


class QueryMetrics:
    """What queries cost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stage_seconds = Histogram(
            "promcompat_query_stage_duration_seconds",
            "Query time by stage; the stages are those of the stats parameter.",
            ("stage",),
            registry=registry,
            buckets=SECONDS,
        )
        self._observe_stage: dict[str, Callable[[float], None]] = {}
        self.samples = Counter(
            "promcompat_query_samples", "Samples read by queries.", registry=registry
        )
        self.steps_reused = Counter(
            "promcompat_query_steps_reused",
            "Steps of range queries taken from the result cache.",
            registry=registry,
        )
        self.cache_hits = Counter(
            "promcompat_query_cache_hits",
            "Range queries answered in part or in full from the result cache.",
            registry=registry,
        )

    def observe(
        self, timings_seconds: Mapping[str, float], n_samples: int, n_steps_reused: int = 0
    ) -> None:
        """Count one query."""
        if n_steps_reused:
            self.steps_reused.inc(n_steps_reused)
            self.cache_hits.inc()
        self.samples.inc(n_samples)
        for stage, seconds in timings_seconds.items():
            observe = self._observe_stage.get(stage)
            if observe is None:
                observe = self._observe_stage[stage] = self.stage_seconds.labels(stage).observe
            observe(seconds)
