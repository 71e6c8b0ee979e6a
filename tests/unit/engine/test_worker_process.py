"""Starting, stopping and signals, as far as they need no broker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drakkar_flow import KafkaSink, StreamFlow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine import worker_process
from drakkar_flow.engine.build import build_parts
from drakkar_flow.engine.flow_lifecycle import FlowLifecycle
from drakkar_flow.engine.worker_process import WorkerProcess
from drakkar_flow.errors import ConfigError, Problem
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.commit import CommitSink, Finisher
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.components import Components
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.testing.reader import MemoryReader
from drakkar_flow.testing.sinks import MemoryDeadLetters

_UNREACHABLE = """
from drakkar_flow import StreamFlow, StreamingRunner
flow = StreamFlow("f").route()
config = {
    "kafka": {"brokers": "127.0.0.1:%d", "source_topic": "in", "consumer_group": "g", "startup_timeout_s": 300},
    "sinks": {"filesystem": {"out": {"base_path": "/tmp"}}},
    "metrics": {"enabled": False},
}
StreamingRunner.from_dict(flow, config).run()
"""


class Aborted(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Components]:
    """The parts of each life that starts from now on: without brokers, with a source in memory."""
    components: list[Components] = []

    def build(
        flow: StreamFlow, config: DrakkarConfig, bus: Bus, loop_thread: EventLoopThread, ended: Callable[[], None]
    ) -> Components:
        real = build_parts(flow, config, bus, loop_thread, ended)
        components.append(
            replace(real, reader=MemoryReader([], real.in_flight, bus=bus), dead_letters=MemoryDeadLetters())
        )
        return components[-1]

    monkeypatch.setattr(worker_process, "build_parts", build)
    monkeypatch.setattr(worker_process, "check_source", lambda *_, **_options: None)
    return components


@pytest.fixture
def life(made: list[Components], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """A life that has started and reads."""

    def leave(code: int) -> None:
        raise Aborted(code)

    monkeypatch.setattr(os, "_exit", leave)
    started = unstarted(tmp_path)
    started.start()
    yield started
    started.close()


def unstarted(directory: Path) -> WorkerProcess:
    """A life of a flow that writes to files."""
    config = {
        "kafka": {"source_topic": "in", "consumer_group": "g"},
        "sinks": {"filesystem": {"out": {"base_path": str(directory)}}},
        "metrics": {"host": "127.0.0.1", "port": 0},
    }
    return WorkerProcess(StreamFlow("f").route(), from_mapping(config), own_logging=False, own_signals=True)


def readyz(life: WorkerProcess) -> tuple[int, list[str]]:
    """The status of the page, and its reasons."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{life.metrics_port}/readyz", timeout=10) as page:
            return page.status, json.load(page)["reasons"]
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, json.load(answer)["reasons"]


@pytest.mark.timeout(30)
def test_a_signal_may_interrupt_a_listener(life: WorkerProcess, made: list[Components]) -> None:
    """A signal handler runs while its own thread counts an event: it must not wait for that thread."""
    (components,) = made
    with life.statistics._lock, components.control._lock:
        signal.raise_signal(signal.SIGTERM)
    assert components.control.stopping


def test_the_first_signal_after_a_failure_lets_the_drain_go_on(life: WorkerProcess) -> None:
    """Only a second signal aborts, not a first one that meets a flow which stops already."""
    life.fail("poison")
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Aborted):
        signal.raise_signal(signal.SIGTERM)


def test_a_life_is_lived_once() -> None:
    """A second start is refused and opens nothing, whether the first one worked or not."""
    before = set(threading.enumerate())
    flow = StreamFlow("f").route(KafkaSink("not-configured"))
    life = WorkerProcess(flow, from_mapping({}), own_logging=False, own_signals=False)
    with pytest.raises(ConfigError):
        life.start()
    with pytest.raises(RuntimeError, match="started before"):
        life.start()
    assert set(threading.enumerate()) <= before


def test_the_ends_of_programs_are_told_though_sigchld_was_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever started us may ignore it, and what is ignored is inherited; afterwards it is as before."""
    seen: list[object] = []

    def build(*_: object) -> None:
        seen.append(signal.getsignal(signal.SIGCHLD))
        raise Aborted

    monkeypatch.setattr(worker_process, "build_parts", build)
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(Aborted):
            unstarted(tmp_path).start()
        assert (seen, signal.getsignal(signal.SIGCHLD)) == ([signal.SIG_DFL], signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_the_end_is_told_when_the_last_worker_has_ended() -> None:
    """With several workers the first committer that closes does not close what the others still use."""
    ended: list[bool] = []
    finisher = Finisher(InFlight(1, 1), Bus(), lambda _settled: None)
    sink = CommitSink(finisher, lambda: ended.append(True))
    first, second = sink.build("commit", 0, 2), sink.build("commit", 1, 2)
    first.close()
    assert not ended
    second.close()
    assert ended == [True]


def test_a_bridge_without_a_loop_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without descriptors is told, instead of waiting for a loop that never comes."""

    def nothing_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("drakkar_flow.runtime.event_loop.uvloop.new_event_loop", nothing_left)
    seen: list[BaseException] = []
    with pytest.raises(RuntimeError, match="event loop"):
        EventLoopThread(seen.append).open()
    assert isinstance(seen[0], OSError)


def test_an_interrupt_ends_a_start_that_waits_for_brokers() -> None:
    """Ctrl-C does not wait until the brokers had their time to answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = _UNREACHABLE % silent.getsockname()[1]
        with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
            try:
                silent.accept()[0].close()
                process.send_signal(signal.SIGINT)
                _, log = process.communicate(timeout=60)
                assert "KeyboardInterrupt" in log
            finally:
                process.kill()


def test_f2_a_flow_that_has_failed_is_not_ready_while_it_drains(life: WorkerProcess, made: list[Components]) -> None:
    """Nothing is read any more, though what is in flight may still finish."""
    made[0].reader.start()
    assert readyz(life) == (200, [])
    life.fail("the consumer can't go on")
    assert readyz(life) == (503, ["failed"])


def test_sigterm_does_not_interrupt_the_end_of_a_start_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything opened before the error is closed, and the error is not lost."""
    closed: list[str] = []
    close = FlowLifecycle.close

    def build(*_: object) -> None:
        raise ConfigError([Problem("executor", "is wrong")])

    def interrupted(life: FlowLifecycle, error: str) -> bool:
        signal.raise_signal(signal.SIGTERM)
        closed.append(error)
        return close(life, error)

    monkeypatch.setattr(worker_process, "build_parts", build)
    monkeypatch.setattr(FlowLifecycle, "close", interrupted)
    with pytest.raises(ConfigError):
        unstarted(tmp_path).start()
    assert len(closed) == 1
