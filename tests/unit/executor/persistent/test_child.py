"""One child and what its owner sees of it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal

import psutil
import pytest

from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.config.sections.persistent import PersistentConfig
from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.executor.persistent.child import Child, ChildLimits
from drakkar_flow.executor.persistent.process import spawn
from drakkar_flow.executor.persistent.request import Request
from drakkar_flow.executor.spawn import Environment, Spawner
from drakkar_flow.model.task import ExecutorError
from unit.executor.persistent.conftest import task

pytestmark = pytest.mark.anyio

LIMITS = ChildLimits(20.0, 0.1, (0, 0), LimitsConfig())


class Watcher:
    """An owner that notes the room a child had whenever it was asked to look, and what became of requests."""

    def __init__(self) -> None:
        self.rooms: list[int] = []
        self.outcomes: list[TaskOutcome] = []

    def ready(self, child: Child) -> None:
        """Not of interest."""

    def settle(self, request: Request, outcome: TaskOutcome) -> None:
        """Note it."""
        self.outcomes.append(outcome)

    def turned(self, child: Child) -> None:
        """Note the room."""
        self.rooms.append(child.capacity)

    def logged(self, child: Child, lines: list[str], more: int) -> None:
        """Not of interest."""


async def test_a_child_that_ended_has_no_room_when_its_owner_hears_of_it() -> None:
    """Also when its end is seen before the end of its stdout: else what waits would be given to a dead child."""
    owner = Watcher()
    child = Child(0, PersistentConfig(protocol="lines"), LIMITS, owner)
    spawned = spawn(Spawner(), "/bin/sleep", ["60"], Environment({}))
    child.begin(spawned)
    child.send(Request(task("x"), 0, lambda _: None, 0.0, lambda _: None), 0.0)
    asyncio.get_running_loop().remove_reader(spawned.stdout)
    os.kill(spawned.pid, signal.SIGKILL)
    child_exit = await child.ended
    assert owner.rooms == [0]
    (outcome,) = owner.outcomes
    assert isinstance(outcome, ExecutorError)
    assert outcome.exception == child_exit.reason == "child 0 was killed by SIGKILL with a request"


async def test_a_child_that_ended_has_no_room_while_its_last_words_are_heard() -> None:
    """Its answer came with its end: what waits goes to another child, not to a dead one."""
    owner = Watcher()
    child = Child(0, PersistentConfig(protocol="lines"), LIMITS, owner)
    spawned = spawn(Spawner(), "/bin/sh", ["-c", "read line; echo $line; exit 3"], Environment({}))
    child.begin(spawned)
    asyncio.get_running_loop().remove_reader(spawned.stdout)
    child.send(Request(task("x"), 0, lambda _: None, 0.0, lambda _: None), 0.0)
    child_exit = await child.ended
    assert [outcome.stdout for outcome in owner.outcomes] == ["x\n"]
    assert set(owner.rooms) == {0}
    assert child_exit.failed


def test_a_program_that_can_not_be_watched_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of descriptors, say: it is ended and reaped, its pipes are closed."""
    us = psutil.Process()
    before = us.num_fds()

    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        spawn(Spawner(), "/bin/sleep", ["1000"], Environment({}))
    assert us.children() == []
    assert us.num_fds() == before
