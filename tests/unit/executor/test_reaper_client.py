"""What becomes of programs when their worker is killed, and of the reaper that sees to it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.executor.base import run
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.executor import ExecutorUnguarded
from support.processes import reapers
from support.until import until as wait_until
from support.worker import ROOT, Worker

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[OneshotExecutor]]
Sh = Callable[..., ExecutorTask]
Until = Callable[..., Awaitable[None]]
Start = Callable[..., tuple[Worker, list[psutil.Process]]]

SLEEP = "echo $$ >NAME; exec sleep 1000"
PROGRAMS = {
    "computing": SLEEP,
    "deaf": f"trap '' HUP INT TERM; {SLEEP}",
    "with a child in a session of its own": f"setsid sh -c '{SLEEP}' & wait",
    "with a child without environment": f"env -i sh -c '{SLEEP}' & wait",
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a worker of tests/support/guarded.py; once each of its programs runs, give the worker and them."""
    workers, found = [], []

    def make(mode: str, *scripts: str) -> tuple[Worker, list[psutil.Process]]:
        files = [tmp_path / f"program-{number}" for number in range(len(scripts))]
        named = [script.replace("NAME", str(file)) for script, file in zip(scripts, files, strict=True)]
        worker = Worker([ROOT / "tests" / "support" / "guarded.py", mode, *named], tmp_path)
        workers.append(worker)
        worker.until(lambda: all(file.exists() and file.read_text() for file in files), "its programs ran")
        running = [psutil.Process(int(file.read_text())) for file in files]
        found.extend(running)
        return worker, running

    yield make
    for worker in workers:
        worker.close()
    for process in found:
        if process.is_running():  # asks whether it is still the same process
            process.kill()


def the_warden_of(worker: Worker) -> psutil.Process:
    """Its only reaper, which is started while the first program is."""
    [watcher] = wait_until(lambda: reapers(worker.pid))
    return watcher


def until_gone(processes: list[psutil.Process]) -> None:
    """Wait until none of them runs."""
    wait_until(lambda: not any(_runs(process) for process in processes), 20.0, f"the end of {processes}")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("mode", ["oneshot", "forking"])
def test_programs_end_with_a_worker_that_is_killed(start: Start, mode: str) -> None:
    """Whatever they do, and though a fork of the worker lives on; then the reaper ends too."""
    worker, programs = start(mode, *PROGRAMS.values())
    watcher = the_warden_of(worker)
    worker.kill()
    until_gone([*programs, watcher])
    wait_until(lambda: len(worker.descendants()) == (mode == "forking"))


def test_long_lived_children_end_with_a_worker_that_is_killed(start: Start) -> None:
    """This one does not read the stdin that ends with the worker."""
    worker, programs = start("persistent", SLEEP)
    watcher = the_warden_of(worker)
    worker.kill()
    until_gone([*programs, watcher])
    assert worker.descendants() == []


def test_a_worker_killed_with_nothing_running_leaves_nothing(start: Start, tmp_path: Path) -> None:
    """Its programs have ended by themselves."""
    worker, programs = start("oneshot", "echo $$ >NAME; while test -e NAME; do sleep 0.01; done")
    watcher = the_warden_of(worker)
    (tmp_path / "program-0").unlink()
    until_gone(programs)
    worker.kill()
    until_gone([watcher])


def test_an_orderly_end_spares_what_was_left_running_on_purpose(start: Start) -> None:
    """The reaper ends with its executor and looks for nobody."""
    daemon = f"setsid sh -c '{SLEEP}' </dev/null >/dev/null 2>&1 & until test -s NAME; do sleep 0.01; done"
    worker, daemons = start("oneshot", daemon)
    watcher = the_warden_of(worker)
    assert worker.terminate() == 0, worker.stderr
    assert not watcher.is_running()
    assert _runs(daemons[0])


async def test_the_warden_comes_with_the_first_program_and_goes_with_the_executor(make_executor: Make, sh: Sh) -> None:
    """Whoever has none, for its tasks are precomputed, has no reaper."""
    executor = await make_executor()
    assert reapers() == []
    await run(executor, sh("true"))
    await run(executor, sh("true"))
    assert len(reapers()) == 1
    await executor.close()
    assert reapers() == []


async def test_the_warden_shares_nothing_with_the_worker(make_executor: Make, sh: Sh, until: Until) -> None:
    """No pipe that it would keep open, no session whose signals it would get; it ends with the worker only."""
    await run(await make_executor(), sh("true"))
    [watcher] = reapers()
    await until(lambda: held_by(watcher) == {os.devnull, "anon_inode:[pidfd]"}, "a warden that waits")
    assert os.getsid(watcher.pid) == watcher.pid
    assert watcher.cwd() == "/"
    assert not {name for name in watcher.environ() if not name.startswith(("LD_", "LC_"))}
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= ignored_by(watcher)


async def test_an_executor_whose_warden_was_killed_goes_on(
    sh: Sh, unguarded: tuple[Bus, list[Event]], until: Until
) -> None:
    """It is told once, and nothing is left of it."""
    bus, told = unguarded
    executor = await started(bus)
    await run(executor, sh("true"))
    reapers()[0].kill()
    await until(lambda: told)
    assert isinstance(await run(executor, sh("true")), ExecutorResult)
    await executor.close()
    assert told == [ExecutorUnguarded("the reaper ended with -9")]
    assert psutil.Process().children() == []


async def test_an_executor_whose_warden_cannot_be_started_goes_on(
    sh: Sh, unguarded: tuple[Bus, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, with the reason."""
    bus, told = unguarded
    monkeypatch.setattr(sys, "executable", "/nope")
    executor = await started(bus)
    for _ in range(2):
        assert isinstance(await run(executor, sh("true")), ExecutorResult)
    await executor.close()
    assert len(told) == 1
    assert "can't be started: [Errno 2] No such file or directory: '/nope'" in str(told)


def held_by(process: psutil.Process) -> set[str]:
    """What its descriptors stand for; empty while it changes."""
    try:
        return {str(file.readlink()) for file in Path(f"/proc/{process.pid}/fd").iterdir()}
    except FileNotFoundError:
        return set()


def ignored_by(process: psutil.Process) -> set[int]:
    """The signals that it ignores."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    mask = int(next(line.split()[1] for line in lines if line.startswith("SigIgn")), 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


@pytest.fixture
def unguarded() -> tuple[Bus, list[Event]]:
    """A bus, and what it tells of lost reapers."""
    bus, told = Bus(), list[Event]()
    bus.listen(ExecutorUnguarded, told.append)
    return bus, told


async def started(bus: Bus) -> OneshotExecutor:
    """An executor on a bus."""
    executor = OneshotExecutor(ExecutorConfig(), bus)
    await executor.start()
    return executor


async def test_f3_a_warden_is_started_when_the_host_has_room_for_it(
    make_executor: Make, sh: Sh, until: Until, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt finds none: it is told once, programs run all the same, and later there is one."""
    executor = await make_executor()

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", refuse)
        assert isinstance(await run(executor, sh("true")), ExecutorResult)
        assert reapers() == []
    await until(lambda: len(reapers()) == 1)
    assert len([event for event in events if isinstance(event, ExecutorUnguarded)]) == 1
