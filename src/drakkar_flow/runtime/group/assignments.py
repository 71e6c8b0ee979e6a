"""Assignment hooks: calls of `on_assign` and `on_revoke`."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from drakkar_flow.model.assignment import AssignedPartition
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.failures import describe

__all__ = ["AssignmentHooks"]

Hook = Callable[[list[AssignedPartition]], Any] | None


class AssignmentHooks:
    """Runs `on_assign` and `on_revoke` on the loop, one after the other in the order of the changes.

    Its methods are called by the reader's thread. `on_revoke` is cancelled after `limit_s` seconds, so a hook that
    hangs does not delay the calls for later changes.
    """

    def __init__(
        self, loop_thread: EventLoopThread, bus: Bus, on_assign: Hook, on_revoke: Hook, limit_s: float
    ) -> None:
        self._loop_thread = loop_thread
        self._bus = bus
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._limit_s = limit_s
        self._turn = asyncio.Lock()

    def assigned(self, topic_partitions: Iterable[TopicPartition]) -> None:
        """Call `on_assign` for assigned partitions; returns at once."""
        self._call_hook("on_assign", self._on_assign, topic_partitions, None)

    def revoked(self, topic_partitions: Iterable[TopicPartition], until: float = 0.0) -> None:
        """Call `on_revoke` for partitions that leave; waits for the hook, not beyond the monotonic time `until`."""
        called = self._call_hook("on_revoke", self._on_revoke, topic_partitions, self._limit_s)
        if called is not None:
            wait([called], max(0.0, until - time.monotonic()))

    def _call_hook(
        self, name: str, hook: Hook, topic_partitions: Iterable[TopicPartition], limit_s: float | None
    ) -> Future[None] | None:
        partitions = [AssignedPartition(*topic_partition) for topic_partition in topic_partitions]
        if hook is not None and partitions:
            with suppress(RuntimeError):  # the loop was closed just now
                return self._loop_thread.start(self._call(name, hook, partitions, limit_s))
        return None

    async def _call(
        self,
        name: str,
        hook: Callable[[list[AssignedPartition]], Any],
        partitions: list[AssignedPartition],
        limit_s: float | None,
    ) -> None:
        async with self._turn:
            started = time.monotonic()
            error: BaseException | None = None
            try:
                async with asyncio.timeout(limit_s) as limit:
                    answer = hook(partitions)
                    if inspect.isawaitable(answer):
                        await answer
            except BaseException as exc:  # partitions change hands whatever a hook does
                error = TimeoutError(f"{name} took longer than {limit_s:g} s") if limit.expired() else exc
            text = describe(error) if error is not None else ""
            self._bus.emit(HookRan(name, time.monotonic() - started, text, error))
