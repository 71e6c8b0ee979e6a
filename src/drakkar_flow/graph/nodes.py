"""The nodes of a flow: frozen data, read by validation, rendering and the compiler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from drakkar_flow.graph.arguments import (
    callers_place,
    instance,
    mapping,
    number,
    refuse,
    text,
    whole,
)
from drakkar_flow.graph.cached_execute import CachedExecute
from drakkar_flow.graph.programs import CustomExecutor, Limits, Persistent, Program, Subprocess
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.kinds.registry import SINKS
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.record import Record

__all__ = [
    "Arrange",
    "Collect",
    "CustomExecutor",
    "CustomSink",
    "Decode",
    "ErrorPolicy",
    "Execute",
    "FilesystemSink",
    "Filter",
    "FlatMap",
    "HttpSink",
    "JsonlSink",
    "KafkaSink",
    "KafkaSource",
    "Limits",
    "Map",
    "MapAsync",
    "MongoSink",
    "Node",
    "Persistent",
    "PostgresSink",
    "Program",
    "RedisSink",
    "Route",
    "SinkRef",
    "SqliteSink",
    "Stateful",
    "Subprocess",
    "Window",
]

ErrorPolicy = Literal["dlq", "skip", "fail"]
"""Destination of errors: the dead letter topic, none (counted), or the flow stops."""


class KafkaSource:
    """The topics a flow reads; without any, the configuration's `kafka.source_topic(s)`.

    A topic that starts with `^` is a regular expression over topic names.

    >>> KafkaSource("orders", "^audit-.*").topics
    ('orders', '^audit-.*')
    """

    __slots__ = ("topics",)

    def __init__(self, *topics: str) -> None:
        self.topics = topics
        refuse("KafkaSource", *(text(f"topic {index}", topic) for index, topic in enumerate(topics, start=1)))


@dataclass(frozen=True, slots=True)
class Window:
    """Number of records of a partition that are arranged together.

    `size` is the maximum; an incomplete window waits `linger_s` seconds for more records (0: no
    wait). None takes the configuration's `executor.window_size` and `window_linger_s`.
    """

    size: int | None = None
    linger_s: float | None = None

    def __post_init__(self) -> None:
        refuse("Window", whole("size", self.size, 1), number("linger_s", self.linger_s, above=False))


@dataclass(frozen=True, slots=True)
class SinkRef:
    """Names a sink: its kind, its instance name in the configuration, and settings given in code."""

    kind: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    at: str = field(default="", compare=False, repr=False)
    """File and line of its creation, for errors of its settings."""
    spec: SinkSpec | None = field(default=None, compare=False, repr=False)
    """The kind, if the flow defines it."""

    def __post_init__(self) -> None:
        refuse("sink", text("kind", self.kind), text("name", self.name), mapping("settings", self.settings))
        object.__setattr__(self, "at", self.at or callers_place())

    @property
    def id(self) -> str:
        """The readable id of the sink's step."""
        return f"{self.kind}-{self.name}"


def KafkaSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the Kafka sink `sinks.kafka.<name>`; settings given here override the configuration's.

    >>> KafkaSink("results", topic="scan-results").id
    'kafka-results'
    """
    return SinkRef("kafka", name, settings)


def PostgresSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the PostgreSQL sink `sinks.postgres.<name>`; settings given here override the configuration's.

    >>> PostgresSink("main", pool_max=4).id
    'postgres-main'
    """
    return SinkRef("postgres", name, settings)


def MongoSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the MongoDB sink `sinks.mongo.<name>`; settings given here override the configuration's.

    >>> MongoSink("main", database="jobs").id
    'mongo-main'
    """
    return SinkRef("mongo", name, settings)


def RedisSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the Redis sink `sinks.redis.<name>`; settings given here override the configuration's.

    >>> RedisSink("main", key_prefix="jobs:").id
    'redis-main'
    """
    return SinkRef("redis", name, settings)


def HttpSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the HTTP sink `sinks.http.<name>`; settings given here override the configuration's.

    >>> HttpSink("hook", method="PUT").id
    'http-hook'
    """
    return SinkRef("http", name, settings)


def FilesystemSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the file sink `sinks.filesystem.<name>`; settings given here override the configuration's.

    >>> FilesystemSink("results", base_path="out").id
    'filesystem-results'
    """
    return SinkRef("filesystem", name, settings)


def JsonlSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Second name of `FilesystemSink`."""
    return FilesystemSink(name, **settings)


def SqliteSink(name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the SQLite sink `sinks.sqlite.<name>`; settings given here override the configuration's.

    >>> SqliteSink("rows", path="rows.db").id
    'sqlite-rows'
    """
    return SinkRef("sqlite", name, settings)


def CustomSink(kind: SinkSpec | str, name: str, **settings: Any) -> SinkRef:  # noqa: N802
    """Name the sink `sinks.<kind>.<name>` of a plug-in; settings given here override the configuration's.

    `kind` is the plug-in's spec, which thereby becomes known to the configuration, or the name of a kind that an
    installed package brings.

    >>> CustomSink("csv", "report", path="report.csv").id
    'csv-report'
    """
    if isinstance(kind, str):
        return SinkRef(kind, name, settings)
    SINKS.add(kind)
    return SinkRef(kind.kind, name, settings, spec=kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A step of a flow. `name` replaces the function's name in the step's id."""

    kind: ClassVar[str] = "node"
    name: str = ""

    def __post_init__(self) -> None:
        refuse(self.kind, instance("name", self.name, str, "the name of the step as text"))

    @property
    def label(self) -> str:
        """Name that distinguishes this step from others of its kind: its own or its function's."""
        function = getattr(self, "fn", None)
        label = self.name or getattr(function, "__name__", "")
        return "".join(char if char.isalnum() or char in "_-" else "_" for char in label).strip("_")

    @property
    def stem(self) -> str:
        """Base of this step's id: its kind and its label."""
        return f"{self.kind}-{self.label}" if self.label and self.label != self.kind else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode(Node):
    """Turns a record's value into `target`; records that can't be decoded follow `on_error`.

    With `with_record`, `target` is a function of the whole record that returns its payload.
    """

    kind: ClassVar[str] = "decode"
    target: Any
    with_record: bool = False
    on_error: ErrorPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Map(Node):
    """Replaces each payload by `fn(payload)`."""

    kind: ClassVar[str] = "map"
    fn: Callable[..., Any]
    with_record: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Node):
    """Keeps the payloads for which `fn(payload)` is true; the others are finished."""

    kind: ClassVar[str] = "filter"
    fn: Callable[..., Any]
    with_record: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatMap(Node):
    """Replaces each payload by each of `fn(payload)`; none finishes the record."""

    kind: ClassVar[str] = "flat_map"
    fn: Callable[..., Any]
    with_record: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stateful(Node):
    """Replaces each payload by the output of `fn(state, payload)`, which also returns the next state of its key.

    `state` is the type of the state; `migrate` turns an older version of it into the present one.
    `on_timer(state, key)` is called when the timer of a key is due, and returns the same as `fn`. With `across`
    a key has one state in all partitions: records travel to the process of their key.
    """

    kind: ClassVar[str] = "stateful"
    fn: Callable[..., Any]
    key: Callable[..., Any]
    state: Any
    ttl_s: float | None = None
    migrate: Callable[[Any], Any] | None = None
    on_timer: Callable[..., Any] | None = None
    with_record: bool = False
    across: bool = False

    @staticmethod
    def timers_of(step_id: str) -> str:
        """Return the id under which the timers of a step are kept."""
        return f"{step_id}.timer"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapAsync(Node):
    """Replaces each payload by `await fn(payload)`, at most `max_in_flight` concurrently, ordered by `ordering`."""

    kind: ClassVar[str] = "map_async"
    fn: Callable[..., Awaitable[Any]]
    max_in_flight: int = 100
    timeout_s: float | None = None
    with_record: bool = False
    ordering: Ordering | None = None
    key: Callable[[Record], Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrange(Node):
    """Turns a window of records into tasks: `fn(records, pending)`, sync or async."""

    kind: ClassVar[str] = "arrange"
    fn: Callable[..., Any]
    window: Window = field(default_factory=Window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(Node):
    """Runs tasks in the order of `ordering`; `on_error(task, error)` decides about a failed one.

    Waiting tasks get slots by ascending `priority(task)`.
    """

    kind: ClassVar[str] = "execute"
    program: Program = field(default_factory=Subprocess)
    named: tuple[Program, ...] = ()
    """The named programs, beside `program`."""
    on_error: Callable[..., Any] | None = None
    ordering: Ordering | None = None
    key: Callable[[Record], Any] | None = None
    priority: Callable[..., Any] | None = None
    cached: CachedExecute | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect(Node):
    """Turns results into payloads, task by task, record by record, window by window."""

    kind: ClassVar[str] = "collect"
    fn: Callable[..., Any] | None = None
    on_message_complete: Callable[..., Any] | None = None
    on_window_complete: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Node):
    """Sends payloads to sinks; without any named, to every sink of the configuration.

    `on_error` is the destination of the errors of all steps without a separate rule.
    """

    kind: ClassVar[str] = "route"
    sinks: tuple[SinkRef, ...] = ()
    on_error: ErrorPolicy = "dlq"
    on_delivery_error: Callable[..., Any] | None = None
