"""The data points that were sent before, as a tree that a kernel searches (`export_kernels`).

What a resource, a scope and a metric add to the series of their points, and the keys of these, are
made once for each that is new, and found by the bytes that made them from then on.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import UNKNOWN_SERIES, FloatArray, IntArray, MetricMetadata
from promcompat.core.series_table import SeriesTable, SeriesTableBuilder
from promcompat.otlp.attributes import decode_attributes
from promcompat.otlp.export_kernels import (
    COPIED_POINT_LEVEL,
    GAUGE,
    HISTOGRAM,
    LEFT_END,
    LEFT_FIRST,
    LEFT_METRIC,
    LEFT_RESOURCE,
    LEFT_SCOPE,
    LEFT_SCOPE_END,
    LEFT_SCOPE_FIRST,
    LINE_END,
    LINE_FIRST,
    METRIC_LEVEL,
    N_LEFT,
    N_LINES,
    N_METRICS,
    N_POINTS,
    N_RESOURCES,
    N_ROWS,
    N_STATE,
    POINT_LEVEL,
    RESOURCE_END,
    RESOURCE_FIRST,
    RESOURCE_LEVEL,
    SCOPE_LEVEL,
    SUM,
    count_parts,
    read_export,
)
from promcompat.otlp.export_pb2 import (
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from promcompat.otlp.metrics import describe_metric
from promcompat.otlp.point_kernels import (
    EXEMPLAR_END,
    EXEMPLAR_FIRST,
    N_EXEMPLARS,
    N_PLACES,
    N_WORDS,
)
from promcompat.otlp.point_keys import PointKeys, histogram_keys
from promcompat.otlp.requests import parse_part
from promcompat.otlp.resources import OtlpOptions, SeriesLabels, series_labels, target_info_key
from promcompat.remote_write.exemplars import MAX_EXEMPLARS
from promcompat.remote_write.series_key import check_keys_bytes
from promcompat.remote_write.wire_fields import encoded_field

_MAX_BYTES: Final = 96 << 20
"""Half of it for the table, and half for the objects that belong to it."""
_KEPT_SECONDS: Final = 600.0
"""Senders with more points than there is room for find some of them at least."""
_BYTES_OF_NODE: Final = 500
_BYTES_OF_KEY: Final = 50
_RESOURCE_METRICS: Final = 0x0A
_SCOPE_METRICS: Final = 0x12
_KINDS: Final = {GAUGE: "gauge", SUM: "sum", HISTOGRAM: "histogram"}


class RejectedMetricError(Exception):
    """The points of a metric become no samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a resource, a scope or a metric adds to the series of its points.

    `target_info` is the key of the resource's, and `metadata` that of the metric.
    """

    labels: SeriesLabels
    target_info: bytes | None = None
    metadata: MetricMetadata | None = None
    has_buckets: bool = False


@dataclass(frozen=True, slots=True)
class _Tree:
    """The known points at one moment. Others may append to the lists; the table stays as it is.

    The number of a node in the table is one more than its place. That of a point is the place of
    the first one of its keys. `described` has for each node of the table the place of its metadata,
    or -1.
    """

    table: SeriesTable
    nodes: list[Node]
    keys: list[bytes]
    metadata: dict[MetricMetadata, int]
    described: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPoints:
    """What the kernel read of a request; see `read_export`."""

    message: bytes
    tree: _Tree
    refs: IntArray
    offsets: IntArray
    timestamps: IntArray
    starts_ms: IntArray
    values: FloatArray
    points: IntArray
    n_points: int
    exemplars: IntArray
    heads: NDArray[np.uint8]
    lines: IntArray
    resources: IntArray
    metrics: IntArray
    left: IntArray

    @property
    def n_left_bytes(self) -> int:
        """The number of bytes of unknown parts, and of what the kernel did not read."""
        n_bytes = np.sum(self.lines[:, LINE_END] - self.lines[:, LINE_FIRST])
        n_bytes += np.sum(self.exemplars[:, EXEMPLAR_END] - self.exemplars[:, EXEMPLAR_FIRST])
        return int(n_bytes + np.sum(self.left[:, LEFT_END] - self.left[:, LEFT_FIRST]))

    def rest(self) -> bytes:
        """A request with the metrics that were not read."""
        if not len(self.left):
            return b""
        parts = []
        left = self.left[:, [LEFT_RESOURCE, LEFT_SCOPE, LEFT_FIRST, LEFT_END]].tolist()
        scopes = {
            scope: self._head(first, end)
            for scope, first, end in self.left[
                :, [LEFT_SCOPE, LEFT_SCOPE_FIRST, LEFT_SCOPE_END]
            ].tolist()
        }
        for resource, of_resource in groupby(left, lambda line: line[0]):
            wire = [self._head(*self.resources[resource, [RESOURCE_FIRST, RESOURCE_END]].tolist())]
            for scope, of_scope in groupby(of_resource, lambda line: line[1]):
                metrics = [self.message[first:end] for _, _, first, end in of_scope]
                wire.append(encoded_field(_SCOPE_METRICS, b"".join([scopes[scope], *metrics])))
            parts.append(encoded_field(_RESOURCE_METRICS, b"".join(wire)))
        return b"".join(parts)

    def rest_resources(self) -> list[int]:
        """The numbers of the resources of `rest`, in order."""
        return list(dict.fromkeys(self.left[:, LEFT_RESOURCE].tolist()))

    def content(self, level: int, first: int, end: int) -> bytes:
        """The bytes of a line."""
        return self.message[first:end] if level == POINT_LEVEL else self._head(first, end)

    def _head(self, first: int, end: int) -> bytes:
        return self.heads[first:end].tobytes()


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of the lines of a request: a node, or the keys of a point, for each.

    `origins` has the line that is the same as a line, the first one.
    """

    found: FoundPoints
    nodes: dict[int, Node] = field(default_factory=dict)
    keys: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    origins: list[int] = field(default_factory=list)
    contents: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """The parent of each line that is the first of its kind, and its bytes."""

    def node(self, number: int) -> Node:
        """The resource, scope or metric with a number of the kernel."""
        if number >= 0:
            return self.found.tree.nodes[number - 1]
        return self.nodes[self.origins[-1 - number]]

    def metadata(self, left: Iterable[MetricMetadata | None]) -> dict[str, MetricMetadata]:
        """The metadata of the metrics of the request, the last ones of each name.

        `left` are those of the metrics that were not read.
        """
        numbers, others = self.found.metrics, iter(left)
        if self.nodes or len(self.found.left):
            described = [
                next(others) if number == LEFT_METRIC else self.node(number).metadata
                for number in numbers.tolist()
            ]
            return {found.family: found for found in described if found is not None}
        # Metrics are many, and their metadata are few.
        known = list(self.found.tree.metadata)
        last = np.full(len(known), -1, np.int64)
        last[self.found.tree.described[numbers - 1]] = np.arange(len(numbers))
        places = np.argsort(last)[np.count_nonzero(last < 0) :]
        return {known[place].family: known[place] for place in places.tolist()}

    def keys_of_rows(self) -> list[bytes]:
        """The key of each row."""
        known = self.found.tree.keys
        refs, offsets = self.found.refs, self.found.offsets
        if not self.keys:
            return list(map(known.__getitem__, (refs + offsets).tolist()))
        return [
            known[ref + offset] if ref >= 0 else self.keys[self.origins[-1 - ref]][offset]
            for ref, offset in zip(refs.tolist(), offsets.tolist(), strict=True)
        ]


class KnownPoints:
    """The tree of a process, for any thread.

    When it is full, nothing more is remembered, until all is forgotten some minutes after the tree
    began.
    """

    _builder: SeriesTableBuilder
    _tree: _Tree
    _n_bytes: int
    _began_at: float

    def __init__(self, options: OtlpOptions, max_bytes: int = _MAX_BYTES) -> None:
        self._options = options
        self._max_bytes = max_bytes // 2
        self._lock = threading.Lock()
        self._forget()

    def find(self, message: bytes) -> FoundPoints | None:
        """What the kernel reads of a request; None if that is unusual or malformed."""
        tree = self._tree
        view, counts = np.frombuffer(message, np.uint8), np.empty(5, np.int64)
        if not count_parts(view, counts):
            return None
        n_resources, n_scopes, n_metrics, n_points, n_rows = counts.tolist()
        refs, offsets, timestamps, starts_ms, points = (
            np.empty(n_rows, np.int64) for _ in range(5)
        )
        values, heads = np.empty(n_rows, np.float64), np.empty(len(message), np.uint8)
        lines = np.empty((n_resources + n_scopes + n_metrics + n_points, 5), np.int64)
        resources, metrics = np.empty((n_resources, 5), np.int64), np.empty(n_metrics, np.int64)
        left, state = np.empty((n_metrics, 7), np.int64), np.empty(N_STATE, np.int64)
        # A metric with more of them is left; so many of a request are stored.
        exemplars = np.empty((min(len(message) // 2, MAX_EXEMPLARS), 5), np.int64)
        is_usual = read_export(
            *tree.table.arrays(), not self._options.converts_to_custom_buckets, view,
            refs, offsets, timestamps, starts_ms, values, values.view(np.uint64), points,
            np.empty(N_WORDS, np.uint64), np.empty(N_PLACES, np.int64),
            exemplars, heads, lines, resources, metrics, left, state,
        )  # fmt: skip
        if not is_usual:
            return None
        rows = slice(int(state[N_ROWS]))
        return FoundPoints(
            message=message,
            tree=tree,
            refs=refs[rows],
            offsets=offsets[rows],
            timestamps=timestamps[rows],
            starts_ms=starts_ms[rows],
            values=values[rows],
            points=points[rows],
            n_points=int(state[N_POINTS]),
            exemplars=exemplars[: state[N_EXEMPLARS]],
            heads=heads,
            lines=lines[: state[N_LINES]],
            resources=resources[: state[N_RESOURCES]],
            metrics=metrics[: state[N_METRICS]],
            left=left[: state[N_LEFT]],
        )

    def make(self, found: FoundPoints) -> Made:
        """Make the nodes and keys of the unknown lines; equal lines share them.

        Raises BadDataError for what is malformed or too large, and RejectedMetricError.
        """
        made, n_key_bytes = Made(found), 0
        numbers: dict[tuple[int, bytes], int] = {}
        for line, (above, level, first, data, end) in enumerate(found.lines.tolist()):
            parent = above if above >= 0 else -1 - made.origins[-1 - above]
            content = found.content(level, first, end)
            made.origins.append(numbers.setdefault((parent, content), line))
            if made.origins[line] != line:
                continue
            made.contents[line] = parent, content
            if level in (POINT_LEVEL, COPIED_POINT_LEVEL):
                made.keys[line] = self._keys_of(made.node(parent), content, n_key_bytes)
                n_key_bytes += sum(map(len, made.keys[line]))
                check_keys_bytes(n_key_bytes)
            elif level == RESOURCE_LEVEL:
                made.nodes[line] = self._resource(content)
            elif level == SCOPE_LEVEL:
                made.nodes[line] = self._scope(content, made.node(parent))
            else:
                assert level == METRIC_LEVEL
                made.nodes[line] = self._metric(content, data - first, made.node(parent))
        return made

    def learn(self, made: Made) -> None:
        """Remember what was made, unless all was forgotten since."""
        if not made.contents:
            return
        contents = [content for _, content in made.contents.values()]
        n_bytes = _BYTES_OF_NODE * len(made.nodes)
        n_bytes += sum(len(key) + _BYTES_OF_KEY for keys in made.keys.values() for key in keys)
        with self._lock:
            if made.found.tree.nodes is not self._tree.nodes:
                return
            n_bytes += self._n_bytes
            if n_bytes > self._max_bytes or not self._builder.has_room(contents):
                if time.monotonic() > self._began_at + _KEPT_SECONDS:
                    self._forget()
                return
            self._n_bytes = n_bytes
            self._grow(made)

    def _grow(self, made: Made) -> None:
        """Add the new nodes and keys to the tree, except those that other threads have added."""
        tree, numbers, described = self._tree, dict[int, int](), list[int]()
        parents, contents, added = list[int](), list[bytes](), list[int]()
        of_others: set[int] = set()
        for line, (above, content) in made.contents.items():
            parent = above if above >= 0 else numbers[-1 - above]
            if made.found.tree is not tree and (above >= 0 or -1 - above in of_others):
                number = int(tree.table.find(parent, [content])[0])
                if number != UNKNOWN_SERIES:
                    numbers[line] = number
                    of_others.add(line)
                    continue
            if (node := made.nodes.get(line)) is None:
                number = len(tree.keys)
                tree.keys.extend(made.keys[line])
            else:
                tree.nodes.append(node)
                number = len(tree.nodes)
                described.append(
                    -1
                    if node.metadata is None
                    else tree.metadata.setdefault(node.metadata, len(tree.metadata))
                )
            numbers[line] = number
            parents.append(parent)
            contents.append(content)
            added.append(number)
        if added:
            self._builder.add_entries(np.array(parents), contents, np.array(added))
            every = np.append(tree.described, np.array(described, np.int64))
            self._tree = replace(tree, table=self._builder.table, described=every)

    def _forget(self) -> None:
        self._builder = SeriesTableBuilder(self._max_bytes)
        self._tree = _Tree(self._builder.table, [], [], {}, np.empty(0, np.int64))
        self._n_bytes = 0
        self._began_at = time.monotonic()

    def _resource(self, content: bytes) -> Node:
        resource = parse_part(ResourceMetrics, content).resource
        labels = series_labels(resource, self._options)
        return Node(labels=labels, target_info=target_info_key(resource, self._options))

    def _scope(self, content: bytes, resource: Node) -> Node:
        group, labels = parse_part(ScopeMetrics, content), resource.labels
        if self._options.sums_deltas:
            decode_attributes(group.scope.attributes, self._options.strategy)
        if self._options.promotes_scope:
            labels = labels.within(group.scope, group.schema_url)
        return Node(labels=labels)

    def _metric(self, content: bytes, data: int, scope: Node) -> Node:
        """A metric whose data begin with the tag at `data`."""
        tag = content[data]
        wire = content[:data] + encoded_field(tag, content[data + 1 :])
        found = describe_metric(parse_part(Metric, wire), _KINDS[tag], self._options)
        if isinstance(found, str):
            raise RejectedMetricError(found)
        return Node(labels=scope.labels, metadata=found, has_buckets=tag == HISTOGRAM)

    def _keys_of(self, metric: Node, content: bytes, n_key_bytes: int) -> tuple[bytes, ...]:
        """The keys of a point in the order of its rows."""
        assert metric.metadata is not None
        name = metric.metadata.family
        if not metric.has_buckets:
            attributes = parse_part(NumberDataPoint, content).attributes
            return (PointKeys(metric.labels.of_point(attributes)).key(name),)
        point = parse_part(HistogramDataPoint, content)
        labels = metric.labels.of_point(point.attributes)

        def check_room(n_bytes: int) -> None:
            check_keys_bytes(n_key_bytes + n_bytes)

        _, *keys = histogram_keys(name, labels, point.explicit_bounds, check_room)
        return tuple(keys)
