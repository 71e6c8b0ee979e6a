"""Checks of steps with state across partitions, and of joins: each problem with its step and a fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drakkar_flow.errors import Problem
from drakkar_flow.graph.handler import BaseDrakkarHandler
from drakkar_flow.graph.joins import Join, Sides, side_problems
from drakkar_flow.graph.nodes import FlatMap, MapAsync, Node, Stateful
from drakkar_flow.graph.time_windows import TimeWindow

__all__ = ["across_problems", "join_problems", "side_steps"]

Steps = list[tuple[str, Node]]


def across_problems(steps: Steps, owner: object) -> Iterator[Problem]:
    """State across partitions is final with the whole record only if no other state depends on the same record."""
    found = [(step, node) for step, node in steps if isinstance(node, Stateful) and node.across]
    if not found:
        return
    first = found[0][0]
    for step, _ in found[1:]:
        what = f"a flow has one step with state across partitions, and {first} is one"
        remedy = "write its results to a topic, and read that in a second flow"
        yield Problem(f"step {step}", what, remedy)
    for step, other in steps:
        if isinstance(other, Stateful | TimeWindow) and (step, other) not in found:
            what = f"its state per partition and that of {first} across partitions can't become final together"
            yield Problem(f"step {step}", what, "give it across=True in a separate flow, or leave it out")
    if isinstance(owner, BaseDrakkarHandler) and owner.state_model is not None:
        what = f"self.state per partition and the state of {first} across partitions can't become final together"
        yield Problem(f"{type(owner).__name__}.state_model", what, "use one of the two")
    before = steps[: [step for step, _ in steps].index(first)]
    divided = next((index for index, (_, each) in enumerate(before) if isinstance(each, FlatMap)), len(before))
    for step, other in before[divided:]:
        if isinstance(other, MapAsync):
            what = f"it stands between a flat_map and {first}, and changes the order of a record's parts"
            yield Problem(f"step {step}", what, f"put it before the flat_map, or behind {first}")


def side_steps(steps: Steps) -> Iterator[tuple[str, Node]]:
    """Yield the steps of both sides of a join."""
    for step, node in steps:
        if isinstance(node, Sides):
            left, right = node.named(step)
            yield from (*left, *right)


def join_problems(steps: Steps, model_problems: Callable[[str, object], Iterator[Problem]]) -> Iterator[Problem]:
    """Yield the problems of joins; `model_problems` are those of a type that can't be stored."""
    for step, node in steps:
        if isinstance(node, Sides):
            for where, what, remedy in side_problems(node, step):
                yield Problem(f"step {where}", what, remedy)
        if isinstance(node, Join):
            yield from _pair_problems(f"step {step}", node, model_problems)


def _pair_problems(
    where: str, node: Join, model_problems: Callable[[str, object], Iterator[Problem]]
) -> Iterator[Problem]:
    for side, model in zip(("left", "right"), node.types, strict=True):
        if model is None:
            what = f"the type of the {side} payloads is not known, by which waiting ones are stored"
            yield Problem(where, what, "pass types=(Order, Payment)")
        else:
            yield from model_problems(f"{where}, {side} payloads", model)
    for function in (*node.keys, *(node.times or ())):
        if not callable(function):
            yield Problem(where, f"{function!r} can't be called", "pass a function")
