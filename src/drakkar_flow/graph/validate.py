"""Validation of a flow: every problem with its step and a fix."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import get_args

from drakkar_flow.errors import FlowError, Problem
from drakkar_flow.graph.across_problems import across_problems, join_problems, side_steps
from drakkar_flow.graph.handler import BaseDrakkarHandler
from drakkar_flow.graph.hooks import LifeHooks
from drakkar_flow.graph.nodes import (
    Arrange,
    Collect,
    Decode,
    ErrorPolicy,
    Execute,
    KafkaSource,
    MapAsync,
    Node,
    Route,
    Stateful,
)
from drakkar_flow.graph.places import user_place
from drakkar_flow.graph.signatures import handler_problems
from drakkar_flow.graph.time_windows import TimeWindow
from drakkar_flow.kernel.ordering import Ordering
from drakkar_flow.model.state import StateCodec

__all__ = ["check_instance", "problems_of"]

Steps = list[tuple[str, Node]]

_ONCE: tuple[type[Node], ...] = (Decode, Arrange, Execute, Collect, Route)
_TASK_CHAIN: tuple[type[Node], ...] = (Arrange, Execute, Collect, Route)


def problems_of(name: str, source: KafkaSource, steps: Steps, hooks: LifeHooks) -> list[Problem]:
    """Check a flow; an empty list means that it compiles."""
    return [
        *_name_problems(name),
        *_source_problems(source),
        *_shape_problems(steps),
        *(problem for step, node in steps for problem in _node_problems(step, node)),
        *across_problems(steps, hooks.owner),
        *_handler_state_problems(hooks.owner),
        *hooks.problems(),
        *(handler_problems(hooks.owner) if hooks.owner is not None else ()),
    ]


def check_instance(handler: object) -> None:
    """Raise FlowError if `handler` is no instance of a handler."""
    if isinstance(handler, BaseDrakkarHandler):
        return
    if isinstance(handler, type) and issubclass(handler, BaseDrakkarHandler):
        name = handler.__name__
        problem = Problem("flow", f"expected a handler instance, got the class {name}: write dataflow({name}())")
    else:
        remedy = "pass a StreamFlow, a handler instance, or dataflow(...) of one"
        problem = Problem("flow", f"{type(handler).__name__} is not a flow", remedy)
    raise FlowError([replace(problem, place=user_place())])


def _name_problems(name: str) -> Iterator[Problem]:
    if not name:
        yield Problem("flow", "the name is missing", "write StreamFlow('scan')")
    elif "." in name:
        yield Problem(
            f"flow {name!r}", "its name contains a period", "use '-' or '_': Bytewax separates ids by periods"
        )


def _source_problems(source: KafkaSource) -> Iterator[Problem]:
    for topic, times in Counter(source.topics).items():
        if times > 1:
            yield Problem("source", f"topic {topic!r} is listed {times} times", "list it once")
        elif topic.startswith("^"):
            try:
                re.compile(topic)
            except re.error as exc:
                yield Problem("source", f"{topic!r} is not a regular expression: {exc}", "fix the pattern")


def _shape_problems(steps: Steps) -> Iterator[Problem]:
    for kind in _ONCE:
        found = [step for step, node in steps if isinstance(node, kind)]
        for step in found[1:]:
            yield Problem(f"step {step}", f"a flow has one {kind.kind}", f"remove it, {found[0]} is already there")
    routes = [index for index, (_, node) in enumerate(steps) if isinstance(node, Route)]
    if not routes:
        yield Problem("flow", "results go nowhere", "end it with .route(KafkaSink('results'))")
    for step, _ in steps[routes[0] + 1 :] if routes else ():
        yield Problem(f"step {step}", "it comes after route, which ends a flow", "move it before .route(...)")
    for index, (step, node) in enumerate(steps):
        if isinstance(node, Decode) and index > 0:
            yield Problem(f"step {step}", "decode reads a record's bytes", "make it the first step")
    yield from _chain_problems(steps)
    yield from _state_problems(steps)
    for side, node in side_steps(steps):
        yield from _node_problems(side, node)
    yield from join_problems(steps, _model_problems)


def _chain_problems(steps: Steps) -> Iterator[Problem]:
    """Tasks exist only between arrange and collect, so these steps follow each other directly."""
    kinds = [type(node) for _, node in steps]
    for earlier, later in pairwise(_TASK_CHAIN):
        if earlier in kinds:
            index = kinds.index(earlier)
            if index + 1 >= len(kinds) or kinds[index + 1] is not later:
                where = f"step {steps[index][0]}"
                yield Problem(where, f"it is not followed by {later.kind}", f"put .{later.kind}(...) directly after it")
    for kind, needed in ((Execute, Arrange), (Collect, Execute)):
        if kind in kinds and needed not in kinds:
            where = f"step {steps[kinds.index(kind)][0]}"
            yield Problem(where, f"there is no {needed.kind} before it", f"put .{needed.kind}(...) before it")


def _state_problems(steps: Steps) -> Iterator[Problem]:
    """Steps with state whose ids depend on their order, and models that can't be stored."""
    stateful = [(step, node) for step, node in steps if isinstance(node, Stateful | TimeWindow)]
    for stem, times in Counter(node.stem for _, node in stateful).items():
        if times > 1:
            where = f"step {stem}"
            what = f"{times} steps with state have this name, by which their state is found again"
            yield Problem(where, what, "give each a name: name='visits'")
    for step, node in stateful:
        for name in ("fn", "key", "time", "migrate", "on_timer"):
            function = getattr(node, name, None)
            if inspect.iscoroutinefunction(function):
                yield Problem(f"step {step}", f"its {name} is an async function", "write it with 'def'")
            elif name != "fn" and function is not None and not callable(function):
                yield Problem(f"step {step}", f"{function!r} can't be called", "pass a function")
        yield from _model_problems(f"step {step}", node.state)


def _handler_state_problems(owner: object) -> Iterator[Problem]:
    if isinstance(owner, BaseDrakkarHandler) and owner.state_model is not None:
        yield from _model_problems(f"{type(owner).__name__}.state_model", owner.state_model)


def _model_problems(where: str, model: object) -> Iterator[Problem]:
    try:
        StateCodec(model)
    except Exception as exc:  # whatever the libraries of models raise
        what = f"state of type {model!r} can't be stored: {' '.join(str(exc).split())}"
        yield Problem(where, what, "use a pydantic model, a msgspec struct, a dataclass or a builtin type")


def _node_problems(step: str, node: Node) -> Iterator[Problem]:
    where = f"step {step}"
    yield from _function_problems(where, node)
    if isinstance(node, Decode | Route) and node.on_error not in (None, *get_args(ErrorPolicy)):
        yield Problem(where, f"there is no error policy {node.on_error!r}", 'use "dlq", "skip" or "fail"')
    if isinstance(node, Execute | MapAsync):
        yield from _ordering_problems(where, node)
    if isinstance(node, Route):
        for sink, times in Counter(sink.id for sink in node.sinks).items():
            if times > 1:
                yield Problem(where, f"sink {sink} is listed {times} times", "list it once")


def _ordering_problems(where: str, node: Execute | MapAsync) -> Iterator[Problem]:
    if node.ordering not in (None, *get_args(Ordering)):
        yield Problem(where, f"there is no ordering {node.ordering!r}", f"use one of {', '.join(get_args(Ordering))}")
    elif node.key is not None and node.ordering not in (None, "key"):
        yield Problem(where, f"its key has no meaning with ordering {node.ordering!r}", "use ordering='key'")


def _function_problems(where: str, node: Node) -> Iterator[Problem]:
    hooks = ["fn", "on_delivery_error", "on_message_complete", "on_window_complete"]
    if isinstance(node, Execute):
        hooks += ["on_error", "priority"]
        if inspect.iscoroutinefunction(node.priority):
            yield Problem(where, "its priority is an async function", "write it with 'def': it is called without await")
    if isinstance(node, Execute | MapAsync):
        hooks.append("key")
    if isinstance(node, Decode) and node.with_record and inspect.iscoroutinefunction(node.target):
        yield Problem(where, "decode got an async function", "write it with 'def': decoding must not wait")
    for function in (getattr(node, hook, None) for hook in hooks):
        if function is not None and not callable(function):
            yield Problem(where, f"{function!r} can't be called", "pass a function")
    function = getattr(node, "fn", None)
    if node.kind in {"map", "filter", "flat_map"} and inspect.iscoroutinefunction(function):
        yield Problem(where, f"{node.kind} got an async function", "use .map_async(...) for it")
    if isinstance(node, MapAsync) and callable(function) and not inspect.iscoroutinefunction(function):
        yield Problem(
            where, "map_async got a function that is not async", "write it with 'async def', or use .map(...)"
        )
