"""Lowering: one short function per kind of node, from the checked graph to a Bytewax dataflow.

```
source ─ decode ─ … ─ arrange ─ execute ─ collect ─ route ─┬─ sink ─┐
                                                           ├─ sink ─┼─ dlq ─ track ─ commit
   (failures and acks travel beside the items) ────────────┴────────┘
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, singledispatchmethod
from typing import Any

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.nodes import (
    Arrange,
    Collect,
    Decode,
    Execute,
    Filter,
    FlatMap,
    Map,
    MapAsync,
    Node,
    Route,
)
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.brake import Brake
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.kernel.retry import RetryBound
from drakkar_flow.model.codec import decoder_for
from drakkar_flow.model.outcome import AckStatus, FailureKind
from drakkar_flow.model.task import ErrorAction
from drakkar_flow.runtime.chunk import Chunk, Keyed
from drakkar_flow.runtime.commit import CommitSink
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.guard import guard_engine
from drakkar_flow.runtime.memory import Charge, MemoryGate
from drakkar_flow.runtime.parts import Parts, SinkPart
from drakkar_flow.runtime.source import SlotSource
from drakkar_flow.runtime.steps.arrange import ArrangeWorker
from drakkar_flow.runtime.steps.brake import FailureBrake
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.collect import CollectHooks, CollectWorker
from drakkar_flow.runtime.steps.deadletter import DeadLetterWorker
from drakkar_flow.runtime.steps.deliver import DeliverSettings, DeliverWorker
from drakkar_flow.runtime.steps.execute import ExecuteSettings, ExecuteWorker, TaskRules
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.line import KeysOf, keys_of
from drakkar_flow.runtime.steps.parking import Parking
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.runtime.steps.route import DLQ, TRACK, Policies, Routed, Router, Target
from drakkar_flow.runtime.steps.step import Worker, async_step
from drakkar_flow.runtime.steps.transform import (
    ChunkStep,
    MapAsyncWorker,
    decode_step,
    filter_step,
    flat_map_step,
    map_step,
    passing_step,
)
from drakkar_flow.runtime.steps.trial import Trial
from drakkar_flow.sinks.registry import SPECS

__all__ = ["compile_flow"]

Stream = KeyedStream[Chunk]

_LANES_PER_WORKER = 4


def compile_flow(flow: StreamFlow, parts: Parts) -> Dataflow:
    """Check a flow and lower it to a Bytewax dataflow over running parts.

    Raises:
        FlowError: with every problem of the flow.
    """
    flow.check()
    return _Lowering(flow, parts).dataflow()


class _Lowering:
    def __init__(self, flow: StreamFlow, parts: Parts) -> None:
        self._flow = flow
        self._parts = parts
        self._gate = MemoryGate(parts.bridge, parts.flight, parts.workers)
        route: Route = flow.find(Route)
        decode: Decode | None = flow.find(Decode)
        on_decode: str = parts.config.runtime.on_decode_error
        if decode is not None and decode.on_error is not None:
            on_decode = decode.on_error
        self._labels = Labels(flow.hooks.message_label, parts.bus)
        by_kind = {FailureKind.DECODE: on_decode}
        self._policies = Policies(route.on_error, by_kind, parts.control, parts.bus, self._labels)
        self._brake = _brake(parts)
        self._trial = Trial(parts.config.dlq.stop_after)

    def dataflow(self) -> Dataflow:
        parts = self._parts
        workers = parts.config.runtime.workers
        lanes = 1 if workers == 1 else workers * _LANES_PER_WORKER
        dataflow = Dataflow(self._flow.name)
        source = SlotSource(parts.reader, parts.flight, parts.control, lanes, parts.intake)
        stream: Stream = op.input("source", dataflow, source)
        for step, node in self._flow.steps():
            stream = self._lower(node, step, stream)
        settled = op.flat_map_batch("track", stream, parts.track.step)
        op.output("commit", settled, CommitSink(parts.reader, parts.flight, parts.bus, parts.ended))
        guard_engine(dataflow, self._engine_failed)
        return dataflow

    def _engine_failed(self, error: BaseException) -> None:
        self._parts.bridge.report(error)
        self._parts.control.abandon(f"the engine failed: {describe(error)}")

    def _charge(self) -> Charge:
        return Charge(self._parts.flight)

    def _async(self, step: str, up: Stream, make: Callable[[], Worker]) -> Stream:
        def enrolled() -> Worker:
            worker = make()
            worker.step = step
            worker.proof = self._brake.proof
            worker.trial = self._trial
            self._parts.workers.append(worker)
            return worker

        return async_step(step, up, enrolled)

    def _sync(self, step: str, up: Stream, function: ChunkStep) -> Stream:
        proof = self._brake.proof

        def over_batch(batch: list[Keyed]) -> list[Keyed]:
            if step not in proof.works:
                return [(key, _proven(step, function, proof, chunk)) for key, chunk in batch]
            return [(key, function(chunk) if chunk.items else chunk) for key, chunk in batch]

        return op.flat_map_batch(step, up, over_batch)

    @singledispatchmethod
    def _lower(self, node: Node, step: str, up: Stream) -> Stream:
        raise NotImplementedError(f"no lowering for {type(node).__name__}")

    @_lower.register
    def _(self, node: Decode, step: str, up: Stream) -> Stream:
        decode = node.target if node.with_record else decoder_for(node.target)
        function = decode_step(step, decode, self._labels, with_record=node.with_record)
        if (node.on_error or self._parts.config.runtime.on_decode_error) == "pass":
            function = passing_step(function, self._labels, self._parts.bus)
        return self._sync(step, up, function)

    @_lower.register
    def _(self, node: Map, step: str, up: Stream) -> Stream:
        return self._sync(step, up, map_step(step, node.fn, self._charge(), with_record=node.with_record))

    @_lower.register
    def _(self, node: Filter, step: str, up: Stream) -> Stream:
        return self._sync(step, up, filter_step(step, node.fn, with_record=node.with_record))

    @_lower.register
    def _(self, node: FlatMap, step: str, up: Stream) -> Stream:
        return self._sync(step, up, flat_map_step(step, node.fn, self._charge(), with_record=node.with_record))

    @_lower.register
    def _(self, node: MapAsync, step: str, up: Stream) -> Stream:
        make = partial(
            MapAsyncWorker,
            self._parts.bridge,
            self._parts.flight,
            self._gate,
            step,
            node.fn,
            max_in_flight=node.max_in_flight,
            timeout_s=node.timeout_s,
            with_record=node.with_record,
            keys=_keys_of(node, "unordered"),
        )
        return self._async(step, up, make)

    @_lower.register
    def _(self, node: Arrange, step: str, up: Stream) -> Stream:
        parts, defaults = self._parts, self._parts.config.executor
        make = partial(
            ArrangeWorker,
            parts.bridge,
            parts.bus,
            parts.flight,
            self._gate,
            parts.pending,
            step,
            node.fn,
            node.window.size if node.window.size is not None else defaults.window_size,
            node.window.linger_s if node.window.linger_s is not None else defaults.window_linger_s,
            keep_messages=self._flow.find(Collect).on_message_complete is not None,
        )
        return self._async(step, up, make)

    @_lower.register
    def _(self, node: Execute, step: str, up: Stream) -> Stream:
        parts = self._parts
        assert parts.executor is not None
        executor, runtime = parts.config.executor, parts.config.runtime
        rules = {name: self._rules_of(config) for name, config in (parts.programs or {"": executor}).items()}
        default = rules.pop("")
        settings = ExecuteSettings(
            retry=default.retry,
            on_error=node.on_error,
            default=ErrorAction(runtime.on_task_error),
            keys=_keys_of(node, executor.ordering),
            priority=node.priority,
            ok_exit_codes=default.ok_exit_codes,
            named=rules,
        )
        parking = Parking(parts.bridge, parts.flight, max(1, runtime.max_in_flight_records // 2))
        make = partial(
            ExecuteWorker,
            parts.bridge,
            parts.bus,
            parts.flight,
            self._gate,
            parts.pending,
            parking,
            parts.executor,
            settings,
        )
        return self._async(step, up, make)

    def _rules_of(self, config: ProgramConfig) -> TaskRules:
        retry, backoff = config.retry.policy(config.max_retries), self._parts.task_backoff
        return TaskRules(retry if backoff is None else replace(retry, backoff=backoff), config.success_codes)

    @_lower.register
    def _(self, node: Collect, step: str, up: Stream) -> Stream:
        parts = self._parts
        hooks = CollectHooks(step, node.fn, node.on_message_complete, node.on_window_complete)
        return self._async(step, up, partial(CollectWorker, parts.bridge, parts.bus, self._charge(), hooks))

    @_lower.register
    def _(self, node: Route, step: str, up: Stream) -> Stream:
        sinks = self._sinks_of(node)
        others = _left_out(self._parts, sinks)
        router = Router(step, [_target(sink) for sink in sinks], self._policies, self._brake.proof, others)
        routed = op.flat_map_batch(step, up, partial(_route, router))
        endings = [_select("to-track", routed, TRACK), _select("to-dlq", routed, DLQ)]
        for sink in sinks:
            name = sink.id.replace(".", ":")  # Bytewax separates ids by periods
            chosen = _select(f"to-{name}", routed, sink.id)
            written = self._async(f"sink-{name}", chosen, self._delivery(sink, node))
            judge = partial(_judge, self._policies, self._brake.proof, f"sink-{sink.id}")
            endings.append(op.flat_map_batch(f"errors-{name}", written, judge))
        merged = op.merge("endings", *endings)
        parts = self._parts
        make = partial(
            DeadLetterWorker,
            parts.bridge,
            parts.bus,
            parts.flight,
            parts.dead_letters,
            parts.dlq_backoff,
            self._brake,
            drop=parts.config.dlq.on_failure == "drop",
        )
        return self._async("dlq", merged, make)

    def _sinks_of(self, node: Route) -> list[SinkPart]:
        if not node.sinks:
            return list(self._parts.sinks.values())
        return [self._parts.sinks[sink.id] for sink in node.sinks]

    def _delivery(self, part: SinkPart, node: Route) -> Callable[[], DeliverWorker]:
        parts, spec = self._parts, part.spec
        retry, common = part.settings.retry, parts.config.sinks
        settings = DeliverSettings(
            kind=spec.kind,
            name=part.name,
            max_in_flight=spec.max_in_flight,
            max_batch=spec.max_batch,
            attempts=retry.attempts,
            backoff=Backoff(initial_s=retry.initial_s, max_s=retry.max_s),
            bound=RetryBound(retry.max_rounds, retry.max_elapsed_s),
            timeout_s=None if spec.times_itself else common.timeout_of(part.settings),
            on_error=node.on_delivery_error,
        )
        circuit = Circuit(parts.bus, spec.kind, part.name, common.circuit_of(part.settings))
        return partial(DeliverWorker, parts.bridge, parts.bus, parts.flight, part.sink, settings, circuit)


def _left_out(parts: Parts, sinks: Iterable[SinkPart]) -> dict[type, list[str]]:
    """The configured sinks that the route does not name, by the payload they take."""
    named = {sink.id for sink in sinks}
    found: dict[type, list[str]] = {}
    for kind, name in parts.config.sinks.named:
        if f"{kind}-{name}" not in named:
            found.setdefault(SPECS[kind].payload_type, []).append(f"{kind}.{name}")
    return found


def _brake(parts: Parts) -> FailureBrake:
    dlq = parts.config.dlq
    brake = Brake(dlq.stop_after, dlq.max_ratio, dlq.ratio_window) if dlq.stop_after else None
    hold_s = dlq.hold_s if parts.brake_hold_s is None else parts.brake_hold_s
    return FailureBrake(parts.bridge, parts.flight, parts.control, brake, hold_s)


def _proven(step: str, function: ChunkStep, proof: Proof, chunk: Chunk) -> Chunk:
    """Apply a function to a chunk, and note whether it works for any record of it."""
    records, failed = len(chunk.items), len(chunk.failures)
    if not records:
        return chunk
    chunk = function(chunk)
    if len(chunk.failures) - failed < records:
        proof.add(step)
    return chunk


def _route(router: Router, batch: list[Keyed]) -> list[tuple[str, Routed]]:
    return [(key, routed) for key, chunk in batch for routed in router(chunk)]


def _select(step: str, up: KeyedStream[Routed], target: str) -> Stream:
    def over_batch(batch: list[tuple[str, Routed]]) -> list[Keyed]:
        return [(key, routed.chunk) for key, routed in batch if routed.target == target]

    return op.flat_map_batch(step, up, over_batch)


def _judge(policies: Policies, proof: Proof, step: str, batch: list[Keyed]) -> list[Keyed]:
    """Apply the policies to a sink's failures: what does not stop the flow is an item of the dlq step."""
    judged = []
    for key, chunk in batch:
        if step not in proof.works or chunk.failures:
            worked = any(ack.status is AckStatus.DONE for ack in chunk.acks)
            if worked:
                proof.add(step)
            for failure in chunk.failures:
                failure.refuted = worked
        if chunk.failures:
            chunk = Chunk(policies.apply(chunk.failures), None, chunk.acks)  # noqa: PLW2901
        judged.append((key, chunk))
    return judged


def _keys_of(node: Execute | MapAsync, default: Ordering) -> KeysOf | None:
    return keys_of("key" if node.key is not None else node.ordering or default, node.key)


def _target(part: SinkPart) -> Target:
    def wrap(value: Any, record: Any) -> Any:
        return part.spec.wrap(value, record, part.name, part.settings)

    return Target(part.id, part.name, part.spec.payload_type, wrap)
