"""The labels that resources and scopes give to every series of theirs, and `target_info`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.otlp.attributes import Attribute, decode_attributes, joined_labels, label_fields
from promcompat.otlp.export_pb2 import Resource, Scope
from promcompat.otlp.names import TranslationStrategy, label_name
from promcompat.otlp.point_keys import PointKeys, encode_labels

_NAMESPACE, _NAME, _INSTANCE = "service.namespace", "service.name", "service.instance.id"
_IDENTIFYING: Final = frozenset((_NAMESPACE, _NAME, _INSTANCE))
TARGET_INFO: Final = "target_info"


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
    converts_to_custom_buckets: bool = False
    target_info_interval_ms: int = 150_000
    sums_deltas: bool = False


@dataclass(frozen=True, slots=True)
class SeriesLabels:
    """What a resource and a scope add: `promoted` only where a point has no such attribute.

    Labels are encoded as remote write has them, by name.
    """

    promoted: dict[str, bytes]
    fixed: dict[str, bytes]
    strategy: TranslationStrategy

    def of_point(self, attributes: Sequence[bytes]) -> dict[str, bytes]:
        """The labels of a data point's series, without the metric's name.

        Raises BadDataError for an attribute that is malformed.
        """
        labels = label_fields(decode_attributes(attributes, self.strategy))
        if self.promoted:
            labels = self.promoted | labels
        labels.update(self.fixed)
        return labels

    def within(self, scope: Scope, schema_url: str) -> "SeriesLabels":
        """The same in a scope, whose name, version and attributes become labels."""
        if not scope.name:
            return self
        labels = {}
        for attribute in decode_attributes(scope.attributes, self.strategy):
            name = label_name(f"otel_scope_{attribute.key}", self.strategy)
            labels[name] = attribute.text
        labels["otel_scope_name"] = scope.name
        labels["otel_scope_version"] = scope.version
        labels["otel_scope_schema_url"] = schema_url
        fixed = encode_labels(labels) | self.fixed
        return SeriesLabels(self.promoted, fixed, self.strategy)


def series_labels(resource: Resource, options: OtlpOptions) -> SeriesLabels:
    """What a resource adds to every series. Raises BadDataError for a malformed attribute."""
    attributes = decode_attributes(resource.attributes, options.strategy)
    promoted = [
        attribute
        for attribute in attributes
        if (attribute.key in options.promoted) != options.promotes_all
    ]
    identity = encode_labels(_identity(attributes))
    return SeriesLabels(label_fields(promoted), identity, options.strategy)


def _identity(attributes: Sequence[Attribute]) -> dict[str, str]:
    """`job` and `instance`."""
    texts = {
        attribute.key: attribute.text for attribute in attributes if attribute.key in _IDENTIFYING
    }
    identity = {}
    if _NAME in texts:
        namespace = f"{texts[_NAMESPACE]}/" if _NAMESPACE in texts else ""
        identity["job"] = namespace + texts[_NAME]
    if _INSTANCE in texts:
        identity["instance"] = texts[_INSTANCE]
    # One that is empty leaves the label to an attribute of that name.
    return {name: text for name, text in identity.items() if text}


def target_info_key(resource: Resource, options: OtlpOptions) -> bytes | None:
    """The key of the `target_info` of a resource; None if it would say nothing."""
    attributes = decode_attributes(resource.attributes, options.strategy)
    identity = _identity(attributes)
    others = [attribute for attribute in attributes if attribute.key not in _IDENTIFYING]
    labels = joined_labels(attributes if options.keeps_identifying else others) | identity
    if not others or not (labels.get("job") or labels.get("instance")):
        return None
    return PointKeys(encode_labels(labels)).key(TARGET_INFO)
