"""Cluster link: connections between the processes of a cluster, from the rendezvous to the end of the run.

Process 0 is the hub: the others connect to it at its address, before Bytewax has the port. The connections stay open
while the dataflow runs, so a stop, a failure and a death are known by everyone at once.

A message is a JSON object on one line. `hello` opens a connection; `at` and `go` are barriers of the start; `missing`
names processes that have not joined; `stop`, `fail`, `ended` and `bye` are the end, `stopped` that of a start.
Anything else that connects is disconnected, for example a TCP health check.
"""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from contextlib import suppress
from typing import Any, Literal

from drakkar_flow._version import __version__
from drakkar_flow.config.sections.cluster import ClusterConfig, host_and_port
from drakkar_flow.errors import Problem, StartupError

__all__ = ["ClusterLink", "Phase", "StartStopped"]

Phase = Literal["joined", "store", "run"]
"""Barriers of a start: all have joined; the store is made; everyone is ready to run."""

_KEY = "runtime.cluster"
_RETRY_S = 0.2
_SLICE_S = 0.2  # the main thread wakes up as often to handle signals
_HELLO_S = 5.0  # for a connection to say who it is
_LIMIT = 64 * 1024  # bytes of one message
_HUB = 0

Message = dict[str, Any]


class StartStopped(Exception):
    """Raised when another process is stopped while the cluster starts: this one's start ends too."""


class ClusterLink:
    """Connection of this process with its cluster. Thread-safe; `stop` and `fail` also in signal handlers.

    `interrupted` gets the error that ends the start of the cluster, also while this process waits at no barrier.

    Args:
        settings: the addresses and the place of this process.
        flow: name of the flow; all processes have the same.
        on_stop: called on the link's thread when another process asks for a stop, with the reason of its failure or an
            empty text.
    """

    def __init__(self, settings: ClusterConfig, flow: str, on_stop: Callable[[str], object]) -> None:
        self._settings = settings
        self._me = settings.process_id
        self._flow = flow
        self._on_stop = on_stop
        self.interrupted: Future[None] = Future()
        self._others: dict[int, StreamWriter] = {}  # the hub knows all of them, the others the hub
        self._arrived: dict[str, set[int]] = {}
        self._passed: dict[str, asyncio.Future[None]] = {}
        self._left: set[int] = set()  # they said goodbye
        self._missing: list[int] = []
        self._has_answered = True  # False: something listens at the hub's address, and has said nothing yet
        self._turned_away = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._lost = threading.Event()
        self._cause = ""
        self._stopped = ""
        self._stop_known = self._failure_known = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="drakkar-cluster", daemon=True)
        self._thread.start()

    # --- called by the engine -------------------------------------------------------------------

    def join(self) -> None:
        """Listen on the own address, and wait until every process has joined.

        Raises:
            StartupError: the address can't be used, processes are missing, or they do not belong together.
            StartStopped: another process was stopped.
        """
        self._run(self._join())

    def reach(self, phase: Phase, timeout_s: float) -> None:
        """Arrive at a barrier, and wait until all processes have.

        Raises:
            StartupError: a process failed or ended, or one did not arrive in time.
            StartStopped: another process was stopped.
        """
        if phase == "run":
            self._run(self._close_server())  # Bytewax needs the port
        self._run(self._reach(phase, timeout_s))

    def stop(self, failure: str | None) -> None:
        """Ask all other processes to stop: with a reason, if this one fails.

        Does nothing if they know: the stop of another process is this one's, which would go back to them otherwise.
        """
        self._post(self._ask_to_stop, failure or "")

    def lost(self, timeout_s: float = 0.0) -> str:
        """Return the reason, if a process ended without a goodbye within that time; else an empty text."""
        self._lost.wait(timeout_s)
        return self._cause

    def close(self, failure: str = "", *, stopped: bool = False) -> None:
        """Say goodbye, or why this process ends, and disconnect; safe to call twice.

        `stopped`: the start was stopped, and so ends that of the others.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            last_word = _word("fail", reason=failure) if failure else _word("stopped" if stopped else "bye")
            ended = asyncio.run_coroutine_threadsafe(self._end(last_word), self._loop)
        ended.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        with self._lock:
            if self._closed:
                work.close()
                raise _failed("the start was cancelled")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not wait([future], _SLICE_S).done:  # a signal that another thread gets does not wake the main thread
                pass
            future.result()
        except CancelledError:
            raise _failed("the start was cancelled") from None

    def _post(self, function: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # closed
            self._loop.call_soon_threadsafe(function, *args)

    # --- the rendezvous -------------------------------------------------------------------------

    async def _join(self) -> None:
        timeout_s = self._settings.start_timeout_s
        deadline = self._loop.time() + timeout_s
        others = [each for each in range(len(self._settings.addresses)) if each != self._me]
        self._missing = others if self._me == _HUB else [_HUB]  # which names the others that are missing
        await self._listen(deadline)
        if self._me != _HUB:
            self._spawn(self._keep_connected())
        await self._reach("joined", deadline - self._loop.time())

    async def _listen(self, deadline: float) -> None:
        """Bind the own address; a name that can't be resolved yet is tried again."""
        address = self._address(self._me)
        host, port = host_and_port(address)
        answer = self._greet if self._me == _HUB else self._redirect

        def greet(reader: StreamReader, writer: StreamWriter) -> None:  # asyncio would log tasks that are cancelled
            self._spawn(answer(reader, writer))

        while True:
            try:
                self._server = await asyncio.start_server(greet, host, port, limit=_LIMIT, reuse_address=True)
            except OSError as exc:
                if exc.errno == errno.EADDRINUSE:
                    what = f"{address} of process {self._me} is in use"
                    remedy = "give each process another process_id, or stop the program that uses the port"
                    raise StartupError([Problem(f"{_KEY}.addresses", what, remedy)], exit_code=2) from None
                if self._loop.time() >= deadline:
                    what = f"process {self._me} can't listen on {address}: {exc.strerror or exc}"
                    remedy = "use an address of this host, or fix process_id"
                    raise StartupError([Problem(f"{_KEY}.addresses", what, remedy)], exit_code=2) from None
            else:
                return
            await asyncio.sleep(_RETRY_S)

    async def _greet(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer a connection to the hub."""
        hello = await _hello_of(reader)
        if hello is None:
            writer.close()
            return
        process = hello["process"]
        if wrong := self._mismatch(hello) or ("" if process not in self._others else f"process {process} has joined"):
            self._turned_away = f"process {process} was turned away: {wrong}"
            _send(writer, _word("refused", reason=wrong))
            writer.close()
            return
        self._others[process] = writer
        self._arrive(process, "joined")
        self._tell_missing()
        await self._hear(process, reader)

    async def _redirect(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer a connection to another process: a member comes only if its list of addresses differs."""
        if await _hello_of(reader) is not None:
            what = f"{self._address(self._me)} is process {self._me} here, and not process {_HUB}; addresses differ"
            _send(writer, _word("refused", reason=what))
        writer.close()

    def _mismatch(self, hello: Message) -> str:
        pairs = [
            ("addresses", ";".join(map(str, hello["addresses"])), ";".join(self._settings.addresses)),
            ("the flow", hello["flow"], self._flow),
            ("drakkar-flow", hello["version"], __version__),
        ]
        texts = [
            f"{name} {theirs} there, {ours} in process {self._me}" for name, theirs, ours in pairs if theirs != ours
        ]
        if not texts and hello["process"] == _HUB:
            return f"process {_HUB} has joined"
        return "; ".join(texts)

    async def _keep_connected(self) -> None:
        """Connect to the hub, again while not all have joined, and hear it until the end."""
        host, port = host_and_port(self._address(_HUB))
        while not self._waiter("joined").done():
            try:
                reader, writer = await asyncio.open_connection(host, port, limit=_LIMIT)
            except OSError:
                await asyncio.sleep(_RETRY_S)
                continue
            self._others[_HUB] = writer
            self._has_answered = False
            hello = {"process": self._me, "addresses": self._settings.addresses, "flow": self._flow}
            _send(writer, _word("hello", version=__version__, **hello))
            await self._hear(_HUB, reader)
            await asyncio.sleep(_RETRY_S)

    # --- barriers -------------------------------------------------------------------------------

    async def _reach(self, phase: Phase, timeout_s: float) -> None:
        self._arrive(self._me, phase)
        try:
            await asyncio.wait_for(asyncio.shield(self._waiter(phase)), max(0.0, timeout_s))
        except TimeoutError:
            raise self._late(phase) from None

    def _arrive(self, process: int, phase: str) -> None:
        if self._me != _HUB:
            if phase != "joined":
                self._broadcast(_word("at", phase=phase))
            return
        arrived = self._arrived.setdefault(phase, set())
        arrived.add(process)
        if len(arrived) == len(self._settings.addresses):
            self._broadcast(_word("go", phase=phase))
            self._pass(phase)

    def _waiter(self, phase: str) -> asyncio.Future[None]:
        if phase not in self._passed:
            self._passed[phase] = self._loop.create_future()
            if self._stopped or self._cause:
                error = StartStopped(self._stopped) if self._stopped else _failed(self._cause)
                _end_waiting(self._passed[phase], error)
        return self._passed[phase]

    def _has_passed(self, phase: Phase) -> bool:
        waiter = self._waiter(phase)
        return waiter.done() and waiter.exception() is None

    def _pass(self, phase: str) -> None:
        if not self._waiter(phase).done():
            self._waiter(phase).set_result(None)

    def _late(self, phase: Phase) -> StartupError:
        settings = self._settings
        if phase != "joined":
            late = set(range(len(settings.addresses))) - self._arrived.get(phase, {self._me})
            names = ", ".join(map(self._name, sorted(late))) if self._me == _HUB else "another process"
            return _failed(f"{names} did not finish its start in time")
        names = ", ".join(map(self._name, self._missing))
        what = f"{names} did not join within {settings.start_timeout_s:g} s"
        if not self._has_answered:
            what = f"{what}: what listens there does not answer as a process of this cluster"
            return StartupError([Problem(_KEY, what, "if it is another program, stop it, or change the address")])
        return _failed(f"{what}; {self._turned_away}" if self._turned_away else what)

    def _tell_missing(self) -> None:
        self._missing = sorted(set(range(len(self._settings.addresses))) - {_HUB} - self._others.keys())
        self._broadcast(_word("missing", processes=self._missing))

    # --- messages -------------------------------------------------------------------------------

    async def _hear(self, process: int, reader: StreamReader) -> None:
        """Handle the messages of a process until it ends."""
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                self._handle(process, _message_of(line))
                self._has_answered = True
        writer = self._others.pop(process, None)
        if writer is not None:
            writer.close()
        if self._cause or self._stopped or (process in self._left and self._has_passed("run")):
            return
        if not self._waiter("joined").done():  # it may come again
            self._arrived.get("joined", set()).discard(process)
            if self._me == _HUB:
                self._tell_missing()
            else:
                self._missing = [_HUB]
            return
        self._broadcast(_word("ended", process=process))
        self._lose(process)

    def _handle(self, process: int, message: Message) -> None:
        word = message.get("word")
        if word == "at":
            self._arrive(process, message["phase"])
        elif word == "go":
            self._pass(message["phase"])
        elif word == "missing":
            self._missing = message["processes"]
        elif word == "refused":
            remedy = "give all processes the same addresses, flow and version, and each another process_id"
            self._break(StartupError([Problem(_KEY, message["reason"], remedy)], exit_code=2))
        elif word == "ended":
            self._lose(message["process"])
        elif word == "bye":
            self._left.add(process)
        elif word == "stopped":
            self._relay(process, message)
            self._stopped = self._stopped or f"{self._name(message.get('process', process))} was stopped"
            self._break(StartStopped(self._stopped))
        elif word in ("stop", "fail"):
            self._relay(process, message)
            reason = message.get("reason", "")
            self._note_stop(reason)
            if reason:
                self._left.add(process)
                reason = f"{self._name(message.get('process', process))} failed: {reason}"
                self._break(_failed(reason))
            self._on_stop(reason)

    def _ask_to_stop(self, failure: str) -> None:
        if self._note_stop(failure):
            self._broadcast(_word("fail", reason=failure) if failure else _word("stop"))

    def _note_stop(self, failure: str) -> bool:
        """Note that a stop, or a failure, is known in the cluster; returns True if that is new."""
        known = self._failure_known or (self._stop_known and not failure)
        self._stop_known, self._failure_known = True, self._failure_known or bool(failure)
        return not known

    def _relay(self, sender: int, message: Message) -> None:
        """Pass the word of one process on to the others."""
        for process, writer in self._others.items():
            if process != sender:
                _send(writer, {"process": sender, **message})

    def _broadcast(self, message: Message) -> None:
        for writer in self._others.values():
            _send(writer, message)

    def _lose(self, process: int) -> None:
        how = "ended unexpectedly" if self._has_passed("run") else "ended before all processes had started"
        self._cause = self._cause or f"{self._name(process)} {how}"
        self._break(_failed(self._cause))
        self._lost.set()

    def _break(self, error: StartupError | StartStopped) -> None:
        """End the start: also the waiting for barriers."""
        with suppress(InvalidStateError):  # it has one, or the start is over
            self.interrupted.set_exception(error)
        for waiter in (self._waiter("joined"), self._waiter("store"), self._waiter("run")):
            if not waiter.done():
                _end_waiting(waiter, error)

    # --- the end --------------------------------------------------------------------------------

    async def _end(self, last_word: Message) -> None:
        self._broadcast(last_word)
        await self._close_server()
        self._left.update(self._others)
        for writer in self._others.values():
            writer.close()  # buffered messages are still sent
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _address(self, process: int) -> str:
        return self._settings.addresses[process]

    def _name(self, process: int) -> str:
        return f"process {process} ({self._address(process)})"


def _message_of(line: bytes) -> Message:
    """Return a message.

    Raises:
        ValueError: the line is a stranger's.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message


async def _hello_of(reader: StreamReader) -> Message | None:
    """Return the hello of a connection; None if it is a stranger's."""
    try:
        async with asyncio.timeout(_HELLO_S):
            message = _message_of(await reader.readline())
    except (OSError, ValueError, TimeoutError):
        return None
    if message.get("word") != "hello":
        return None
    fields = {"process": int, "addresses": list, "flow": str, "version": str}
    return message if all(isinstance(message.get(name), kind) for name, kind in fields.items()) else None


def _word(word: str, **fields: Any) -> Message:
    return {"word": word, **fields}


def _send(writer: StreamWriter, message: Message) -> None:
    with suppress(OSError, RuntimeError):
        writer.write(json.dumps(message).encode() + b"\n")


def _end_waiting(waiter: asyncio.Future[None], error: Exception) -> None:
    waiter.set_exception(error)
    waiter.exception()  # marks it as seen: no task may wait for it


def _failed(what: str) -> StartupError:
    return StartupError([Problem(_KEY, what, "see the log of that process" if "process" in what else "")])
