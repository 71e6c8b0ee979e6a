"""A server process is known by pid and start time, ends when told, and never drags another one down."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.servers.process import PORTS, ServerError, ServerProcess, free_ports, tail, wait_until
from support.until import until

OBEDIENT = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


class Spawner:
    """Starts Python one-liners as servers and remembers them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[ServerProcess] = []

    def __call__(self, source: str) -> ServerProcess:
        log = self.directory / f"{len(self.processes)}.log"
        process = ServerProcess.spawn([sys.executable, "-c", source], log)
        self.processes.append(process)
        until(lambda: "ready" in log.read_text() or not process.alive(), what="the child to be ready")
        return process


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawner]:
    """A spawner whose processes are gone after the test."""
    spawner = Spawner(tmp_path)
    yield spawner
    for process in spawner.processes:
        process.kill()


def test_a_spawned_process_lives_in_its_own_session_until_it_is_stopped(spawn: Spawner) -> None:
    """A server is alive after spawn, is no part of our session, and is gone when stop returns."""
    process = spawn(OBEDIENT)
    assert process.alive()
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    ServerProcess.stop([process], timeout_s=10)
    assert not process.alive()


def test_a_process_that_ignores_sigterm_is_killed_after_the_deadline(spawn: Spawner) -> None:
    """Stop ends obedient and stubborn processes alike."""
    both = [spawn(OBEDIENT), spawn(STUBBORN)]
    ServerProcess.stop(both, timeout_s=0.2)
    assert [process.alive() for process in both] == [False, False]


def test_a_recycled_pid_is_neither_alive_nor_signalled(spawn: Spawner) -> None:
    """A state file that names a pid which now belongs to another process leaves that process alone."""
    process = spawn(OBEDIENT)
    stale = replace(process, started=process.started - 1)
    assert not stale.alive()
    stale.send(signal.SIGKILL)
    ServerProcess.stop([stale], timeout_s=1)
    assert process.alive()


def test_a_process_that_ended_by_itself_is_not_alive(spawn: Spawner) -> None:
    """Our own ended child is reaped, not taken for alive because its zombie is there."""
    process = spawn("pass")
    until(lambda: not process.alive(), what="the child to end")
    process.kill()


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    """Both streams go to the log, after what earlier runs wrote."""
    log = tmp_path / "server.log"
    log.write_text("before\n")
    process = ServerProcess.spawn(["sh", "-c", "echo out; echo err >&2"], log)
    until(lambda: not process.alive(), what="the child to end")
    assert log.read_text() == "before\nout\nerr\n"


def test_free_ports_differ_can_be_bound_and_are_not_for_clients() -> None:
    """Each free port is another one, free now, and below those that the kernel gives to clients."""
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert set(ports) <= set(PORTS)
    for port in ports:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_waiting_in_vain_says_for_what() -> None:
    """The error of a wait names the thing waited for."""
    with pytest.raises(ServerError, match=r"waited 0\.01 s for rain"):
        wait_until(lambda: False, 0.01, "rain")


def test_the_tail_of_a_log_is_its_end_and_a_missing_log_is_no_error(tmp_path: Path) -> None:
    """Error messages quote the last lines and survive a missing file."""
    log = tmp_path / "server.log"
    assert tail(log) == "(no log)"
    log.write_text("\n".join(map(str, range(100))))
    assert tail(log, lines=2) == "98\n99"
