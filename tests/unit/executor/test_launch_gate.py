"""Programs that can't be started through no fault of their task: it waits, and runs as soon as they can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.executor.base import TaskOutcome
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ExecutorBreakerChanged, HostShortage
from drakkar_flow.testing.conformance.limits import few_descriptors

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[OneshotExecutor]]
Until = Callable[..., Awaitable[None]]


def tasks(count: int, **fields: Any) -> list[ExecutorTask]:
    """Tasks of the configured program."""
    return [
        ExecutorTask(**{"task_id": f"t-{n}", "source_offsets": [n], "stdin": str(n)} | fields) for n in range(count)
    ]


class Outcomes:
    """What became of tasks, in the order they ended."""

    def __init__(self, executor: OneshotExecutor, submitted: list[ExecutorTask]) -> None:
        self.seen: list[TaskOutcome | None] = []
        self.running = [executor.submit(task, priority, self.seen.append) for priority, task in enumerate(submitted)]

    @property
    def succeeded(self) -> list[str]:
        """The outputs of those that succeeded."""
        return [outcome.stdout for outcome in self.seen if isinstance(outcome, ExecutorResult)]

    @property
    def failed(self) -> list[str]:
        """The kinds of failure of the others."""
        return [outcome.kind for outcome in self.seen if isinstance(outcome, ExecutorError)]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that can be broken and mended."""
    made = tmp_path / "program"
    mend(made)
    return made


def mend(program: Path) -> None:
    """Make the program what it was."""
    if program.is_dir():
        program.rmdir()
    program.unlink(missing_ok=True)
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o755)


def copy(program: Path) -> None:
    """Make the program a copy of a binary."""
    program.write_bytes(Path("/bin/cat").read_bytes())


def _remove(program: Path) -> None:
    program.unlink()


def _become_directory(program: Path) -> None:
    program.unlink()
    program.mkdir()


def _interpreter_gone(program: Path) -> None:
    program.write_text("#!/no/such/interpreter\n")


def _no_program(program: Path) -> None:
    program.write_bytes(b"\x7fELFnothing")


BROKEN: dict[str, Callable[[Path], object]] = {
    "missing": _remove,
    "not executable": lambda program: program.chmod(0o644),
    "a directory": _become_directory,
    "without its interpreter": _interpreter_gone,
    "no program": _no_program,
}


@pytest.mark.parametrize("limits", [{}, {"open_files": 50}], ids=["plain", "limited"])
@pytest.mark.parametrize("how", BROKEN)
async def test_g17_tasks_wait_while_the_configured_program_cannot_be_started(
    make_executor: Make, events: list[Event], until: Until, program: Path, how: str, limits: dict[str, int]
) -> None:
    """Whatever is wrong with it: none fails, the breaker opens once, and all run when it is back."""
    if limits and how == "no program":
        pytest.skip("a shell takes it for a script")
    executor = await make_executor(binary_path=str(program), max_executors=3, limits=limits)
    BROKEN[how](program)
    outcomes = Outcomes(executor, tasks(12))
    await until(lambda: changes(events) == ["open"], "the breaker to open")
    assert outcomes.seen == []
    assert executor.statistics().running == 3
    mend(program)
    await until(lambda: len(outcomes.seen) == 12, "all to end")
    assert sorted(outcomes.succeeded, key=int) == [str(n) for n in range(12)]
    await until(lambda: changes(events)[-1] == "closed", "the breaker to close")
    assert [change for change in changes(events) if change != "half_open"].count("closed") == 1


def changes(events: list[Event]) -> list[str]:
    """The states of the breaker so far."""
    return [event.state for event in events if isinstance(event, ExecutorBreakerChanged)]


async def test_g17_tasks_wait_while_the_working_directory_is_gone(
    make_executor: Make, events: list[Event], until: Until, tmp_path: Path
) -> None:
    """It is the configuration's, whoever named the program."""
    directory = tmp_path / "here"
    directory.mkdir()
    executor = await make_executor(binary_path="/bin/cat", max_executors=2, cwd=str(directory))
    directory.rmdir()
    outcomes = Outcomes(executor, tasks(4) + tasks(4, binary_path="/bin/sh", args=["-c", "cat"]))
    await until(lambda: changes(events) == ["open"], "the breaker to open")
    directory.mkdir()
    await until(lambda: len(outcomes.seen) == 8, "all to end")
    assert outcomes.failed == []


@pytest.mark.parametrize(
    "fields",
    [{"binary_path": "/no/such/program"}, {"binary_path": "nope-nowhere"}, {"args": ["x" * 4_000_000]}],
    ids=["path", "name", "too many arguments"],
)
async def test_g17_what_a_task_itself_does_wrong_is_its_failure_at_once(
    make_executor: Make, events: list[Event], until: Until, program: Path, fields: dict[str, Any]
) -> None:
    """Also while others wait for the configured program, with a slot to spare."""
    executor = await make_executor(binary_path=str(program), max_executors=2)
    outcomes = Outcomes(executor, tasks(3, **fields))
    await until(lambda: outcomes.failed == ["launch_failure"] * 3)
    _remove(program)
    held = Outcomes(executor, tasks(1))
    await until(lambda: changes(events) == ["open"], "the breaker to open")
    if "args" not in fields:
        outcomes = Outcomes(executor, tasks(3, **fields))
        await until(lambda: outcomes.failed == ["launch_failure"] * 3)
    mend(program)
    await until(lambda: held.succeeded == ["0"])


async def test_g17_a_name_that_only_the_tasks_path_misses_is_its_failure(make_executor: Make, until: Until) -> None:
    """The task gave the PATH."""
    executor = await make_executor(binary_path="cat")
    outcomes = Outcomes(executor, tasks(1, env={"PATH": "/no/such/directory"}) + tasks(1))
    await until(lambda: len(outcomes.seen) == 2)
    assert (outcomes.failed, outcomes.succeeded) == (["launch_failure"], ["0"])


async def test_g17_a_bound_on_the_wait_lets_tasks_fail(make_executor: Make, until: Until, program: Path) -> None:
    """`executor.unavailable_after_s`: those that waited so long fail as unavailable, with the reason."""
    executor = await make_executor(binary_path=str(program), max_executors=2, unavailable_after_s=1.5)
    _remove(program)
    outcomes = Outcomes(executor, tasks(6))
    await until(lambda: len(outcomes.seen) == 6)
    assert outcomes.failed == ["unavailable"] * 6
    assert "No such file" in str(outcomes.seen[0])
    mend(program)
    later = Outcomes(executor, tasks(1))
    await until(lambda: later.succeeded == ["0"])


async def test_g17_held_tasks_can_be_given_up(
    make_executor: Make, events: list[Event], until: Until, program: Path
) -> None:
    """Cancelled or closed, they end at once and run nothing."""
    executor = await make_executor(binary_path=str(program), max_executors=2)
    _remove(program)
    outcomes = Outcomes(executor, tasks(5))
    await until(lambda: changes(events) == ["open"], "the breaker to open")
    outcomes.running[0].cancel()
    await until(lambda: outcomes.seen == [None])
    await executor.close()
    assert outcomes.seen == [None] * 5


async def test_g17_a_program_that_is_being_written_is_waited_for(
    make_executor: Make, until: Until, program: Path
) -> None:
    """ETXTBSY, also for a program that the task names."""
    executor = await make_executor(binary_path="/bin/true", max_executors=2)
    copy(program)
    with program.open("ab"):
        outcomes = Outcomes(executor, tasks(1, binary_path=str(program)))
        await asyncio.sleep(0.2)
        assert outcomes.seen == []
    await until(lambda: outcomes.succeeded == ["0"])


async def test_f3_tasks_wait_for_descriptors_in_their_order(
    make_executor: Make, events: list[Event], until: Until
) -> None:
    """None fails, one event at each change of state, and they start in the order they came."""
    executor = await make_executor(binary_path="/bin/cat", max_executors=3)
    with few_descriptors():
        outcomes = Outcomes(executor, tasks(9))
        await until(lambda: any(isinstance(event, HostShortage) for event in events), "the shortage")
        assert outcomes.seen == []
    await until(lambda: len(outcomes.seen) == 9, "all to end")
    assert outcomes.failed == []
    await until(lambda: len(shortages(events)) == 2, "the end of the shortage")
    assert shortages(events) == [("executor", "descriptors", False), ("executor", "descriptors", True)]


def shortages(events: list[Event]) -> list[tuple[str, str, bool]]:
    """Changes of what the host lacks."""
    return [(event.part, event.lacks, event.over) for event in events if isinstance(event, HostShortage)]


async def test_f3_tasks_wait_for_threads(
    make_executor: Make, events: list[Event], until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread for the first slot: it is started later."""
    executor = await make_executor(binary_path="/bin/cat", max_executors=3)
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", refuse)
        outcomes = Outcomes(executor, tasks(3))
        await until(lambda: shortages(events) == [("executor", "processes", False)])
    await until(lambda: sorted(outcomes.succeeded) == ["0", "1", "2"])


def refuse(_thread: object) -> None:
    """What Python raises when the system gives it no thread."""
    raise RuntimeError("can't start new thread")
