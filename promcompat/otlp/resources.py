"""The labels that resources and scopes give to every series of theirs, and `target_info`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from promcompat.otlp.attribute_text import sorted_pairs, text_of
from promcompat.otlp.names import TranslationStrategy, label_name

_NAMESPACE, _NAME, _INSTANCE = "service.namespace", "service.name", "service.instance.id"
_IDENTIFYING: Final = frozenset((_NAMESPACE, _NAME, _INSTANCE))
TARGET_INFO: Final = "target_info"

_label_name = lru_cache(1 << 14)(label_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpOptions:
    """How requests are translated; names and defaults are those of Prometheus' `otlp:` section.

    `promoted` names the resource attributes that become labels; with `promotes_all` it names those
    that do not. `target_info` gets a sample every `target_info_interval_ms` of a request's time.
    """

    strategy: TranslationStrategy = TranslationStrategy.ESCAPED
    promoted: frozenset[str] = frozenset()
    promotes_all: bool = False
    keeps_identifying: bool = False
    promotes_scope: bool = False
    target_info_interval_ms: int = 150_000
    sums_deltas: bool = False


def labels_of(pairs: Sequence[tuple[str, str]], strategy: TranslationStrategy) -> dict[str, str]:
    """Attributes, sorted by key, as labels; values of attributes with one name are joined."""
    labels: dict[str, str] = {}
    for key, value in pairs:
        name = _label_name(key, strategy)
        labels[name] = f"{labels[name]};{value}" if name in labels else value
    return labels


@dataclass(frozen=True, slots=True)
class SeriesLabels:
    """What a resource and a scope add: `promoted` only where a point has no such attribute."""

    promoted: dict[str, str]
    fixed: dict[str, str]
    strategy: TranslationStrategy

    def of_point(self, attributes: Sequence[KeyValue]) -> dict[str, str]:
        """The labels of a data point's series, without the metric's name."""
        labels = labels_of(sorted_pairs(attributes), self.strategy)
        for name, value in self.promoted.items():
            labels.setdefault(name, value)
        labels.update(self.fixed)
        return labels

    def within(self, scope: InstrumentationScope, schema_url: str) -> "SeriesLabels":
        """The same in a scope, whose name, version and attributes become labels."""
        if not scope.name:
            return self
        labels = {
            "otel_scope_name": scope.name,
            "otel_scope_version": scope.version,
            "otel_scope_schema_url": schema_url,
        }
        for key, value in sorted_pairs(scope.attributes):
            labels[_label_name(f"otel_scope_{key}", self.strategy)] = value
        return SeriesLabels(self.promoted, labels | self.fixed, self.strategy)


def series_labels(resource: Resource, options: OtlpOptions) -> SeriesLabels:
    """What a resource adds to every series."""
    strategy = options.strategy
    promoted = [
        (key, value)
        for key, value in sorted_pairs(resource.attributes)
        if (key in options.promoted) != options.promotes_all
    ]
    return SeriesLabels(labels_of(promoted, strategy), _identity(resource), strategy)


def _identity(resource: Resource) -> dict[str, str]:
    """`job` and `instance`."""
    texts = {
        attribute.key: text_of(attribute.value)
        for attribute in resource.attributes
        if attribute.key in _IDENTIFYING
    }
    identity = {}
    if _NAME in texts:
        namespace = f"{texts[_NAMESPACE]}/" if _NAMESPACE in texts else ""
        identity["job"] = namespace + texts[_NAME]
    if _INSTANCE in texts:
        identity["instance"] = texts[_INSTANCE]
    return identity


def target_info_labels(resource: Resource, options: OtlpOptions) -> dict[str, str] | None:
    """The labels of the `target_info` of a resource; None if it would say nothing."""
    identity = _identity(resource)
    pairs = sorted_pairs(resource.attributes)
    others = [pair for pair in pairs if pair[0] not in _IDENTIFYING]
    if not others or not identity:
        return None
    kept = pairs if options.keeps_identifying else others
    return labels_of(kept, options.strategy) | identity
