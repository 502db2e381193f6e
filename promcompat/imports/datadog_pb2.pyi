from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MetricPayload(_message.Message):
    __slots__ = ("series",)
    SERIES_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[MetricSeries]
    def __init__(self, series: _Optional[_Iterable[_Union[MetricSeries, _Mapping]]] = ...) -> None: ...

class MetricSeries(_message.Message):
    __slots__ = ("resources", "metric", "tags", "points")
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[Resource]
    metric: bytes
    tags: _containers.RepeatedScalarFieldContainer[bytes]
    points: _containers.RepeatedCompositeFieldContainer[MetricPoint]
    def __init__(self, resources: _Optional[_Iterable[_Union[Resource, _Mapping]]] = ..., metric: _Optional[bytes] = ..., tags: _Optional[_Iterable[bytes]] = ..., points: _Optional[_Iterable[_Union[MetricPoint, _Mapping]]] = ...) -> None: ...

class Resource(_message.Message):
    __slots__ = ("type", "name")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    type: bytes
    name: bytes
    def __init__(self, type: _Optional[bytes] = ..., name: _Optional[bytes] = ...) -> None: ...

class MetricPoint(_message.Message):
    __slots__ = ("value", "timestamp")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    value: float
    timestamp: int
    def __init__(self, value: _Optional[float] = ..., timestamp: _Optional[int] = ...) -> None: ...

class SketchPayload(_message.Message):
    __slots__ = ("sketches",)
    SKETCHES_FIELD_NUMBER: _ClassVar[int]
    sketches: _containers.RepeatedCompositeFieldContainer[Sketch]
    def __init__(self, sketches: _Optional[_Iterable[_Union[Sketch, _Mapping]]] = ...) -> None: ...

class Sketch(_message.Message):
    __slots__ = ("metric", "host", "tags", "dogsketches")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DOGSKETCHES_FIELD_NUMBER: _ClassVar[int]
    metric: bytes
    host: bytes
    tags: _containers.RepeatedScalarFieldContainer[bytes]
    dogsketches: _containers.RepeatedCompositeFieldContainer[Dogsketch]
    def __init__(self, metric: _Optional[bytes] = ..., host: _Optional[bytes] = ..., tags: _Optional[_Iterable[bytes]] = ..., dogsketches: _Optional[_Iterable[_Union[Dogsketch, _Mapping]]] = ...) -> None: ...

class Dogsketch(_message.Message):
    __slots__ = ("ts", "sum", "k", "n")
    TS_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    ts: int
    sum: float
    k: _containers.RepeatedScalarFieldContainer[int]
    n: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ts: _Optional[int] = ..., sum: _Optional[float] = ..., k: _Optional[_Iterable[int]] = ..., n: _Optional[_Iterable[int]] = ...) -> None: ...
