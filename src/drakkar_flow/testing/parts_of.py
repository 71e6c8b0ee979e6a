"""Components for the testing kit: the sinks and executors that a flow needs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.executors import make_executors, program_configs
from drakkar_flow.executor.base import Executor
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.nodes import Execute, Route
from drakkar_flow.observe.bus import Bus
from drakkar_flow.sinks.registry import SPECS
from drakkar_flow.testing.clock import FakeClock
from drakkar_flow.testing.executor import Program, ScriptedExecutor
from drakkar_flow.testing.sinks import MemorySink

__all__ = ["cache_in_memory", "executor_of", "real_executor_of", "sinks_of"]


def sinks_of(
    flow: StreamFlow, config: DrakkarConfig, given: Iterable[MemorySink], known: dict[str, MemorySink] | None = None
) -> dict[str, MemorySink]:
    """Return the sinks of a flow: those given, those it names, else those of the configuration, else `kafka-out`.

    A sink of `known` is used again, and new ones are added to it.
    """
    sinks = {sink.id: sink for sink in given}
    route = flow.find(Route)
    if route is not None and route.sinks:
        wanted = [MemorySink(ref.name, kind=ref.kind) for ref in route.sinks]
    else:
        wanted = [MemorySink(name, kind=kind) for kind in SPECS for name in getattr(config.sinks, kind, {})]
    needed = {**{sink.id: sink for sink in wanted}, **sinks} or {"kafka-out": MemorySink()}
    made = known if known is not None else {}
    sinks = {sink_id: sinks.get(sink_id) or made.setdefault(sink_id, sink) for sink_id, sink in needed.items()}
    in_code = {ref.id: ref.settings for ref in route.sinks} if route is not None else {}
    for sink in sinks.values():
        in_file = getattr(config.sinks, sink.kind, {}).get(sink.name)
        sink.configured = {**(dict(in_file) if in_file is not None else {}), **in_code.get(sink.id, {})}
    return sinks


def executor_of(flow: StreamFlow, config: DrakkarConfig, given: Executor | None) -> Executor | None:
    """Return the executor of a flow: the given one, else a scripted one that knows the program and its timeout."""
    execute: Execute | None = flow.find(Execute)
    executor = given if given is not None or execute is None else ScriptedExecutor()
    if isinstance(executor, ScriptedExecutor):
        configs = program_configs(config, execute)
        executor.binary = configs[""].binary_path or ""
        executor.timeout_s = configs[""].task_timeout_seconds
        executor.programs = {name: Program.of(settings) for name, settings in configs.items()}
    return executor


def real_executor_of(flow: StreamFlow, config: DrakkarConfig, bus: Bus) -> Executor | None:
    """Return the executor that runs the flow's programs."""
    execute: Execute | None = flow.find(Execute)
    return make_executors(program_configs(config, execute, os.environ), bus) if execute is not None else None


def cache_in_memory(config: DrakkarConfig, clock: FakeClock | None) -> WorkerCache | None:
    """Return a cache on the kit's clock; None if the configuration says `cache.enabled: false`."""
    cache = config.cache
    if "enabled" in cache.model_fields_set and not cache.enabled:
        return None
    return WorkerCache(
        "test",
        Bus(),
        max_entries=cache.max_memory_entries,
        max_size=int(cache.max_memory_mib * 1024 * 1024),
        now=time.time if clock is None else clock.time,
    )
