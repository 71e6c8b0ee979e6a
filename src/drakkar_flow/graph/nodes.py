"""The nodes of a flow: frozen data, read by validation, rendering and the compiler."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, ClassVar, Literal

from drakkar_flow.graph.arguments import (
    Wrong,
    callers_place,
    choice,
    instance,
    mapping,
    number,
    refuse,
    text,
    texts,
    whole,
)
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.model.record import Record

__all__ = [
    "Arrange",
    "Collect",
    "Decode",
    "Dlq",
    "ErrorPolicy",
    "Execute",
    "Fail",
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
    "Skip",
    "SqliteSink",
    "Subprocess",
    "Window",
]

ErrorPolicy = Literal["dlq", "skip", "fail"]
"""Where errors go: to the dead letter topic, nowhere (counted), or up: the flow stops."""


def Dlq() -> ErrorPolicy:  # noqa: N802 - reads as a value in a flow
    """Send errors to the dead letter topic; the offset moves on once the broker has acknowledged."""
    return "dlq"


def Skip() -> ErrorPolicy:  # noqa: N802
    """Count errors and go on."""
    return "skip"


def Fail() -> ErrorPolicy:  # noqa: N802
    """Stop the flow at the first error; its offset is not committed."""
    return "fail"


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
    """How many records of a partition are arranged together.

    `size` is the most records; an incomplete window waits `linger_s` seconds for more (0: takes
    what is there). None takes the configuration's `executor.window_size` and `window_linger_s`.
    """

    size: int | None = None
    linger_s: float | None = None

    def __post_init__(self) -> None:
        refuse("Window", whole("size", self.size, 1), number("linger_s", self.linger_s, above=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the kernel lets each program take; None takes the configuration's `executor.limits` value.

    The keys are those of `executor.limits`: seconds of processor time, MiB, numbers, `nice` from -20 to 19 and an
    octal `umask` as text.

    >>> Subprocess("convert", limits=Limits(cpu_s=30, memory_mib=512, nice=10)).limits.open_files is None
    True
    """

    cpu_s: int | None = None
    memory_mib: int | None = None
    open_files: int | None = None
    processes: int | None = None
    file_size_mib: int | None = None
    core_mib: int | None = None
    nice: int | None = None
    umask: str | None = None

    def __post_init__(self) -> None:
        bounds = {
            "cpu_s": (1, None),
            "memory_mib": (1, None),
            "open_files": (4, None),
            "processes": (1, None),
            "file_size_mib": (0, None),
            "core_mib": (0, None),
            "nice": (-20, 19),
        }
        octal = isinstance(self.umask, str | None) and re.fullmatch("[0-7]{3,4}", self.umask or "000")
        refuse(
            "Limits",
            *(whole(name, getattr(self, name), least, most) for name, (least, most) in bounds.items()),
            () if octal else (f"umask is {self.umask!r}; write an octal number of 3 or 4 digits as text: '027'",),
        )


@dataclass(frozen=True, slots=True)
class Subprocess:
    """Runs tasks by an executor of the configuration, a process for each; None takes the configured value.

    Without a `name` it is the default executor, the configuration's `executor`; with one it is
    `executors.<name>`, which need not be configured, and runs the tasks that say `executor="<name>"`.
    `ok_exit_codes` are the exit codes that count as success.

    >>> grep, sha = Subprocess("grep", ok_exit_codes=[0, 1]), Subprocess("sha256sum", max_executors=2, name="sha")
    >>> grep.max_executors, sha.max_executors
    (None, 2)
    """

    binary: str | PathLike[str] | None = None
    max_executors: int | None = None
    timeout_s: float | None = None
    limits: Limits = Limits()
    ok_exit_codes: Sequence[int | str] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        refuse("Subprocess", whole("max_executors", self.max_executors, 1), *_common(self))
        object.__setattr__(self, "binary", _plain(self.binary))


@dataclass(frozen=True, slots=True)
class Persistent:
    """Runs tasks in long-lived children; None takes the configuration's `executor.persistent` value.

    `settings` are other keys of that section, e.g. `{"recycle_after_requests": 10_000}`. `name` and `ok_exit_codes`
    are those of `Subprocess`.

    >>> Persistent("jq", ["-c", "--unbuffered", ".x"], protocol="lines").children is None
    True
    """

    binary: str | PathLike[str] | None = None
    args: Sequence[str | PathLike[str]] | None = None
    protocol: Literal["worker", "lines"] | None = None
    answer: Literal["line", "marker"] | None = None
    children: int | None = None
    max_in_flight_per_child: int | None = None
    timeout_s: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    ok_exit_codes: Sequence[int | str] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        refuse(
            "Persistent",
            texts("args", self.args),
            choice("protocol", self.protocol, ("worker", "lines")),
            choice("answer", self.answer, ("line", "marker")),
            whole("children", self.children, 1),
            whole("max_in_flight_per_child", self.max_in_flight_per_child, 1),
            mapping("settings", self.settings),
            *_common(self),
        )
        object.__setattr__(self, "binary", _plain(self.binary))
        if self.args is not None:
            object.__setattr__(self, "args", [fspath(arg) for arg in self.args])


Program = Subprocess | Persistent


def _common(program: Program) -> Iterator[Wrong]:
    """The checks of the arguments that both kinds of programs take."""
    if not isinstance(program.binary, PathLike):
        yield text("binary", program.binary, optional=True)
    yield number("timeout_s", program.timeout_s)
    yield instance("limits", program.limits, Limits, "limits=Limits(...)")
    if not isinstance(program.name, str) or re.fullmatch(r"[A-Za-z0-9_-]*", program.name) is None:
        yield iter([f"name is {program.name!r}; write a text of letters, digits, '-' and '_'"])
    elif program.name == "default":
        yield iter(["name is 'default'; leave it out, for that is the executor without a name"])
    codes = program.ok_exit_codes
    if codes is not None and (isinstance(codes, str) or not isinstance(codes, Sequence) or not codes):
        yield iter([f"ok_exit_codes is {codes!r}; write a list of exit codes: [0, 1]"])
    else:
        yield from (whole("ok_exit_codes", code, 0, 255) for code in codes or () if not isinstance(code, str))


def _plain(binary: str | PathLike[str] | None) -> str | None:
    return None if binary is None else fspath(binary)


@dataclass(frozen=True, slots=True)
class SinkRef:
    """Names a sink: its kind, its instance name in the configuration, and settings given in code."""

    kind: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    at: str = field(default="", compare=False, repr=False)
    """File and line where it was made, for errors of its settings."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A step of a flow. `name` replaces the name the step's id is made of."""

    kind: ClassVar[str] = "node"
    name: str = ""

    def __post_init__(self) -> None:
        refuse(self.kind, instance("name", self.name, str, "the name of the step as text"))

    @property
    def label(self) -> str:
        """What tells this step from others of its kind: its name or its function's."""
        function = getattr(self, "fn", None)
        label = self.name or getattr(function, "__name__", "")
        return "".join(char if char.isalnum() or char in "_-" else "_" for char in label).strip("_")

    @property
    def stem(self) -> str:
        """What this step's id is made of: its kind and its label."""
        return f"{self.kind}-{self.label}" if self.label and self.label != self.kind else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode(Node):
    """Turns a record's value into `target`; what can't be decoded follows `on_error`.

    With `with_record`, `target` is a function that is given the whole record and returns its payload.
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
class MapAsync(Node):
    """Replaces each payload by `await fn(payload)`, at most `max_in_flight` at once, in the order of `ordering`."""

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

    Of those that wait for a slot the lowest `priority(task)` comes first.
    """

    kind: ClassVar[str] = "execute"
    program: Program = field(default_factory=Subprocess)
    named: tuple[Program, ...] = ()
    """The programs that have a name, beside `program`."""
    on_error: Callable[..., Any] | None = None
    ordering: Ordering | None = None
    key: Callable[[Record], Any] | None = None
    priority: Callable[..., Any] | None = None


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

    `on_error` is where the errors of all steps go that don't say otherwise.
    """

    kind: ClassVar[str] = "route"
    sinks: tuple[SinkRef, ...] = ()
    on_error: ErrorPolicy = "dlq"
    on_delivery_error: Callable[..., Any] | None = None
