"""Whether a handler's hooks can be called as they will be: told before a record is read, not at each record."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from drakkar_flow.errors import Problem
from drakkar_flow.graph.handler import BaseDrakkarHandler, overrides
from drakkar_flow.graph.places import place_of

__all__ = ["handler_problems", "misspelled_hooks"]

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
    try:
        signature = inspect.signature(function)
    except ValueError:  # a callable written in C does not tell
        return
    try:
        signature.bind(*wanted[1:])
    except TypeError as exc:
        remedy = f"write them as ({', '.join(wanted)})"
        yield Problem(where, f"its parameters {signature} don't fit: {exc}", remedy, place_of(function))
