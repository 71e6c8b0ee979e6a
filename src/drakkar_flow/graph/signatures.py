"""Whether a handler's hooks can be called as they will be: told before a record is read, not at each record."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from drakkar_flow.errors import Problem
from drakkar_flow.graph.handler import BaseDrakkarHandler, overrides
from drakkar_flow.graph.hooks import LifeHooks
from drakkar_flow.graph.nodes import Node
from drakkar_flow.graph.places import place_of

__all__ = ["function_problems", "handler_problems", "misspelled_hooks"]

_OFFERED = {"offload", "annotate"}  # called by the handler, not on it
_HOOKS = [
    name
    for name, value in vars(BaseDrakkarHandler).items()
    if inspect.isfunction(value) and not name.startswith("_") and name not in _OFFERED
]


def handler_problems(handler: BaseDrakkarHandler[Any, Any]) -> Iterator[Problem]:
    """What keeps the hooks from being called: no `arrange`, or parameters that don't fit."""
    kind = type(handler).__name__
    if getattr(handler.arrange, "__func__", None) is BaseDrakkarHandler.arrange:
        remedy = "define async def arrange(self, messages, pending), which returns a list of ExecutorTask"
        yield Problem(kind, "it has no arrange", remedy, place_of(type(handler)))
    for hook in _HOOKS:
        if overrides(handler, hook):
            wanted = list(inspect.signature(getattr(BaseDrakkarHandler, hook)).parameters)
            yield from _call_problems(f"{kind}.{hook}", getattr(handler, hook), wanted, type(handler))


_GIVEN = {
    ("arrange", "fn"): ["records", "pending"],
    ("execute", "on_error"): ["task", "error"],
    ("execute", "priority"): ["task"],
    ("execute", "key"): ["record"],
    ("map_async", "key"): ["record"],
    ("collect", "fn"): ["result"],
    ("collect", "on_message_complete"): ["group"],
    ("collect", "on_window_complete"): ["results", "records"],
    ("route", "on_delivery_error"): ["error"],
}
"""What a step's function is called with, by the step's kind and the function's name."""
_LIFE = {
    "on_startup": ["config"],
    "on_ready": ["config", "db_pool"],
    "on_assign": ["partitions"],
    "on_revoke": ["partitions"],
    "message_label": ["record"],
}


def function_problems(steps: Iterable[tuple[str, Node]], hooks: LifeHooks) -> Iterator[Problem]:
    """Functions of a flow whose parameters do not fit; those of a handler are checked by `handler_problems`."""
    for step, node in steps:
        for (kind, name), given in _GIVEN.items():
            if node.kind == kind and callable(function := getattr(node, name)):
                yield from _bind_problems(f"step {step}", function, given, given)
        if node.kind in ("map", "filter", "flat_map", "map_async") and callable(function := getattr(node, "fn", None)):
            given = ["payload", "record"] if getattr(node, "with_record", False) else ["payload"]
            yield from _bind_problems(f"step {step}", function, given, given)
    for name, given in _LIFE.items():
        if callable(function := getattr(hooks, name)):
            yield from _bind_problems(name, function, given, given)


def misspelled_hooks(handler: BaseDrakkarHandler[Any, Any]) -> Iterator[tuple[str, str]]:
    """Methods that are no hooks, each with the hook whose name is nearly theirs."""
    for name in dir(type(handler)):
        if not name.startswith("_") and not hasattr(BaseDrakkarHandler, name):
            for hook in get_close_matches(name, _HOOKS, n=1, cutoff=0.85):
                yield name, hook


def _call_problems(where: str, function: Any, wanted: list[str], owner: type) -> Iterator[Problem]:
    if not callable(function):
        yield Problem(where, f"{function!r} can't be called", "write it as a method", place_of(owner))
        return
    yield from _bind_problems(where, function, wanted[1:], wanted)


def _bind_problems(where: str, function: Any, given: list[str], written: list[str]) -> Iterator[Problem]:
    try:
        signature = inspect.signature(function)
    except ValueError:  # a callable written in C does not tell
        return
    try:
        signature.bind(*given)
    except TypeError as exc:
        remedy = f"write them as ({', '.join(written)})"
        yield Problem(where, f"its parameters {signature} don't fit: {exc}", remedy, place_of(function))
