"""Starting, stopping and signals, as far as they need no broker."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from drakkar_flow import KafkaSink, StreamFlow
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine import lifecycle
from drakkar_flow.engine.lifecycle import Lifecycle
from drakkar_flow.errors import ConfigError, Problem
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.commit import CommitSink
from drakkar_flow.runtime.control import Control
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.testing.reader import MemoryReader

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


class Parts:
    """As much of a flow's parts as a signal looks at."""

    executor = None

    def __init__(self) -> None:
        self.control = Control(1.0)


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lifecycle]:
    """A life that looks as if it had started."""
    made = _life()
    made._bridge.open()
    made._life.parts = Parts()  # type: ignore[assignment]
    made.statistics.listen(made._bus)

    def leave(code: int) -> None:
        raise Aborted(code)

    monkeypatch.setattr(lifecycle.os, "_exit", leave)
    yield made
    made._bridge.close()


def _life() -> Lifecycle:
    config = from_mapping({"metrics": {"enabled": True, "host": "127.0.0.1", "port": 0}})
    flow = StreamFlow("f").route(KafkaSink("not-configured"))
    return Lifecycle(flow, config, own_logging=False, own_signals=False)


def test_a_signal_may_interrupt_a_listener(life: Lifecycle) -> None:
    """A signal handler runs while its own thread counts an event: it must not wait for that thread."""

    def interrupted() -> None:
        with life.statistics._lock, life._life.parts.control._lock:  # type: ignore[union-attr]
            life._on_signal(signal.SIGTERM, None)

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert life._life.parts is not None
    assert life._life.parts.control.stopping


def test_the_first_signal_after_a_failure_lets_the_drain_go_on(life: Lifecycle) -> None:
    """Only a second signal aborts, not a first one that meets a flow which stops already."""
    life.fail("poison")
    life._on_signal(signal.SIGTERM, None)
    with pytest.raises(Aborted):
        life._on_signal(signal.SIGTERM, None)


def test_a_life_is_lived_once() -> None:
    """A second start is refused and opens nothing, whether the first one worked or not."""
    before = set(threading.enumerate())
    life = _life()
    with pytest.raises(ConfigError):
        life.start()
    with pytest.raises(RuntimeError, match="once"):
        life.start()
    assert set(threading.enumerate()) <= before


def test_the_ends_of_programs_are_told_though_sigchld_was_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started us may ignore it, and what is ignored is inherited; afterwards it is as before."""
    life = Lifecycle(StreamFlow("f"), from_mapping({}), own_logging=False, own_signals=True)
    seen: list[object] = []

    def start() -> None:
        seen.append(signal.getsignal(signal.SIGCHLD))
        raise Aborted

    monkeypatch.setattr(life, "_start", start)
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(Aborted):
            life.start()
        assert (seen, signal.getsignal(signal.SIGCHLD)) == ([signal.SIG_DFL], signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_the_end_is_told_when_the_last_worker_has_ended() -> None:
    """With several workers the first committer that closes does not close what the others still use."""
    ended: list[bool] = []
    flight = Flight(1, 1)
    sink = CommitSink(MemoryReader([], flight), flight, Bus(), lambda: ended.append(True))
    first, second = sink.build("commit", 0, 2), sink.build("commit", 1, 2)
    first.close()
    assert not ended
    second.close()
    assert ended == [True]


def test_a_bridge_without_a_loop_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without descriptors is told, instead of waiting for a loop that never comes."""

    def nothing_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("drakkar_flow.runtime.bridge.uvloop.new_event_loop", nothing_left)
    seen: list[BaseException] = []
    with pytest.raises(RuntimeError, match="event loop"):
        Bridge(seen.append).open()
    assert isinstance(seen[0], OSError)


def test_an_interrupt_ends_a_start_that_waits_for_brokers() -> None:
    """Ctrl-C does not wait until the brokers had their time to answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = _UNREACHABLE % silent.getsockname()[1]
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        try:
            silent.accept()[0].close()
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=60)
            assert "KeyboardInterrupt" in log
        finally:
            process.kill()
            process.wait()


def test_f2_a_flow_that_has_failed_is_not_ready_while_it_drains(life: Lifecycle) -> None:
    """Nothing is read any more, though what is in flight may still finish."""
    life._health._set(state="running", joined=True)
    assert life._readyz() == (200, {"status": "ready", "reasons": []})
    life.fail("the consumer can't go on")
    assert life._readyz() == (503, {"status": "not_ready", "reasons": ["failed"]})


def test_sigterm_does_not_interrupt_the_end_of_a_start_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened is closed all the same, and the error is not lost."""
    life = Lifecycle(StreamFlow("f"), from_mapping({}), own_logging=False, own_signals=True)
    closed: list[str] = []

    def start() -> None:
        raise ConfigError([Problem("executor", "is wrong")])

    def close(error: str) -> bool:
        signal.raise_signal(signal.SIGTERM)
        closed.append(error)
        return True

    monkeypatch.setattr(life, "_start", start)
    monkeypatch.setattr(life._life, "close", close)
    with pytest.raises(ConfigError):
        life.start()
    assert len(closed) == 1
