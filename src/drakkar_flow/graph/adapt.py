"""Adapter from a handler to a flow: takes only the hooks that the handler defines."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from drakkar_flow.graph.handler import BaseDrakkarHandler, overrides
from drakkar_flow.graph.hooks import LifeHooks
from drakkar_flow.graph.periodic import periodics_of
from drakkar_flow.graph.signatures import doubtful_hooks
from drakkar_flow.model.record import Record

__all__ = ["collect_of", "hooks_of", "payload_of"]

AnyHandler = BaseDrakkarHandler[Any, Any]

_LIFE = ("on_startup", "on_ready", "on_assign", "on_revoke", "message_label")


def hooks_of(handler: AnyHandler) -> LifeHooks:
    """The hooks around the steps."""
    return LifeHooks(
        **{hook: getattr(handler, hook) for hook in _LIFE if overrides(handler, hook)},
        on_timer=handler.on_timer if overrides(handler, "on_timer") and handler.state_model is not None else None,
        periodics=periodics_of(handler),
        owner=handler,
        warnings=_warnings(handler),
    )


def collect_of(handler: AnyHandler) -> Callable[..., Any] | None:
    """`on_task_complete`, or `collect`, its old name; None without either."""
    if overrides(handler, "on_task_complete"):
        return handler.on_task_complete
    return getattr(handler, "collect", None)


def payload_of(deserialize: Callable[[Record], Record | None]) -> Callable[[Record], Any]:
    """`deserialize_message` as a function from a record to its payload."""
    if inspect.iscoroutinefunction(deserialize):
        return deserialize  # the check of the flow refuses it

    def deserialize_message(record: Record) -> Any:
        answer = deserialize(record)
        if answer is None:
            return record.payload
        if isinstance(answer, Record):
            return answer.payload
        raise TypeError(f"deserialize_message must return the message or None, not {type(answer).__name__}")

    return deserialize_message


def _warnings(handler: AnyHandler) -> tuple[str, ...]:
    name = type(handler).__name__
    both = overrides(handler, "on_task_complete") and hasattr(handler, "collect")
    old = [f"{name} defines on_task_complete and collect, its old name: collect is never called"] if both else []
    if overrides(handler, "on_timer") and handler.state_model is None:
        old.append(f"{name} defines on_timer and no state_model: it is never called")
    return *old, *(problem.placed for problem in doubtful_hooks(handler))
