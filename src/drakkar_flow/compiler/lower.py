"""Lowering: one short function per kind of node, from the checked graph to a Bytewax dataflow.

```
source ─ decode ─ … ─┤ arrange ─ execute ─ collect ─ route ─┬─ sink ─┬─ policies ─ dlq ├─ track ─ commit
                     │                                      └─ sink ─┘                 │
                     └──────── one chain: one Bytewax step, on the event loop ─────────┘
```

A chain is a run of steps that may wait. A synchronous step ends it: it runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial, singledispatchmethod
from typing import Any

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.errors import FlowError, Problem
from drakkar_flow.graph.across_problems import side_steps
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.joins import Sides
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
    Stateful,
)
from drakkar_flow.graph.time_windows import TimeWindow
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kernel.brake import Brake
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.kernel.retry import RetryBound
from drakkar_flow.model.codec import decoder_for
from drakkar_flow.model.outcome import Ack, Delivery, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.model.state import HANDLER_STEP
from drakkar_flow.model.task import ErrorAction
from drakkar_flow.runtime.acknowledgement.commit import CommitSink, Finisher, commit_by
from drakkar_flow.runtime.across.arrival import arrival_step
from drakkar_flow.runtime.across.exchange import ExchangeStep
from drakkar_flow.runtime.across.settle import by_shard, settle_step, without_shard
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.chunk import Chunk, Keyed
from drakkar_flow.runtime.components import Components, SinkComponent
from drakkar_flow.runtime.failures import describe
from drakkar_flow.runtime.guard import guard_engine
from drakkar_flow.runtime.memory import MemoryGate
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.recovery.reading import SETTLE, TRACK
from drakkar_flow.runtime.recovery.slots import BySlot, HelloSource, SlotSink
from drakkar_flow.runtime.source import RecordSource
from drakkar_flow.runtime.state.hooks import HandlerState
from drakkar_flow.runtime.steps.arrange import ArrangeStep
from drakkar_flow.runtime.steps.brake import FailureBrake
from drakkar_flow.runtime.steps.chain import Chain, chain_step
from drakkar_flow.runtime.steps.circuit import Circuit
from drakkar_flow.runtime.steps.collect import CollectHooks, CollectStep
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.deadletter import DeadLetterStep
from drakkar_flow.runtime.steps.deliver import DeliverSettings, DeliverStep
from drakkar_flow.runtime.steps.execute import ExecuteSettings, ExecuteStep, TaskRules
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.policies import Policies, PolicyStep
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.runtime.steps.result_cache import ResultCache
from drakkar_flow.runtime.steps.retry_queue import RetryQueue
from drakkar_flow.runtime.steps.route import RouteStep, Target
from drakkar_flow.runtime.steps.stateful import StatefulStep
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.steps.task_order import KeysOf, keys_of
from drakkar_flow.runtime.steps.time_windows import TimeWindowStep
from drakkar_flow.runtime.steps.timed_stateful import TimedStatefulStep
from drakkar_flow.runtime.steps.transform import (
    ChunkStep,
    MapAsyncStep,
    decode_step,
    filter_step,
    flat_map_step,
    map_step,
    passing_step,
    sides_step,
)
from drakkar_flow.runtime.steps.trial import Trial
from drakkar_flow.sinks.registry import SPECS

__all__ = ["compile_flow"]

Stream = KeyedStream[Chunk[Any]]

_SYNC = (Decode, Map, Filter, FlatMap, Sides, Stateful, TimeWindow)  # on the engine's thread; all others may wait

_LANES_PER_WORKER = 4


def compile_flow(flow: StreamFlow, components: Components) -> Dataflow:
    """Check a flow and lower it to a Bytewax dataflow over running parts.

    Raises:
        FlowError: with every problem of the flow.
    """
    flow.check()
    if flow.across is not None and components.config.runtime.workers > 1:
        step = next(step for step, node in flow.steps() if node is flow.across)
        raise FlowError([Problem(f"step {step}", "across=True needs one engine thread", "set runtime.workers: 1")])
    return _Lowering(flow, components).dataflow()


class _Lowering:
    def __init__(self, flow: StreamFlow, components: Components) -> None:
        self._flow = flow
        self._components = components
        route: Route = flow.find(Route)
        self._labels = Labels(flow.hooks.message_label, components.bus)
        on_decode = components.config.runtime.on_decode_error
        by_kind: dict[FailureKind, str] = {
            FailureKind.DECODE: on_decode,
            FailureKind.LATE: "fail",  # other late records say where they go
        }
        policies = (by_kind, _decode_policies(flow))
        self._policies = Policies(route.on_error, *policies, components.control, components.bus, self._labels)
        self._brake = _brake(components)
        self._codecs = dict(flow.state_codecs())
        self._context = StepContext(
            loop_thread=components.loop_thread,
            bus=components.bus,
            in_flight=components.in_flight,
            gate=MemoryGate(components.loop_thread, components.in_flight, lambda: components.steps),
            pending=components.pending,
            proof=self._brake.proof,
            trial=Trial(components.config.dlq.stop_after, self._brake.proof),
            state=self._handler_state(),
        )
        waiting = max(1, components.config.runtime.max_in_flight_records // 2)
        self._parking = RetryQueue(components.loop_thread, components.in_flight, waiting)

    def _handler_state(self) -> HandlerState | None:
        codec = self._codecs.get(HANDLER_STEP)
        if codec is None:
            return None
        ledgers, wall_clock = self._components.track.keep_state(), self._components.wall_clock
        return HandlerState(codec, ledgers, wall_clock, self._flow.hooks.on_timer)

    def dataflow(self) -> Dataflow:
        components = self._components
        workers = components.config.runtime.workers
        shards = 1 if workers == 1 else workers * _LANES_PER_WORKER
        dataflow = Dataflow(self._flow.name)
        durable = None if components.recovery is None else components.recovery.durable
        cluster = None if components.recovery is None else components.config.runtime.cluster
        source = RecordSource(
            components.reader,
            components.in_flight,
            components.control,
            shards,
            components.intake,
            durable,
            processes=1 if cluster is None else cluster.processes,
            exchanges=components.shards is not None,
        )
        stream: Stream = op.input("source", dataflow, source)
        waiting: list[tuple[str, Node]] = []
        for step_id, node in self._flow.steps():
            if isinstance(node, _SYNC):
                stream = self._chained(stream, waiting)
                if isinstance(node, Stateful) and node.across:
                    stream = self._exchanged(step_id, node, stream)
                stream = self._sync(step_id, stream, self._function(node, step_id))
                waiting = []
            else:
                waiting.append((step_id, node))
        stream = self._chained(stream, waiting)
        if components.shards is not None:
            stream = self._settled(dataflow, stream, components.shards)
        if components.recovery is None:
            self._commit(stream)
        else:
            self._store(dataflow, stream, components.recovery)
        guard_engine(dataflow, self._engine_failed)
        return dataflow

    def _exchanged(self, step_id: str, node: Stateful, stream: Stream) -> Stream:
        """Let records travel to the processes of their keys."""
        components = self._components
        assert components.shards is not None
        before = self._flow.nodes[: self._flow.nodes.index(node)]
        shares = components.track.keep_shares() if any(map(_divides, before)) else None
        exchange = ExchangeStep(step_id, node, components.shards, components.away, self._labels, shares)
        sent = op.flat_map_batch("exchange", stream, exchange)
        return arrival_step("arrival", sent, step_id, components.shards, components.in_flight)

    def _settled(self, dataflow: Dataflow, stream: Stream, shards: Shards) -> Stream:
        """Settle records at their shards; those that came to none pass."""
        acks = op.flat_map_batch("by-shard", stream, by_shard)
        if self._components.recovery is not None:
            hello = op.input("hello-shards", dataflow, HelloSource(shards.hellos()))
            acks = op.merge("greeted-shards", acks, hello)
        settled = settle_step(SETTLE, acks, shards, tells_rows=self._components.recovery is None)
        return op.merge("settled", op.flat_map_batch("without-shard", stream, without_shard), settled)

    def _commit(self, stream: Stream) -> None:
        """The end of group mode, where Kafka has the positions."""
        components = self._components
        settled = op.flat_map_batch("track", stream, components.track.step)
        finisher = Finisher(components.in_flight, components.bus, commit_by(components.reader))
        op.output("commit", settled, CommitSink(finisher, components.ended))

    def _store(self, dataflow: Dataflow, stream: Stream, positions: DurablePositions) -> None:
        """The end of fixed mode: rows of the recovery store come before the commits."""
        components = self._components
        finisher = Finisher(components.in_flight, components.bus, lambda _settled: None)
        by_slot = BySlot() if components.shards is None else BySlot(positions.slots, components.in_flight)
        hello: Any = op.input("hello", dataflow, HelloSource([(slot, list[Any]()) for slot in positions.slots]))
        acks = op.merge("greeted", op.flat_map_batch("by-slot", stream, by_slot), hello)
        op.output(TRACK, acks, SlotSink(positions, components.track, finisher, components.away))

    def _engine_failed(self, error: BaseException) -> None:
        self._components.loop_thread.report(error)
        self._components.control.abandon(f"the engine failed: {describe(error)}")

    def _chained(self, up: Stream, nodes: list[tuple[str, Node]]) -> Stream:
        """Lower consecutive async steps to one Bytewax step."""
        if not nodes:
            return up
        return chain_step(f"chain-{nodes[0][0]}", up, partial(self._chain, nodes), self._components.in_flight)

    def _chain(self, nodes: list[tuple[str, Node]]) -> Chain:
        """Make the chain of one shard."""
        steps: list[AsyncStep[Any, Any]] = []
        before: AsyncStep[Any, Any] | None = None
        for step_id, node in nodes:
            made = self._ending(node, step_id) if isinstance(node, Route) else [self._async(node, step_id)]
            step = made[0]
            steps += made
            if before is not None:
                before.to(step)
            before = step
        failures = next((step.inbox for step in steps if isinstance(step, PolicyStep)), None)
        chain = Chain(self._context, steps, failures)
        if failures is not None:
            self._report_home(chain)
        self._components.chains.append(chain)
        return chain

    def _report_home(self, chain: Chain) -> None:
        """Let a chain report records that will never finish to the processes that read them."""
        components, positions = self._components, self._components.recovery
        if components.shards is None or positions is None:
            return

        def hold(records: list[Record]) -> None:
            if guests := [record for record in records if not positions.owns(record.topic_partition)]:
                chain.notice([Ack(record, 0) for record in guests])

        components.control.on_hold = hold
        components.away.on_hold = components.control.hold
        components.away.on_return = components.in_flight.engine.wake

    def _sync(self, step: str, up: Stream, function: ChunkStep) -> Stream:
        proof = self._brake.proof

        def over_batch(batch: list[Keyed]) -> list[Keyed]:
            if step not in proof.works:
                return [(key, _proven(step, function, proof, chunk)) for key, chunk in batch]
            return [(key, function(chunk) if chunk.items else chunk) for key, chunk in batch]

        return op.flat_map_batch(step, up, over_batch)

    @singledispatchmethod
    def _function(self, node: Node, step_id: str) -> ChunkStep:
        raise NotImplementedError(f"no function for {type(node).__name__}")

    @_function.register
    def _(self, node: Decode, step_id: str) -> ChunkStep:
        decode = node.target if node.with_record else decoder_for(node.target)
        function = decode_step(step_id, decode, self._labels, with_record=node.with_record)
        if (node.on_error or self._components.config.runtime.on_decode_error) == "pass":
            return passing_step(function, self._labels, self._components.bus)
        return function

    @_function.register
    def _(self, node: Map, step_id: str) -> ChunkStep:
        return map_step(step_id, node.fn, self._context.charge(), with_record=node.with_record)

    @_function.register
    def _(self, node: Filter, step_id: str) -> ChunkStep:
        return filter_step(step_id, node.fn, with_record=node.with_record)

    @_function.register
    def _(self, node: FlatMap, step_id: str) -> ChunkStep:
        return flat_map_step(step_id, node.fn, self._context.charge(), with_record=node.with_record)

    @_function.register
    def _(self, node: Sides, step_id: str) -> ChunkStep:
        left, right = ([self._function(each, step) for step, each in named] for named in node.named(step_id))
        return sides_step(node.is_left, left, right)

    @_function.register
    def _(self, node: Stateful, step_id: str) -> ChunkStep:
        shards, wall_clock = self._components.shards, self._components.wall_clock
        ledgers = self._components.track.keep_state() if shards is None else shards.ledgers
        step = StatefulStep if node.on_timer is None else TimedStatefulStep
        return step(step_id, node, self._codecs[step_id], ledgers, self._context, self._labels, wall_clock)

    @_function.register
    def _(self, node: TimeWindow, step_id: str) -> ChunkStep:
        ledgers, wall_clock = self._components.track.keep_state(), self._components.wall_clock
        codecs = self._codecs[step_id], self._codecs[node.watermark_of(step_id)]
        return TimeWindowStep(step_id, node, codecs, ledgers, self._context, self._labels, wall_clock)

    @singledispatchmethod
    def _async(self, node: Node, step_id: str) -> AsyncStep[Any, Any]:
        raise NotImplementedError(f"no step for {type(node).__name__}")

    @_async.register
    def _(self, node: MapAsync, step_id: str) -> AsyncStep[Any, Any]:
        return MapAsyncStep(
            self._context,
            step_id,
            node.fn,
            max_in_flight=node.max_in_flight,
            timeout_s=node.timeout_s,
            with_record=node.with_record,
            keys=_keys_of(node, "unordered"),
        )

    @_async.register
    def _(self, node: Arrange, step_id: str) -> AsyncStep[Any, Any]:
        defaults = self._components.config.executor
        return ArrangeStep(
            self._context,
            step_id,
            node.fn,
            node.window.size if node.window.size is not None else defaults.window_size,
            node.window.linger_s if node.window.linger_s is not None else defaults.window_linger_s,
            keep_messages=self._flow.find(Collect).on_message_complete is not None,
        )

    @_async.register
    def _(self, node: Execute, step_id: str) -> AsyncStep[Any, Any]:
        components = self._components
        assert components.executor is not None
        executor, runtime = components.config.executor, components.config.runtime
        rules = {name: self._rules_of(config) for name, config in (components.programs or {"": executor}).items()}
        default = rules.pop("")
        settings = ExecuteSettings(
            retry=default.retry,
            on_error=node.on_error,
            default=ErrorAction(runtime.on_task_error),
            keys=_keys_of(node, executor.ordering),
            priority=node.priority,
            ok_exit_codes=default.ok_exit_codes,
            named=rules,
            long_s=components.config.debug.long_task_s,
            results=_results_of(node, components),
        )
        return ExecuteStep(self._context, step_id, self._parking, components.executor, settings)

    @_async.register
    def _(self, node: Collect, step_id: str) -> AsyncStep[Any, Any]:
        hooks = CollectHooks(
            step_id, node.fn, node.on_message_complete, node.on_window_complete, self._flow.hooks.on_timer
        )
        return CollectStep(self._context, hooks)

    def _rules_of(self, config: ProgramConfig) -> TaskRules:
        retry, backoff = config.retry.policy(config.max_retries), self._components.task_backoff
        return TaskRules(retry if backoff is None else replace(retry, backoff=backoff), config.success_codes)

    def _ending(self, node: Route, step_id: str) -> list[AsyncStep[Any, Any]]:
        """The route, and behind it the sinks, the failure policies and the dead letters."""
        components, context = self._components, self._context
        sinks = self._sinks_of(node)
        deliveries = [self._delivery(sink, node) for sink in sinks]
        targets = [_target(sink, step.inbox) for sink, step in zip(sinks, deliveries, strict=True)]
        policies = PolicyStep(context, self._policies)
        drop = components.config.dlq.on_failure == "drop"
        dead_letters = DeadLetterStep(context, components.dead_letters, components.dlq_backoff, self._brake, drop=drop)
        policies.to(dead_letters)
        route = RouteStep(context, step_id, targets, _left_out(components, sinks))
        return [route, *deliveries, policies, dead_letters]

    def _sinks_of(self, node: Route) -> list[SinkComponent]:
        if not node.sinks:
            return list(self._components.sinks.values())
        return [self._components.sinks[sink.id] for sink in node.sinks]

    def _delivery(self, part: SinkComponent, node: Route) -> DeliverStep:
        components, spec = self._components, part.spec
        retry, common = part.settings.retry, components.config.sinks
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
        circuit = Circuit(components.bus, spec.kind, part.name, common.circuit_of(part.settings))
        name = part.id.replace(".", ":")  # step ids are separated by periods
        return DeliverStep(self._context, f"sink-{name}", part.sink, settings, circuit)


def _decode_policies(flow: StreamFlow) -> dict[str, str]:
    """Return the error policies of decode steps that have one, those of the sides of a join included."""
    steps = list(flow.steps())
    decodes = [(step, node) for step, node in (*steps, *side_steps(steps)) if isinstance(node, Decode)]
    return {step: node.on_error for step, node in decodes if node.on_error is not None}


def _divides(node: Node) -> bool:
    """Return True if a step makes several records of one."""
    return isinstance(node, FlatMap) or (isinstance(node, Sides) and any(map(_divides, (*node.left, *node.right))))


def _left_out(components: Components, sinks: Iterable[SinkComponent]) -> dict[type, list[str]]:
    """The configured sinks that the route does not name, by the payload they take."""
    named = {sink.id for sink in sinks}
    found: dict[type, list[str]] = {}
    for kind, name in components.config.sinks.named:
        if f"{kind}-{name}" not in named:
            found.setdefault(SPECS[kind].payload_type, []).append(f"{kind}.{name}")
    return found


def _brake(components: Components) -> FailureBrake:
    dlq = components.config.dlq
    brake = Brake(dlq.stop_after, dlq.max_ratio, dlq.ratio_window) if dlq.stop_after else None
    hold_s = dlq.hold_s if components.brake_hold_s is None else components.brake_hold_s
    return FailureBrake(components.loop_thread, components.in_flight, components.control, brake, hold_s)


def _proven(step: str, function: ChunkStep, proof: Proof, chunk: Chunk[Any]) -> Chunk[Any]:
    """Apply a function to a chunk, and note whether it works for any record of it."""
    records, failed = len(chunk.items), len(chunk.failures)
    if not records:
        return chunk
    chunk = function(chunk)
    if len(chunk.failures) - failed < records:
        proof.add(step)
    return chunk


def _results_of(node: Execute, components: Components) -> ResultCache | None:
    """Return the cache of the step's results; its keys have the programs as they are configured."""
    if node.cached is None or components.cache is None:
        return None
    configured = components.programs or {"": components.config.executor}
    programs = {
        name or "default": (program.binary_path, program.persistent.args, program.env)
        for name, program in configured.items()
    }
    return ResultCache(components.cache, node.cached, programs)


def _keys_of(node: Execute | MapAsync, default: Ordering) -> KeysOf | None:
    return keys_of("key" if node.key is not None else node.ordering or default, node.key)


def _target(part: SinkComponent, inbox: list[Delivery]) -> Target:
    def wrap(value: Any, record: Any) -> Any:
        return part.spec.wrap(value, record, part.name, part.settings)

    return Target(part.id, part.name, part.spec.payload_type, wrap, inbox)
