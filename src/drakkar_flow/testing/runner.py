"""Single run of a flow over some values from beginning to end, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, Literal

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.executor.base import Executor
from drakkar_flow.testing.harness import FlowHarness
from drakkar_flow.testing.outcome import Outcome
from drakkar_flow.testing.sinks import MemoryDeadLetters, MemorySink

__all__ = ["CRASH", "run_flow"]


class _Crash(Enum):
    CRASH = "crash"


CRASH: Final = _Crash.CRASH
"""Crash, among the values of `run_flow`: all records before it are finished, the process is killed before it could
commit any of them, and a new one reads on from the committed offsets. All values since the last CRASH are read
again."""


def run_flow(
    flow: Any,
    values: Iterable[Any] = (),
    *,
    sinks: Iterable[MemorySink] = (),
    executor: Executor | None = None,
    dead_letters: MemoryDeadLetters | None = None,
    config: DrakkarConfig | Mapping[str, Any] | None = None,
    partitions: int = 1,
    timeout_s: float = 30.0,
    clock: Literal["fake", "real"] = "fake",
) -> Outcome:
    """Run a flow or a handler over `values` until all of them are acknowledged.

    Values are sent as `FlowHarness.send` does. A Record has its own partition and offset; CRASH is a crash there.

    Raises:
        FlowError: the flow can't be compiled.
        AssertionError: the flow has not ended after `timeout_s` real seconds; lists the unfinished work.

    >>> from drakkar_flow import StreamFlow
    >>> run_flow(StreamFlow("echo").decode(str).route(), ["a", CRASH, "b"]).values
    ['a', 'a', 'b']
    """
    lives: list[list[Any]] = [[]]
    for value in values:
        if value is CRASH:
            lives.append([])
        else:
            lives[-1].append(value)
    with FlowHarness(
        flow,
        sinks=sinks,
        executor=executor,
        dead_letters=dead_letters,
        config=config,
        partitions=partitions,
        topic="input",
        clock=clock,
    ) as kit:
        if len(lives) > 1:
            kit.hold_commits()
        while len(lives) > 1:
            kit.send_all(lives.pop(0))
            kit.wait_acknowledged(timeout_s=timeout_s)
            kit.crash()
            kit.restart(hold_commits=len(lives) > 1)
        kit.send_all(lives[0])
        return kit.finish(timeout_s)
