"""Telling hooks which partitions come and go: in order, and never longer than the reader can wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from support.until import until

FIRST, SECOND = ("in", 0), ("other", 0)


class Scene:
    """Hooks on a loop of their own; this thread plays the reader."""

    def __init__(self) -> None:
        self.loop_thread = EventLoopThread()
        self.loop_thread.open()
        self.ran: list[HookRan] = []
        self.bus = Bus()
        self.bus.listen(HookRan, self.ran.append)

    def hooks(
        self, on_assign: Callable[..., Any] | None, on_revoke: Callable[..., Any] | None, limit_s: float = 20.0
    ) -> AssignmentHooks:
        """The hooks as the reader has them."""
        return AssignmentHooks(self.loop_thread, self.bus, on_assign, on_revoke, limit_s)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A scene whose loop ends with the test."""
    made = Scene()
    yield made
    made.loop_thread.close()


def soon() -> float:
    """A time that nobody reaches unless something hangs."""
    return time.monotonic() + 20


def test_changes_are_told_on_the_loop_one_after_the_other(scene: Scene) -> None:
    """A revoke that follows an assignment waits for its hook, however slow it is."""
    order: list[tuple[str, Any]] = []

    async def on_assign(partitions: list[Any]) -> None:
        order.append(("assign begins", threading.current_thread().name))
        for _ in range(5):
            await asyncio.sleep(0)
        order.append(("assign ends", [partition.topic_partition for partition in partitions]))

    def on_revoke(partitions: list[Any]) -> None:
        order.append(("revoke", partitions))

    hooks = scene.hooks(on_assign, on_revoke)
    hooks.assigned([FIRST, SECOND])
    hooks.revoked([SECOND], soon())
    assert order == [("assign begins", "drakkar-loop"), ("assign ends", [FIRST, SECOND]), ("revoke", [0])]
    assert [(event.hook, event.error) for event in scene.ran] == [("on_assign", ""), ("on_revoke", "")]


def test_nobody_is_told_of_nothing(scene: Scene) -> None:
    """Neither without a hook nor without partitions; also not when the loop has ended."""
    hooks = scene.hooks(None, lambda partitions: None)
    hooks.assigned([FIRST])
    hooks.revoked([], soon())
    scene.loop_thread.close()
    hooks.revoked([FIRST], soon())
    assert scene.ran == []


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError(), SystemExit(2)], ids=repr)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_hook_that_raises_is_told_and_the_next_change_is_too(
    scene: Scene, error: BaseException, is_async: bool
) -> None:
    """Partitions change hands whatever a hook does."""

    def broken(partitions: list[Any]) -> None:
        raise error

    async def broken_later(partitions: list[Any]) -> None:
        await asyncio.sleep(0)
        raise error

    hook = broken_later if is_async else broken
    hooks = scene.hooks(hook, hook)
    hooks.assigned([FIRST])
    hooks.revoked([FIRST], soon())
    assert [event.hook for event in scene.ran] == ["on_assign", "on_revoke"]
    assert all(event.exception is error and event.error for event in scene.ran)


def test_the_reader_waits_no_longer_than_it_may(scene: Scene) -> None:
    """The hook goes on without it and may still end."""
    gate = asyncio.Event()

    async def slow(partitions: list[Any]) -> None:
        await gate.wait()

    hooks = scene.hooks(None, slow)
    hooks.revoked([FIRST], time.monotonic() + 0.01)
    hooks.revoked([SECOND])
    assert scene.ran == []
    scene.loop_thread.post(gate.set)
    until(lambda: [event.error for event in scene.ran] == ["", ""])


def test_an_on_revoke_that_hangs_does_not_keep_the_next_change_from_being_told(scene: Scene) -> None:
    """It is cancelled when its limit is over, and that is told."""
    told: list[Any] = []

    async def hanging(partitions: list[Any]) -> None:
        await asyncio.Event().wait()

    hooks = scene.hooks(told.append, hanging, limit_s=0.01)
    hooks.revoked([FIRST])
    hooks.assigned([SECOND])
    until(lambda: told == [[0]])
    assert scene.ran[0].error == "on_revoke took longer than 0.01 s"
