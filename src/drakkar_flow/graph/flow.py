"""StreamFlow: a flow as an immutable chain of nodes, written fluently or made from a handler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from functools import reduce
from itertools import chain, count
from typing import Any

from drakkar_flow.errors import FlowError, Problem
from drakkar_flow.graph.adapt import collect_of, hooks_of, payload_of
from drakkar_flow.graph.arguments import instance, items, number, refuse, whole
from drakkar_flow.graph.cache import Cache
from drakkar_flow.graph.cached_execute import CachedExecute
from drakkar_flow.graph.handler import BaseDrakkarHandler, overrides
from drakkar_flow.graph.hooks import LifeHooks
from drakkar_flow.graph.joins import joined
from drakkar_flow.graph.nodes import (
    Arrange,
    Collect,
    Decode,
    ErrorPolicy,
    Execute,
    Filter,
    FlatMap,
    KafkaSource,
    Map,
    MapAsync,
    Node,
    Program,
    Route,
    SinkRef,
    Stateful,
    Subprocess,
    Window,
)
from drakkar_flow.graph.periodic import bound
from drakkar_flow.graph.places import user_place
from drakkar_flow.graph.render import to_json, to_mermaid
from drakkar_flow.graph.time_windows import LatePolicy, TimeWindow, TimeWindows
from drakkar_flow.graph.validate import check_instance, problems_of
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.model.record import Record
from drakkar_flow.model.state import HANDLER_STEP, HANDLER_TIMERS, KEEP, StateCodec

__all__ = ["StreamFlow"]


class StreamFlow:
    """A flow: source, steps and sinks.

    `cache` gives the flow's functions the worker's cache. Every verb returns a new flow, so flows can share a prefix.
    Nothing runs until `StreamingRunner`, `drakkar-flow run` or Bytewax gets the flow.

    >>> flow = (
    ...     StreamFlow("double", source=KafkaSource("numbers"))
    ...     .decode(int)
    ...     .map(lambda n: n * 2, name="twice")
    ...     .route(SinkRef("kafka", "doubled"))
    ... )
    >>> [step for step, _ in flow.steps()]
    ['decode', 'map-twice', 'route']
    >>> flow.problems()
    []
    """

    __slots__ = ("_hooks", "_name", "_nodes", "_places", "_source")

    def __init__(
        self,
        name: str,
        source: KafkaSource | None = None,
        nodes: Iterable[Node] = (),
        hooks: LifeHooks | None = None,
        *,
        cache: Cache | None = None,
    ) -> None:
        refuse(
            "StreamFlow",
            instance("name", name, str, "the flow's name as text: StreamFlow('scan')"),
            instance("source", source, KafkaSource | None, "source=KafkaSource('topic')"),
            instance("cache", cache, Cache | None, "cache=Cache()"),
        )
        self._name = name
        self._source = source or KafkaSource()
        self._nodes = tuple(nodes)
        self._hooks = hooks or LifeHooks()
        if cache is not None:
            self._hooks = replace(self._hooks, cache=cache)
        self._places = [user_place()] * (1 + len(self._nodes))  # of the flow itself, then of each node

    @property
    def name(self) -> str:
        """The flow's name, also the Bytewax dataflow's id."""
        return self._name

    @property
    def source(self) -> KafkaSource:
        """The source of records."""
        return self._source

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The steps after the source, in order."""
        return self._nodes

    @property
    def hooks(self) -> LifeHooks:
        """The hooks around the steps."""
        return self._hooks

    def __repr__(self) -> str:
        return f"StreamFlow({self._name!r}, {' > '.join(['source', *(step for step, _ in self.steps())])})"

    # --- building -------------------------------------------------------------------------------

    def then(self, node: Node) -> StreamFlow:
        """Append a node."""
        longer = StreamFlow(self._name, self._source, (*self._nodes, node), self._hooks)
        longer._places = [*self._places, longer._places[0]]
        return longer

    def with_hooks(
        self,
        *,
        on_startup: Callable[..., Any] | None = None,
        on_ready: Callable[..., Any] | None = None,
        on_assign: Callable[..., Any] | None = None,
        on_revoke: Callable[..., Any] | None = None,
        message_label: Callable[..., Any] | None = None,
        periodics: Iterable[Callable[[], Awaitable[Any]]] = (),
    ) -> StreamFlow:
        """Set hooks around the steps; they are those of a handler, without `self`.

        `periodics` are functions without parameters, decorated with `@periodic(seconds)`. Hooks that
        are not given stay unchanged.
        """
        given: dict[str, Any] = {
            "on_startup": on_startup,
            "on_ready": on_ready,
            "on_assign": on_assign,
            "on_revoke": on_revoke,
            "message_label": message_label,
            "periodics": (*self._hooks.periodics, *map(bound, periodics)),
        }
        hooks = replace(self._hooks, **{name: hook for name, hook in given.items() if hook is not None})
        hooked = StreamFlow(self._name, self._source, self._nodes, hooks)
        hooked._places = self._places
        return hooked

    def decode(
        self, target: Any, *, with_record: bool = False, on_error: ErrorPolicy | None = None, name: str = ""
    ) -> StreamFlow:
        """Decode each record's value to `target`: a model, a struct, a type, or a function of bytes.

        With `with_record`, `target` is a function of the whole record that returns its
        payload. A record that can't be decoded follows `on_error`, by default the configuration's
        `runtime.on_decode_error`.
        """
        return self.then(Decode(target=target, with_record=with_record, on_error=on_error, name=name))

    def map(self, fn: Callable[..., Any], *, with_record: bool = False, name: str = "") -> StreamFlow:
        """Replace each payload by `fn(payload)`, or `fn(payload, record)`.

        `fn` runs on the engine thread: keep it short, use `map_async` for functions that wait.
        """
        return self.then(Map(fn=fn, with_record=with_record, name=name))

    def filter(self, fn: Callable[..., Any], *, with_record: bool = False, name: str = "") -> StreamFlow:
        """Keep the payloads for which `fn(payload)` is true; the others' records are finished."""
        return self.then(Filter(fn=fn, with_record=with_record, name=name))

    def flat_map(self, fn: Callable[..., Iterable[Any]], *, with_record: bool = False, name: str = "") -> StreamFlow:
        """Replace each payload by every value of `fn(payload)`; the record is finished when all of them are."""
        return self.then(FlatMap(fn=fn, with_record=with_record, name=name))

    def stateful(
        self,
        fn: Callable[..., tuple[Any, ...]],
        *,
        key: Callable[..., Any],
        state: Any,
        ttl_s: float | None = None,
        migrate: Callable[[Any], Any] | None = None,
        on_timer: Callable[[Any, Any], tuple[Any, ...]] | None = None,
        with_record: bool = False,
        across: bool = False,
        name: str = "",
    ) -> StreamFlow:
        """Replace each payload by the output of `fn(state, payload)`, which returns `(state, output)`.

        `key(payload)` returns a str, an int or bytes. `fn` gets the state of that key in the record's partition, None
        at first, and returns the next one; None deletes it. Output None finishes the record. With `with_record` both
        functions get the record as last argument. They run on the engine thread: keep them short.

        The change of state is final when the record is finished; a record that is read again after a crash finds the
        state as it was without it. If `fn` raises, the record follows the error route and changes nothing.

        `state` is the type: a pydantic model, a msgspec struct, a dataclass, or a type such as `int` or
        `dict[str, int]`. A value expires `ttl_s` seconds after it was written, by the wall clock. `migrate` turns a
        value of an older version of the type into the present one: it gets plain data, or the older model that its
        parameter is annotated with.

        With `on_timer` the function may return `(state, output, timer_s)`: the timer of the key is due in `timer_s`
        seconds of wall-clock time, in place of an earlier one; None cancels it. The first record of the partition that
        comes then calls `on_timer(state, key)`, before its own turn. It returns the same as `fn`; its changes and its
        output belong to that record.

        With `across` a key has one state for all partitions of all topics, not one per partition. Records travel to the
        process that has the state of their key. It needs `runtime.recovery`; payloads must be pickleable.

        The step's id is part of every key, so a renamed function finds no earlier state: set `name` to keep it.

        >>> def count(n, user):
        ...     return (n or 0) + 1, f"{user} {(n or 0) + 1}"
        >>> StreamFlow("visits").decode(str).stateful(count, key=lambda user: user, state=int).route()
        StreamFlow('visits', source > decode > stateful-count > route)
        """
        refuse("stateful", number("ttl_s", ttl_s))
        options: dict[str, Any] = {"ttl_s": ttl_s, "migrate": migrate, "on_timer": on_timer, "across": across}
        node = Stateful(fn=fn, key=key, state=state, with_record=with_record, name=name, **options)
        return self.then(node)

    def dedupe(
        self,
        key: Callable[..., Any],
        ttl_s: float | None,
        *,
        with_record: bool = False,
        across: bool = False,
        name: str = "dedupe",
    ) -> StreamFlow:
        """Pass the first record of each key of a partition; others are finished, until `ttl_s` seconds have passed.

        With `across` it is the first record of all partitions, as in `stateful`.

        The time counts from the first record. With None a key is remembered without limit. A record that becomes a
        dead letter later counts as the first one too.
        """
        refuse("dedupe", number("ttl_s", ttl_s))
        node = Stateful(fn=_first, key=key, state=bool, ttl_s=ttl_s, with_record=with_record, across=across, name=name)
        return self.then(node)

    def window(
        self,
        windows: TimeWindows,
        *,
        key: Callable[..., Any],
        add: Callable[..., Any],
        state: Any,
        time: Callable[..., Any] | None = None,
        allowed_lateness_s: float = 0,
        max_ahead_s: float | None = 86_400,
        late: LatePolicy = "skip",
        migrate: Callable[[Any], Any] | None = None,
        with_record: bool = False,
        name: str = "",
    ) -> StreamFlow:
        """Collect payloads by key in `windows` of event time; the payloads after it are `WindowResult`s.

        `add(value, payload)` returns the next value of the window, which is None at first. `time(payload)` is the event
        time: seconds since the epoch, or a datetime with a time zone; by default the timestamp of the Kafka message.

        The event-time watermark of a partition is the greatest time seen, minus `allowed_lateness_s`. The record that
        moves it past the end of windows emits their results, by end, start and key, and is finished when they are. A
        record that passes no window is finished at once. A record is late if all its windows are passed: it is skipped
        and counted, or with `late` "dlq" a dead letter, or with "fail" it stops the flow. A time of more than
        `max_ahead_s` seconds in the future is an error of its record: one wrong time would make all later ones late.

        Windows and watermark are state: exact over crashes, and final with the records that changed them. The records
        of a partition become final in their order. `key`, `state`, `migrate`, `with_record` and `name` are those of
        `stateful`.

        >>> from drakkar_flow import Tumbling
        >>> def count(n, user):
        ...     return (n or 0) + 1
        >>> StreamFlow("visits").decode(str).window(Tumbling(60), key=str, add=count, state=int).route()
        StreamFlow('visits', source > decode > window-count > route)
        """
        node = TimeWindow(
            windows=windows,
            fn=add,
            key=key,
            state=state,
            time=time,
            allowed_lateness_s=allowed_lateness_s,
            max_ahead_s=max_ahead_s,
            late=late,
            migrate=migrate,
            with_record=with_record,
            name=name,
        )
        return self.then(node)

    def join(
        self,
        other: StreamFlow,
        *,
        key: Callable[..., Any] | tuple[Callable[..., Any], Callable[..., Any]],
        within_s: float,
        time: Callable[..., Any] | tuple[Callable[..., Any], Callable[..., Any]] | None = None,
        allowed_lateness_s: float = 0,
        ttl_s: float | None = None,
        types: tuple[Any, Any] | None = None,
        name: str = "",
    ) -> StreamFlow:
        """Pair the records of this flow's topics with those of another flow's by key; the payloads are `Joined` pairs.

        Two records are a pair if their keys are equal and their times differ by at most `within_s` seconds. A pair is
        an output of the record that comes second. A record without partner is finished, and has no output.

        Both flows name their topics and have only `decode`, `map`, `filter` and `flat_map`. `key` and `time` are one
        function of the payload for both sides, or one for each; `time` is that of `window`.

        A record waits until a record of the other side and the same key comes that is more than `within_s` and
        `allowed_lateness_s` later, and at most until none of the key was stored for `ttl_s` seconds of wall-clock time
        (by default `within_s` and a day). Waiting records are state as of `stateful(across=True)`, stored by the
        payloads' types: those of `decode`, or `types` if a side maps them.

        >>> def order_of(payload):
        ...     return payload["order"]
        >>> orders = StreamFlow("orders", source=KafkaSource("orders")).decode(dict)
        >>> payments = StreamFlow("payments", source=KafkaSource("payments")).decode(dict)
        >>> orders.join(payments, key=order_of, within_s=3600).route()
        StreamFlow('orders', source > sides > join > flat_map-pairs > route)
        """
        refuse(
            "join",
            instance("other", other, StreamFlow, "another flow: orders.join(payments, ...)"),
            number("within_s", 0 if within_s is None else within_s),
            number("allowed_lateness_s", allowed_lateness_s, above=False),
            number("ttl_s", ttl_s),
        )
        sides = (self._source, self._nodes), (other._source, other._nodes)
        source, nodes = joined(*sides, key, within_s, time, allowed_lateness_s or 0, ttl_s, types, name)
        flow = StreamFlow(self._name, source, (), self._hooks)
        return reduce(StreamFlow.then, nodes, flow)

    def map_async(
        self,
        fn: Callable[..., Awaitable[Any]],
        *,
        max_in_flight: int = 100,
        timeout_s: float | None = None,
        with_record: bool = False,
        ordering: Ordering | None = None,
        key: Callable[[Record], Any] | None = None,
        name: str = "",
    ) -> StreamFlow:
        """Replace each payload by `await fn(payload)`.

        At most `max_in_flight` calls run concurrently. They may finish in any order, unless `ordering`
        is "key" or "partition": then the records of a partition with the same key, or all of a
        partition, run one at a time in the order of their offsets. `key(record)` replaces the
        record's key. A call that takes longer than `timeout_s` seconds is cancelled and
        its record follows the error route.
        """
        refuse(
            "map_async",
            whole("max_in_flight", max_in_flight, 1, optional=False),
            number("timeout_s", timeout_s),
        )
        node = MapAsync(
            fn=fn,
            max_in_flight=max_in_flight,
            timeout_s=timeout_s,
            with_record=with_record,
            ordering=ordering,
            key=key,
            name=name,
        )
        return self.then(node)

    def arrange(self, fn: Callable[..., Any], *, window: Window | None = None, name: str = "") -> StreamFlow:
        """Turn windows of records of one partition into tasks: `fn(records, pending)`, sync or async."""
        refuse("arrange", instance("window", window, Window | None, "window=Window(size=100)"))
        return self.then(Arrange(fn=fn, window=window or Window(), name=name))

    def execute(
        self,
        program: Program | None = None,
        *programs: Program,
        on_error: Callable[..., Any] | None = None,
        ordering: Ordering | None = None,
        key: Callable[[Record], Any] | None = None,
        priority: Callable[..., Any] | None = None,
        cached: CachedExecute | None = None,
        name: str = "",
    ) -> StreamFlow:
        """Run the tasks; `on_error(task, error)` returns RETRY, SKIP, DLQ or replacement tasks.

        Several programs run in parallel: `execute(Persistent("scan"), Subprocess("sha256sum", name="sha"))`. A task
        with `executor="sha"` runs in the one of that name, any other in the one without a name.

        Without `on_error` a failed task goes where the configuration's `runtime.on_task_error` says.
        With `ordering` "key" or "partition" the tasks of a partition's records with the same key,
        or all of a partition, run one at a time in the order of their offsets; without it the
        configuration's `executor.ordering` applies. `key(record)` replaces the record's key.

        Tasks that wait for a slot get one by ascending `priority(task)`, by default their first source
        offset, then in arrival order.

        With `cached` results are stored in the worker's cache, and equal tasks need no program.
        """
        refuse("execute", instance("cached", cached, CachedExecute | None, "cached=CachedExecute(ttl_s=3600)"))
        given = [each for each in (program, *programs) if each is not None]
        refuse("execute", items("program", given, Program, "Subprocess(...) or Persistent(...)"))
        names = Counter(each.name for each in given)
        refuse(
            "execute",
            *([f"{times} programs are named {name!r}; name one of them otherwise"] for name, times in names.items()
              if times > 1 and name),
            ["several programs have no name; name all but one: Subprocess('sha256sum', name='sha')"] * (names[""] > 1),
        )  # fmt: skip
        node = Execute(
            program=next((each for each in given if not each.name), Subprocess()),
            named=tuple(each for each in given if each.name),
            on_error=on_error,
            ordering=ordering,
            key=key,
            priority=priority,
            cached=cached,
            name=name,
        )
        return self.then(node)

    def collect(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        on_message_complete: Callable[..., Any] | None = None,
        on_window_complete: Callable[..., Any] | None = None,
        name: str = "",
    ) -> StreamFlow:
        """Turn each result into payloads: `fn(result)` returns a CollectResult, a payload, several, or None."""
        node = Collect(fn=fn, on_message_complete=on_message_complete, on_window_complete=on_window_complete, name=name)
        return self.then(node)

    def route(
        self,
        *sinks: SinkRef,
        on_error: ErrorPolicy = "dlq",
        on_delivery_error: Callable[..., Any] | None = None,
        name: str = "",
    ) -> StreamFlow:
        """Send payloads to `sinks`, or to every sink of the configuration.

        A payload object goes to the sink it names; any other value goes to each sink listed.
        """
        refuse("route", items("sink", sinks, SinkRef, "KafkaSink('results')"))
        return self.then(Route(sinks=sinks, on_error=on_error, on_delivery_error=on_delivery_error, name=name))

    @classmethod
    def from_handler(cls, handler: BaseDrakkarHandler[Any, Any], name: str = "") -> StreamFlow:
        """Return the flow of a handler.

        >>> class Noop(BaseDrakkarHandler):
        ...     async def arrange(self, messages, pending):
        ...         return []
        >>> StreamFlow.from_handler(Noop())
        StreamFlow('Noop', source > arrange > execute > collect > route)
        """
        check_instance(handler)
        flow = cls(name or type(handler).__name__, hooks=hooks_of(handler))
        if overrides(handler, "deserialize_message"):
            flow = flow.decode(payload_of(handler.deserialize_message), with_record=True)
        elif handler.input_model is not None:
            flow = flow.decode(handler.input_model)
        on_task = collect_of(handler)
        return (
            flow.arrange(handler.arrange)
            .execute(
                on_error=handler.on_error if overrides(handler, "on_error") else None,
                priority=handler.task_priority if overrides(handler, "task_priority") else None,
                cached=handler.cached_execute,
            )
            .collect(
                on_task,
                on_message_complete=handler.on_message_complete if overrides(handler, "on_message_complete") else None,
                on_window_complete=handler.on_window_complete if overrides(handler, "on_window_complete") else None,
                name="collect" if on_task is None else "",
            )
            .route(on_delivery_error=handler.on_delivery_error if overrides(handler, "on_delivery_error") else None)
        )

    # --- reading --------------------------------------------------------------------------------

    def steps(self) -> Iterator[tuple[str, Node]]:
        """Each node with its id: its kind, its function's name, and a number where that repeats.

        Adding a step renames no other, unless it has the same name and precedes it.
        """
        taken: set[str] = set()
        for node in self._nodes:
            numbered = (f"{node.stem}-{number}" for number in count(2))
            step = next(name for name in chain([node.stem], numbered) if name not in taken)
            taken.add(step)
            yield step, node

    def find(self, kind: type[Node]) -> Any:
        """The first node of a kind, or None."""
        return next((node for node in self._nodes if isinstance(node, kind)), None)

    def state_codecs(self) -> Iterator[tuple[str, StateCodec]]:
        """The ids under which the flow keeps state, each with the codec of its values."""
        for step, node in self.steps():
            if isinstance(node, Stateful):
                yield step, StateCodec(node.state, ttl_s=node.ttl_s, migrate=node.migrate)
                if node.on_timer is not None:
                    yield node.timers_of(step), StateCodec(int)
            elif isinstance(node, TimeWindow):
                yield step, StateCodec(node.state, migrate=node.migrate)
                yield node.watermark_of(step), StateCodec(int)
        kind = type(self._hooks.owner)
        if issubclass(kind, BaseDrakkarHandler) and kind.state_model is not None:
            yield HANDLER_STEP, StateCodec(kind.state_model, ttl_s=kind.state_ttl_s, migrate=kind.state_migrate)
            if self._hooks.on_timer is not None:
                yield HANDLER_TIMERS, StateCodec(int)

    @property
    def across(self) -> Stateful | None:
        """The step with state across partitions; None without one."""
        return next((node for node in self._nodes if isinstance(node, Stateful) and node.across), None)

    def place_of(self, node: Node) -> str:
        """`file:line` of the user's code that added a node; empty when unknown."""
        return next((place for each, place in zip(self._nodes, self._places[1:], strict=True) if each is node), "")

    def problems(self) -> list[Problem]:
        """All problems that prevent compiling the flow."""
        steps = list(self.steps())
        places = {f"step {step}": place for (step, _), place in zip(steps, self._places[1:], strict=True)}
        return [
            replace(problem, place=problem.place or places.get(problem.where, self._places[0]))
            for problem in problems_of(self._name, self._source, steps, self._hooks)
        ]

    def check(self) -> None:
        """Raise FlowError with every problem, if there are any."""
        if problems := self.problems():
            raise FlowError(problems)

    def to_mermaid(self) -> str:
        """Draw the flow as a Mermaid flowchart."""
        return to_mermaid(self._name, self._source, list(self.steps()))

    def to_json(self) -> dict[str, Any]:
        """Describe the flow as JSON-able data."""
        return to_json(self._name, self._source, list(self.steps()))


def _first(*seen_and_payload: Any) -> tuple[bool, Any]:
    return True, None if seen_and_payload[0] else KEEP
