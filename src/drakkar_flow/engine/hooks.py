"""Lifecycle hooks of one run: calls them, runs periodic functions, and serves the methods of handlers."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from drakkar_flow.config.base import Section
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.offload import OffloadPool, threads_for
from drakkar_flow.engine.periodics import Periodics
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.graph.cache import NoCache
from drakkar_flow.graph.hooks import LifeHooks
from drakkar_flow.model.cache import CacheStore
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.annotations import annotation
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.runtime.components import SinkComponent
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.failures import describe, is_cancelled

__all__ = ["RunningHooks"]

_HOOKS = frozenset(
    {"arrange", "on_task_complete", "collect", "on_message_complete", "on_window_complete", "on_timer", "on_error"}
    | {"on_delivery_error", "on_ready", "on_assign", "on_revoke"}
)


class RunningHooks:
    """Calls `on_startup` and `on_ready`, runs the periodic functions and the offload pool.

    Order of calls: `startup`, `ready`, `stop` when the flow must end, `close_periodics` before
    anything else is closed, `close` after everything that could call a hook. All but `stop` wait.
    """

    def __init__(self, hooks: LifeHooks, loop_thread: EventLoopThread, bus: Bus) -> None:
        self._hooks = hooks
        self._loop_thread = loop_thread
        self._bus = bus
        self._periodics = Periodics(hooks.periodics, bus)
        self._names = _HOOKS | {periodic.name for periodic in hooks.periodics}
        self._bound = False
        self._cache: CacheStore | None = None
        self.pool: OffloadPool | None = None

    def startup(self, config: DrakkarConfig) -> DrakkarConfig:
        """Call `on_startup` with a copy of the configuration, and return the configuration that it returns.

        Raises:
            StartupError: the hook raised or did not return a configuration (exit code 1), or the returned
                configuration is invalid (2).
        """
        self._give_settings(config)
        if self._hooks.on_startup is None:
            return config
        answer = self._loop_thread.run(self._call("on_startup", self._hooks.on_startup, config.opened()))
        return _validated(answer, self._place("on_startup"), config)

    def ready(self, config: DrakkarConfig, sinks: Iterable[SinkComponent], cache: CacheStore | None = None) -> None:
        """Call `on_ready` and start the periodic functions.

        From now on the handler may use `offload`, `annotate` and `cache`, and the flow's functions their cache.

        Raises:
            StartupError: `on_ready` raised, or the handler is part of another running flow.
        """
        pool = self.pool = OffloadPool(
            threads_for(config.offload.max_threads, config.executor.max_executors), self._bus
        )
        self._give_settings(config)
        owner = self._hooks.owner
        if owner is not None:
            if owner._services is not None:  # noqa: SLF001 - the handler's side of this contract
                remedy = "make a separate instance of the handler for each flow"
                raise StartupError([Problem(type(owner).__name__, "the handler already runs in another flow", remedy)])
            owner._services = _Services(pool, self._bus, self._names)  # noqa: SLF001
            self._bound = True
            if cache is not None and isinstance(owner.cache, NoCache):
                owner.cache = self._cache = cache
        if self._hooks.cache is not None:
            self._hooks.cache.bind(cache)
        if self._hooks.on_ready is not None:
            self._loop_thread.run(self._call("on_ready", self._hooks.on_ready, config, _database_pool(sinks)))
        self._loop_thread.run(self._periodics.start())

    def stop(self) -> None:
        """Cancel the periodic functions; returns at once, callable from any thread."""
        self._loop_thread.post(self._periodics.stop)

    def close_periodics(self, timeout_s: float) -> None:
        """Cancel the periodic functions and wait for their end.

        Raises:
            TimeoutError: a function ignores its cancellation.
        """
        if not self._loop_thread.closed:
            self._loop_thread.run(self._periodics.close(), timeout_s)

    def close(self, timeout_s: float) -> int:
        """Detach the handler and close the offload pool; returns the number of offloaded calls that did not end.

        Raises:
            TimeoutError: a hook blocks the event loop.
        """
        if self._bound:
            self._bound = False
            self._hooks.owner._services = None  # noqa: SLF001
            if self._cache is not None and vars(self._hooks.owner).get("cache") is self._cache:
                del self._hooks.owner.cache
        if self._hooks.cache is not None:
            self._hooks.cache.bind(None)
        if self.pool is None or self._loop_thread.closed:
            return 0
        return self._loop_thread.run(self.pool.close(timeout_s), timeout_s + 1)

    def _give_settings(self, config: DrakkarConfig) -> None:
        if self._hooks.owner is not None and self._hooks.owner.app_config_model is not None:
            self._hooks.owner.app_config = config.app

    async def _call(self, name: str, hook: Callable[..., Any], *args: Any) -> Any:
        started = time.monotonic()
        try:
            answer = hook(*args)
            if inspect.isawaitable(answer):
                answer = await answer
        except BaseException as exc:
            if is_cancelled():
                raise
            self._bus.emit(HookRan(name, time.monotonic() - started, describe(exc), exc))
            what = f"raised {type(exc).__name__}: {exc}"
            raise StartupError([Problem(self._place(name), what, "the log has the stack")]) from exc
        self._bus.emit(HookRan(name, time.monotonic() - started))
        return answer

    def _place(self, name: str) -> str:
        owner = self._hooks.owner
        return name if owner is None else f"{type(owner).__name__}.{name}"


class _Services:
    """Services for a handler while its flow runs: `offload` and `annotate`."""

    def __init__(self, pool: OffloadPool, bus: Bus, names: frozenset[str]) -> None:
        self._pool = pool
        self._bus = bus
        self._names = names

    async def offload(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await self._pool.run(self._calling_hook(), partial(function, *args, **kwargs))

    def annotate(self, target: object, kind: str, data: object, labels: Mapping[str, str] | None) -> None:
        self._bus.emit(annotation(target, kind, data, labels))

    def _calling_hook(self) -> str:
        """Return the hook that awaits this call, directly or through functions: its frame is on the stack."""
        frame = sys._getframe(1)  # noqa: SLF001
        while frame is not None and frame.f_code.co_name not in self._names:
            frame = frame.f_back  # type: ignore[assignment]
        return frame.f_code.co_name if frame is not None else "other"


def _database_pool(sinks: Iterable[SinkComponent]) -> Any:
    return next((getattr(part.sink, "pool", None) for part in sinks if part.spec.kind == "postgres"), None)


def _validated(answer: object, where: str, given: DrakkarConfig) -> DrakkarConfig:
    if not isinstance(answer, DrakkarConfig):
        what = f"returned {type(answer).__name__}, expected the configuration"
        raise StartupError([Problem(where, what, "end the hook with `return config`")])
    try:
        checked = type(answer).model_validate(_given(answer))
        variables = {**given.secret_variables, **answer.secret_variables}
        return checked.noted(given.notices, answer.file or given.file, variables)
    except ValidationError as exc:
        problems = [
            Problem(where, f"returned an invalid configuration: {'.'.join(map(str, error['loc']))}: {error['msg']}")
            for error in exc.errors(include_url=False)
        ]
        raise StartupError(problems, exit_code=2) from None


def _given(value: Any) -> Any:
    """Return the values that were set or changed in place, as plain data, so that they are validated again."""
    if isinstance(value, Section):
        given = ((name, _given(inner), inner) for name, inner in value)
        return {name: plain for name, plain, inner in given if _is_given(value, name, plain, inner)}
    if isinstance(value, dict):
        return {name: _given(inner) for name, inner in value.items()}
    return value


def _is_given(section: Section, name: str, plain: Any, inner: Any) -> bool:
    if name in section.model_fields_set:
        return True
    if isinstance(inner, Section):
        return bool(plain)
    return bool(inner != type(section).model_fields[name].get_default(call_default_factory=True))
