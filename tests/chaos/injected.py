"""`drakkar-flow` with a fault inside: `python injected.py [--end-at POINT] [--clock FILE] run FLOW ...`.

At a point the process kills itself, so no test has to guess when to kill it. The points are private functions: if
one has moved, the start ends with an error. A clock file holds the seconds by which the wall clock is off.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["CLUSTER_POINTS", "POINTS", "PROGRAM", "STOP_POINTS", "Clock", "ending_at", "with_clock"]

PROGRAM = Path(__file__)
_SECONDS = struct.Struct("d")


class Point(NamedTuple):
    """A call of a function: the process ends before it, or after it has returned.

    With `with_values` calls whose last argument is empty do not count.
    """

    function: str
    when: str
    call: int = 1
    with_values: bool = False


_STORE = "drakkar_flow.runtime.recovery.store"
_SLOTS = "drakkar_flow.runtime.recovery.slots"
_POSITIONS = "drakkar_flow.runtime.recovery.positions"
_COMMITTER = "drakkar_flow.runtime.group.offset_committer:OffsetCommitter"
_LINK = "drakkar_flow.runtime.cluster.link:ClusterLink"
_CLUSTER = "drakkar_flow.engine.cluster_process:ClusterProcess"
_WORKER = "drakkar_flow.engine.worker_process:WorkerProcess"

POINTS = {
    "the lock is held": Point(f"{_STORE}:_probe", "before"),
    "the files are made": Point(f"{_STORE}:_opened", "after"),
    "the store is open": Point(f"{_STORE}:Store.accept", "after"),
    "Bytewax begins": Point("drakkar_flow.engine.engine_run:cli_main", "before"),
    "slots are greeted": Point(f"{_SLOTS}:_Hello.next_batch", "after"),
    "a row is loaded": Point(f"{_POSITIONS}:DurablePositions.load", "before", 10),
    "rows were loaded": Point(f"{_POSITIONS}:DurablePositions.load", "after", 20),
    "the first epoch ends": Point(f"{_SLOTS}:_SlotPart.snapshot", "before", 5),
    "the first rows are taken": Point(f"{_SLOTS}:_SlotPart.snapshot", "after", 20),
    "a row is due": Point(f"{_POSITIONS}:DurablePositions.taken", "before", 3, with_values=True),
    "a row was taken": Point(f"{_POSITIONS}:DurablePositions.taken", "after", 3, with_values=True),
    "a row is on disk, its commit not sent": Point(f"{_COMMITTER}._commit", "before", 2),
    "a commit was sent": Point(f"{_COMMITTER}._commit", "after", 2),
    "a commit was accepted": Point(f"{_COMMITTER}.on_commit", "after", 2),
}
CLUSTER_POINTS = {
    "a process listens": Point(f"{_LINK}._listen", "before"),
    "a process joins": Point(f"{_LINK}.join", "before"),
    "a process has joined": Point(f"{_LINK}.join", "after"),
    "the store is shared": Point(f"{_CLUSTER}.wait_for_store", "before"),
    "the store was shared": Point(f"{_CLUSTER}.wait_for_store", "after"),
    "all are ready": Point(f"{_CLUSTER}.begin", "before"),
    "all were ready": Point(f"{_CLUSTER}.begin", "after"),
}
STOP_POINTS = {
    "a stop is asked for": Point("drakkar_flow.runtime.stop_signal:StopSignal.stop", "before"),
    "a stop was asked for": Point("drakkar_flow.runtime.stop_signal:StopSignal.stop", "after"),
    "it drains": Point("drakkar_flow.runtime.acknowledgement.in_flight:InFlight.end", "before"),
    "all rows are on disk, the last commit is not": Point(f"{_WORKER}.stored", "before"),
    "the last commit is due": Point(f"{_COMMITTER}.commit_finally", "before"),
    "the last commit was made": Point(f"{_COMMITTER}.commit_finally", "after"),
    "the lock goes": Point("drakkar_flow.engine.fixed_mode:FixedMode.close", "before"),
}
"""They are reached by a process that is told to stop."""
_ALL = {**POINTS, **CLUSTER_POINTS, **STOP_POINTS}


def ending_at(point: str) -> list[str | Path]:
    """What stands for the command after `python`, for a process that ends at a point."""
    assert point in _ALL
    return [PROGRAM, "--end-at", point]


def with_clock(clock: Clock) -> list[str | Path]:
    """What stands for the command after `python`, for a process with that wall clock."""
    return [PROGRAM, "--clock", clock.file]


class Clock:
    """A wall clock that a test moves."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """Let the clock be off by so much."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(_SECONDS.pack(seconds))


def _end_at(point: Point) -> None:
    module, _, path = point.function.partition(":")
    *owners, name = path.split(".")
    owner: Any = import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    function: Callable[..., Any] = getattr(owner, name)
    calls = itertools.count(1)

    def called(*args: Any, **kwargs: Any) -> Any:
        counts = not point.with_values or args[-1]
        last = counts and next(calls) == point.call
        if last and point.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, called)


def _move_clock(file: Path) -> None:
    with file.open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), _SECONDS.size, prot=mmap.PROT_READ)
    real_s, real_ns = time.time, time.time_ns
    time.time = lambda: real_s() + _SECONDS.unpack_from(shared)[0]
    time.time_ns = lambda: real_ns() + round(_SECONDS.unpack_from(shared)[0] * 1e9)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--end-at", choices=_ALL)
    parser.add_argument("--clock", type=Path)
    found, rest = parser.parse_known_args()
    if found.clock:
        _move_clock(found.clock)  # before anything takes a reference to the functions
    if found.end_at:
        _end_at(_ALL[found.end_at])
    from drakkar_flow.cli.main import main

    sys.argv = ["drakkar-flow", *rest]
    main()


if __name__ == "__main__":
    _main()
