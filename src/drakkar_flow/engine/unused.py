"""Settings that do not fit the flow: sinks that are not in its route, a cache that is not enabled."""

from __future__ import annotations

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.errors import Problem
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.nodes import Execute, Route
from drakkar_flow.sinks.registry import ref_code

__all__ = ["missing_cache", "unused_sinks"]


def unused_sinks(flow: StreamFlow, config: DrakkarConfig) -> list[Problem]:
    """Return the configured sinks that are not in the flow's route: payloads for them are routing failures.

    >>> from drakkar_flow.graph.nodes import KafkaSink
    >>> config = DrakkarConfig(sinks={"kafka": {"a": {"topic": "a"}, "b": {"topic": "b"}}})
    >>> print(*unused_sinks(StreamFlow("f").route(KafkaSink("a")), config))
    sinks.kafka.b: configured but not used: route names kafka-a; add KafkaSink('b') to the route, or remove the sink
    >>> unused_sinks(StreamFlow("f").route(), config)
    []
    """
    route: Route | None = flow.find(Route)
    if route is None or not route.sinks:
        return []
    used = {sink.id for sink in route.sinks}
    names = ", ".join(sorted(used))
    step = next(step for step, node in flow.steps() if node is route)
    return [
        Problem(
            f"sinks.{kind}.{name}",
            f"configured but not used: {step} names {names}",
            f"add {ref_code(kind, name)} to the route, or remove the sink",
        )
        for kind, name in config.sinks.named
        if f"{kind}-{name}" not in used
    ]


def missing_cache(flow: StreamFlow, config: DrakkarConfig) -> list[Problem]:
    """Return a problem if the flow names a cache that is not enabled.

    >>> from drakkar_flow.graph.cache import Cache
    >>> print(*missing_cache(StreamFlow("f", cache=Cache()), DrakkarConfig()))
    cache.enabled: the flow uses a cache, and it is not enabled: nothing is stored; set it to true
    """
    execute: Execute | None = flow.find(Execute)
    uses = flow.hooks.cache is not None or (execute is not None and execute.cached is not None)
    if not uses or config.cache.enabled:
        return []
    what = "the flow uses a cache, and it is not enabled: nothing is stored"
    return [Problem("cache.enabled", what, "set it to true")]
