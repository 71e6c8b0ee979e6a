"""The connections between the processes of a cluster, here all in one process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from drakkar_flow._version import __version__
from drakkar_flow.config.sections.cluster import ClusterConfig, host_and_port
from drakkar_flow.errors import StartupError
from drakkar_flow.runtime.cluster.link import ClusterLink, StartStopped
from support.cluster import addresses
from support.until import until


class Members:
    """Links of one cluster, each with a thread on which it joins."""

    def __init__(self, count: int, timeout_s: float = 20.0) -> None:
        self.places = addresses(count)
        self.timeout_s = timeout_s
        self.heard: dict[int, list[str]] = {}
        self._links: list[ClusterLink] = []
        self._pool = ThreadPoolExecutor()

    def link(self, process: int, flow: str = "f", places: list[str] | None = None) -> ClusterLink:
        settings = ClusterConfig.model_validate(
            {"addresses": places or self.places, "process_id": process, "start_timeout_s": self.timeout_s}
        )
        heard = self.heard.setdefault(process, [])

        def on_stop(reason: str) -> None:
            heard.append(reason)
            link.stop(reason or None)  # as a flow does, whoever stops it

        link = ClusterLink(settings, flow, on_stop)
        self._links.append(link)
        return link

    def joined(self, link: ClusterLink) -> Future[None]:
        """Join, and pass no other barrier."""
        return self._pool.submit(link.join)

    def started(self, link: ClusterLink) -> Future[None]:
        """Pass all barriers of a start."""

        def start() -> None:
            link.join()
            link.reach("store", self.timeout_s)
            link.reach("run", self.timeout_s)

        return self._pool.submit(start)

    def running(self) -> list[ClusterLink]:
        """All of them, running."""
        links = [self.link(process) for process in range(len(self.places))]
        for start in [self.started(link) for link in links]:
            start.result(20)
        return links

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._pool.shutdown()


@contextmanager
def stranger(place: str, answer: bytes) -> Iterator[None]:
    """A server that gives each connection the same answer; without one it keeps silent."""
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):  # the end of the test
            while True:
                held.append(server.accept()[0])
                if answer:
                    with held.pop() as connection:
                        connection.sendall(answer)

    with socket.create_server(host_and_port(place)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in held:
        each.close()


@pytest.fixture
def three() -> Iterator[Members]:
    made = Members(3)
    yield made
    made.close()


@pytest.fixture
def impatient() -> Iterator[Members]:
    """They wait for a moment only."""
    made = Members(3, timeout_s=0.5)
    yield made
    made.close()


def refusal(start: Future[None]) -> StartupError:
    """The error of a start."""
    error = start.exception(20)
    assert isinstance(error, StartupError)
    return error


def test_the_ports_are_free_when_all_run(three: Members) -> None:
    """Bytewax listens there next, beside the connections that stay."""
    three.running()
    for address in three.places:
        with socket.create_server(host_and_port(address)):
            pass


@pytest.mark.parametrize("told", [0, 2])
def test_a_stop_reaches_the_others_and_a_failure_has_its_reason(three: Members, told: int) -> None:
    """From the hub and from the others; not its sender."""
    links = three.running()
    links[told].stop(None)
    links[told].stop("no disk")
    others = {0, 1, 2} - {told}
    failure = f"process {told} ({three.places[told]}) failed: no disk"
    until(lambda: all(three.heard[each] == ["", failure] for each in others), 20, "the words")
    assert three.heard[told] == []


def test_a_stop_is_said_once(three: Members) -> None:
    """Each process that hears one stops and says so itself: answers to answers would never end."""
    links = three.running()
    for _ in range(20):
        links[0].stop(None)
    for _ in range(20):
        links[0].stop("no disk")
    failure = f"process 0 ({three.places[0]}) failed: no disk"
    until(lambda: failure in three.heard[1], 20, "the word")
    assert three.heard[1] == ["", failure]


@pytest.mark.parametrize("first", [0, 1])
def test_a_goodbye_is_no_loss(three: Members, first: int) -> None:
    """A process that has finished may leave before the others."""
    links = three.running()
    links[first].close()
    for link in links:
        link.close()
        assert link.lost() == ""


def test_a_failed_start_ends_the_start_of_the_others(three: Members) -> None:
    """With its reason."""
    starts = [three.started(three.link(process)) for process in (0, 1)]
    failed = three.link(2)
    failed.join()
    failed.close("sinks.kafka.out: no broker answers")
    for start in starts:
        assert f"process 2 ({three.places[2]}) failed: sinks.kafka.out: no broker" in str(refusal(start))


def test_those_that_are_missing_are_named(impatient: Members) -> None:
    """By everyone who waits; if the hub is missing, it is the only one that the others know."""
    starts = [impatient.started(impatient.link(process)) for process in (0, 1)]
    for start in starts:
        error = refusal(start)
        assert f"process 2 ({impatient.places[2]}) did not join within 0.5 s" in str(error)
        assert error.exit_code == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad request\r\n\r\n", b"[1]\n", b"\xff\n"])
def test_a_stranger_at_the_address_of_the_first_process_is_named(impatient: Members, answer: bytes) -> None:
    """It says nothing, or what no process says."""
    with stranger(impatient.places[0], answer):
        error = refusal(impatient.started(impatient.link(1)))
    assert f"process 0 ({impatient.places[0]}) did not join within 0.5 s: what listens there does not" in str(error)


def test_a_process_that_comes_again_is_welcome(three: Members) -> None:
    """It was killed while the others waited."""
    start = three.started(three.link(0))
    host, port = host_and_port(three.places[0])
    hello = {"word": "hello", "process": 1, "addresses": three.places, "flow": "f", "version": "?"}

    def knock(message: bytes) -> dict[str, Any]:
        with socket.create_connection((host, port), 5) as stranger:
            stranger.sendall(message)
            stranger.shutdown(socket.SHUT_WR)
            answer = stranger.makefile().readline()
        found: dict[str, Any] = json.loads(answer) if answer else {}
        return found

    def answered() -> bool:
        with suppress(OSError):
            return "drakkar-flow ? there" in knock(json.dumps(hello).encode() + b"\n")["reason"]
        return False

    until(answered, 20, "an answer")
    for strange in (b"", b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b"[1]\n", b"x" * 100_000 + b"\n", b"\xff\n"):
        with suppress(ConnectionError):
            assert knock(strange) == {}
    others = [three.started(three.link(process)) for process in (1, 2)]
    for each in (start, *others):
        each.result(20)


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_is_stopped_during_the_start_ends_the_start_of_the_others(three: Members, stopped: int) -> None:
    """All end cleanly, whichever it is, also one that waits at no barrier; the reason names it."""
    links = [three.link(process) for process in range(3)]
    for joined in [three.joined(link) for link in links]:
        joined.result(20)
    links[stopped].close(stopped=True)
    for link in links[:stopped] + links[stopped + 1 :]:
        assert isinstance(link.interrupted.exception(20), StartStopped)
        with pytest.raises(StartStopped, match=rf"^process {stopped} \(127.0.0.1:\d+\) was stopped$"):
            link.reach("store", 20)


def test_a_process_that_is_stopped_at_the_rendezvous_ends_the_start_of_the_others(three: Members) -> None:
    """Though not all have come."""
    start = three.started(three.link(0))
    until(lambda: _listens(three.places[0]), 20, "it listens")
    with socket.create_connection(host_and_port(three.places[0]), 20) as member, member.makefile("rw") as line:
        hello = {"word": "hello", "process": 1, "addresses": three.places, "flow": "f", "version": __version__}
        print(json.dumps(hello), file=line, flush=True)
        assert json.loads(line.readline()) == {"word": "missing", "processes": [2]}
        print(json.dumps({"word": "stopped"}), file=line, flush=True)
        assert isinstance(start.exception(20), StartStopped)


@pytest.mark.parametrize(
    ("flow", "extra", "text"),
    [
        ("g", 0, "the flow g there, f in process 0"),
        ("f", 1, "addresses "),
    ],
)
def test_a_process_that_does_not_belong_is_refused(three: Members, flow: str, extra: int, text: str) -> None:
    """Only that one; the others wait on."""
    start = three.started(three.link(0))
    places = [*three.places, *addresses(extra)]
    error = refusal(three.started(three.link(1, flow, places)))
    assert text in str(error)
    assert error.exit_code == 2
    assert not start.done()


def test_the_same_place_twice_is_refused(three: Members) -> None:
    """Its port is in use."""
    three.started(three.link(0))
    until(lambda: _listens(three.places[0]), 20, "it listens")
    error = refusal(three.started(three.link(0)))
    assert f"{three.places[0]} of process 0 is in use" in str(error)
    assert error.exit_code == 2


def test_a_list_in_another_order_is_refused(three: Members) -> None:
    """Who connects to a process that is not the hub learns of it."""
    three.started(three.link(1))
    until(lambda: _listens(three.places[1]), 20, "it listens")
    first, second, third = three.places
    error = refusal(three.started(three.link(2, places=[second, first, third])))
    assert f"{second} is process 1 here, and not process 0; addresses differ" in str(error)


def test_an_address_of_another_host_is_refused(impatient: Members) -> None:
    """The place is another process's."""
    error = refusal(impatient.started(impatient.link(0, places=["192.0.2.1:4300", *impatient.places])))
    assert "process 0 can't listen on 192.0.2.1:4300" in str(error)
    assert error.exit_code == 2


def _listens(address: str) -> bool:
    with suppress(OSError), socket.create_connection(host_and_port(address), 1):
        return True
    return False
