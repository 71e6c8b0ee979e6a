"""Secrets across on_startup."""

from __future__ import annotations

from typing import Any

from drakkar_flow import DrakkarConfig, Handler, StreamFlow
from drakkar_flow.engine.hooks import RunningHooks
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.event_loop import EventLoopThread


def test_variables_that_held_secrets_are_known_whatever_on_startup_returns() -> None:
    """A configuration that it makes anew does not know where its secrets were read."""

    class Renewing(Handler[Any, Any]):
        async def arrange(self, messages: Any, pending: Any) -> Any:
            return []

        async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
            return DrakkarConfig(executor={"max_executors": 5})

    loop_thread = EventLoopThread()
    loop_thread.open()
    hooks = RunningHooks(StreamFlow.from_handler(Renewing()).hooks, loop_thread, Bus())
    changed = hooks.startup(DrakkarConfig().noted((), None, {"LOGIN": "hunter2"}))
    loop_thread.close()
    assert changed.executor.max_executors == 5
    assert changed.withheld_variables({"LOGIN": "another", "HOME": "/"}) == ["LOGIN"]
