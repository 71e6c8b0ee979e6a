"""Hooks of a flow's lifecycle, not of one of its steps: frozen data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from drakkar_flow.errors import Problem
from drakkar_flow.graph.cache import Cache
from drakkar_flow.graph.periodic import Periodic

__all__ = ["LifeHooks"]

Hook = Callable[..., Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeHooks:
    """Hooks around a flow's steps; None for undefined ones.

    `owner` is their handler: it has `offload` and `annotate` while it runs.
    `cache` is the handle of the worker's cache, for the functions of a flow.
    `warnings` are remarks about the handler that are logged at the start.
    """

    on_startup: Hook = None
    on_ready: Hook = None
    on_assign: Hook = None
    on_revoke: Hook = None
    message_label: Hook = None
    on_timer: Hook = None
    periodics: tuple[Periodic, ...] = ()
    owner: Any = None
    warnings: tuple[str, ...] = ()
    cache: Cache | None = None

    def problems(self) -> Iterator[Problem]:
        """Problems that prevent calling them."""
        for field in fields(self)[:6]:
            hook = getattr(self, field.name)
            if hook is not None and not callable(hook):
                yield Problem(field.name, f"{hook!r} can't be called", "pass a function")
        if inspect.iscoroutinefunction(self.message_label):
            yield Problem("message_label", "it is an async function", "write it with 'def': it is called in passing")
