"""Hook checks: names and parameters of a flow's hooks, checked before a record is read. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from types import CodeType
from typing import Any

from drakkar_flow.errors import Problem
from drakkar_flow.graph.handler import BaseDrakkarHandler, overrides
from drakkar_flow.graph.hooks import LifeHooks
from drakkar_flow.graph.nodes import Node, Stateful
from drakkar_flow.graph.periodic import periodics_of
from drakkar_flow.graph.places import place_of
from drakkar_flow.graph.time_windows import TimeWindow

__all__ = ["doubtful_hooks", "function_problems", "handler_problems"]

_OFFERED = {"offload", "annotate"}  # called by the handler, not on it
_HOOKS = [
    name
    for name, value in vars(BaseDrakkarHandler).items()
    if inspect.isfunction(value) and not name.startswith("_") and name not in _OFFERED
]
_SETTINGS = ["input_model", "app_config_model", "app_env_prefix"]
_NEAR = 0.85
"""Similarity from which a name counts as a misspelled one: `on_task_complet` does, `on_startup_done` does not."""


def handler_problems(handler: BaseDrakkarHandler[Any, Any]) -> Iterator[Problem]:
    """Errors of a handler's hooks: no `arrange`, misspelled names, parameters that do not fit."""
    kind = type(handler).__name__
    if getattr(handler.arrange, "__func__", None) is BaseDrakkarHandler.arrange:
        remedy = "define async def arrange(self, messages, pending), which returns a list of ExecutorTask"
        yield Problem(kind, "arrange is missing", remedy, place_of(type(handler)))
    for hook in _HOOKS:
        if hook == "on_timer" and handler.state_model is None:
            continue  # no hook then
        if overrides(handler, hook):
            wanted = list(inspect.signature(getattr(BaseDrakkarHandler, hook)).parameters)
            yield from _call_problems(f"{kind}.{hook}", getattr(handler, hook), wanted, type(handler))
    yield from (problem for problem, doubtful in _misspelled(handler) if not doubtful)


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
"""Arguments of a step's function, by the step's kind and the function's name."""
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
        if isinstance(node, Stateful | TimeWindow):
            given = ["payload", "record"] if node.with_record else ["payload"]
            first = "state" if isinstance(node, Stateful) else "value"
            functions = [(node.fn, [first, *given]), (node.key, given), (getattr(node, "time", None), given)]
            for called, wanted in (*functions, (getattr(node, "on_timer", None), ["state", "key"])):
                if callable(called):
                    yield from _bind_problems(f"step {step}", called, wanted, wanted)
        for (kind, name), given in _GIVEN.items():
            if node.kind == kind and callable(function := getattr(node, name)):
                yield from _bind_problems(f"step {step}", function, given, given)
        if node.kind in ("map", "filter", "flat_map", "map_async") and callable(function := getattr(node, "fn", None)):
            given = ["payload", "record"] if getattr(node, "with_record", False) else ["payload"]
            yield from _bind_problems(f"step {step}", function, given, given)
    for name, given in _LIFE.items():
        if callable(function := getattr(hooks, name)):
            yield from _bind_problems(name, function, given, given)


def doubtful_hooks(handler: BaseDrakkarHandler[Any, Any]) -> Iterator[Problem]:
    """Names close to a hook's that may be helpers: the hook is defined too, or the class's code uses them."""
    yield from (problem for problem, doubtful in _misspelled(handler) if doubtful)


def _misspelled(handler: BaseDrakkarHandler[Any, Any]) -> Iterator[tuple[Problem, bool]]:
    """Names close to a hook's or setting's, each with True if it may be a helper; without those of `not_hooks`."""
    kind = type(handler)
    known = {_folded(name): name for name in (*_HOOKS, *_SETTINGS)}
    allowed = {*kind.not_hooks, *(found.name for found in periodics_of(handler))}
    for name in dir(kind):
        if name.startswith("_") or hasattr(BaseDrakkarHandler, name) or name in allowed:
            continue
        if getattr(getattr(kind, name), "__name__", "") == name and isinstance(getattr(kind, name), type):
            continue  # a nested class
        for near in get_close_matches(_folded(name), known, n=1, cutoff=_NEAR):
            hook = known[near]
            what = "unknown hook, never called" if hook in _HOOKS else "unknown setting, never read"
            problem = Problem(f"{kind.__name__}.{name}", what, f"did you mean {hook}?", _place_in(kind, name))
            yield problem, overrides(handler, hook) or _is_used(kind, name)


def _folded(name: str) -> str:
    """A name without underscores and capitals: `onTaskComplete` and `on_taskcomplete` are `on_task_complete`."""
    return name.replace("_", "").lower()


def _is_used(kind: type, name: str) -> bool:
    """True if the code of a class or of its bases uses the name, apart from the function of that name."""
    functions = [value for owner in kind.__mro__ for key, value in vars(owner).items() if key != name]
    codes = [getattr(inspect.unwrap(function), "__code__", None) for function in functions if callable(function)]
    return any(code is not None and name in _names(code) for code in codes)


def _names(code: CodeType) -> set[str]:
    """Names that a function's code uses, in its inner functions too."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return {*code.co_names, *(name for each in inner for name in _names(each))}


def _place_in(kind: type, name: str) -> str:
    """`file:line` of an attribute: of its function, else of its class."""
    owner = next(owner for owner in kind.__mro__ if name in vars(owner))
    return place_of(getattr(kind, name)) if callable(getattr(kind, name)) else place_of(owner)


def _call_problems(where: str, function: Any, wanted: list[str], owner: type) -> Iterator[Problem]:
    if not callable(function):
        yield Problem(where, f"{function!r} can't be called", "write it as a method", place_of(owner))
        return
    yield from _bind_problems(where, function, wanted[1:], wanted)


def _bind_problems(where: str, function: Any, given: list[str], written: list[str]) -> Iterator[Problem]:
    try:
        signature = inspect.signature(function)
    except ValueError:  # a callable written in C has no signature
        return
    try:
        signature.bind(*given)
    except TypeError as exc:
        remedy = f"write them as ({', '.join(written)})"
        yield Problem(where, f"its parameters {_without_types(signature)} don't fit: {exc}", remedy, place_of(function))


def _without_types(signature: inspect.Signature) -> inspect.Signature:
    parameters = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return inspect.Signature(parameters)
