"""Turn a script into a long-lived child of drakkar-flow, in three lines.

    from drakkar_flow.worker import serve

    def scan(task):
        return task.stdin.upper()

    serve(scan)

With `executor.mode: persistent` such a child is started once and answers task after task. The same script still runs
as a program of its own (`echo text | python scan.py ARGS`), which is how the one-shot mode runs it and how it is tried
by hand. The protocol is in docs/worker-protocol.md.

This file needs Python 3.8 and its standard library, nothing of drakkar-flow: copy it to wherever the child lives.
"""

from __future__ import annotations

import base64
import inspect
import json
import os
import select
import signal
import struct
import sys
import threading
import traceback
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from concurrent.futures import Future
    from typing import NoReturn, TypeAlias

    Returned: TypeAlias = "str | bytes | Answer | None"
    Handler: TypeAlias = "Callable[[Task], Returned | Awaitable[Returned]]"
    Submit: TypeAlias = "Callable[[Task], Future[Answer]] | None"
    Frames: TypeAlias = "list[tuple[dict[str, Any], bytes | None]]"

__all__ = ["Answer", "Task", "serve"]

_USAGE = """\
{0} is a worker of drakkar-flow: it reads tasks from its standard input, which is a terminal now.
  as a long-lived child:  executor.mode: persistent, and this program as executor.binary_path
  once, by hand:          echo INPUT | {0} ARGUMENTS
"""
_READ_BYTES = 65536  # what a pipe holds
_SIZES = struct.Struct(">II")
_text = json.JSONEncoder(ensure_ascii=False).encode


class Task:
    """What is to be done: `args`, `env`, `labels`, `metadata`, and the input as `stdin` or `stdin_bytes`.

    `timeout_s` is what the parent allows for it, None if it does not say. `env` is the task's own and not
    laid over `os.environ`, which all tasks of the child share.
    """

    def __init__(self, frame: dict[str, Any], body: bytes | None = None, session: _Session | None = None) -> None:
        self.id: int = frame["id"]
        self.args: list[str] = frame.get("args", [])
        self.env: dict[str, str] = frame.get("env", {})
        self.labels: dict[str, str] = frame.get("labels", {})
        self.metadata: dict[str, Any] = frame.get("metadata", {})
        self.timeout_s: float | None = frame.get("timeout_s")
        self._input: str | bytes = frame.get("stdin", "") if body is None else body
        if "stdin_base64" in frame:
            self._input = base64.b64decode(frame["stdin_base64"])
        self._session = session

    @property
    def stdin(self) -> str:
        """The input as text, bytes that are no UTF-8 replaced."""
        return self._input if isinstance(self._input, str) else self._input.decode("utf-8", "replace")

    @property
    def stdin_bytes(self) -> bytes:
        """The input as it is."""
        return self._input.encode() if isinstance(self._input, str) else self._input

    @property
    def cancelled(self) -> bool:
        """Whether the answer is not wanted any more; look at it now and then in a task that takes long."""
        return self._session is not None and self._session.is_cancelled(self.id)

    def progress(self) -> None:
        """Tell the parent that this task goes on: its limit on silence starts again."""
        if self._session is not None:
            self._session.progress(self.id)


class Answer(NamedTuple):
    """How a task ended; any exit code but 0 is a failure, as of a program."""

    exit_code: int = 0
    stdout: str | bytes = ""
    stderr: str = ""


_CANCELLED = Answer(1, stderr="cancelled")


def serve(
    handler: Handler, *, threads: int = 1, max_in_flight: int | None = None, framing: str = "json-lines", name: str = ""
) -> None:
    """Answer tasks with what `handler(task)` returns, until there are no more; then return.

    The handler returns the output (text or bytes; None is none) or an `Answer`. What it raises becomes exit
    code 1 with the traceback as stderr, `sys.exit(3)` exit code 3; the child lives on. An `async def` handler
    runs on a loop in a thread of its own, and is cancelled when the parent says so. Standard output belongs to
    the protocol: `print` goes to stderr from here on, and before nothing may be printed; standard input is empty.

    The end of stdin or SIGTERM lets it finish what it has taken, and return.

    Args:
        threads: how many tasks a plain function works at at once, each in a thread; 1 uses the main thread.
        max_in_flight: how many tasks may be here at once: `threads` of them unless given, 16 for an async
            handler. More than are worked at wait here, which pays where tasks take microseconds.
        framing: `json-lines`, or `length-prefixed` for input or output that is large or not text.
        name: what the parent's log calls it; the script's name unless given.

    Raises:
        SystemExit: run by hand on a terminal (2), as a program of its own (the exit code of the task), or
            when it and the parent have no version or framing in common (1).
    """
    program = os.path.basename(sys.argv[0])  # noqa: PTH119 - pathlib is slow to import
    if sys.stdin.isatty():
        sys.stderr.write(_USAGE.format(program))
        sys.exit(2)
    wire = _Wire()
    first = wire.input.readline()
    hello = _hello(first)
    if hello is None:
        _run_once(wire, handler, Task({"id": 0, "args": sys.argv[1:]}, first + wire.input.read()))
    for ours, offered in ((1, hello["versions"]), (framing, hello["framings"])):
        if ours not in offered:
            wire.say(type="refused", reason=f"{program} speaks {ours!r} alone, not one of {offered}")
            sys.exit(1)
    codec = _LengthPrefixed() if framing == "length-prefixed" else _JsonLines()
    is_async = inspect.iscoroutinefunction(handler)
    at_once = min(max_in_flight or (16 if is_async else threads), hello["max_in_flight"])
    ready = {"version": 1, "framing": framing, "max_in_flight": at_once, "capabilities": ["cancel", "progress"]}
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: wire.end())
    wire.say(type="ready", name=name or program, **ready)
    with _loop(handler) if is_async else _pool(handler, threads) as submit:
        _Session(wire, codec, hello["max_frame_bytes"]).serve(handler, submit)


def _run_once(wire: _Wire, handler: Handler, task: Task) -> NoReturn:
    if inspect.iscoroutinefunction(handler):
        import asyncio

        answer = asyncio.run(_awaited(handler, task))
    else:
        answer = _called(handler, task)
    wire.write(answer.stdout.encode() if isinstance(answer.stdout, str) else answer.stdout)
    sys.stderr.write(answer.stderr)
    sys.exit(answer.exit_code)


def _hello(line: bytes) -> dict[str, Any] | None:
    """The parent's greeting; None when the line is something else."""
    try:
        hello = json.loads(line)
        return hello if hello["type"] == "hello" and hello["protocol"] == "drakkar-worker" else None
    except (ValueError, TypeError, KeyError):
        return None


class _Wire:
    """Standard input and output, taken away from everyone else: 0 becomes empty, 1 becomes stderr."""

    def __init__(self) -> None:
        self._null = os.open(os.devnull, os.O_RDONLY)
        self.input, self._out = open(os.dup(0), "rb"), os.dup(1)  # noqa: PTH123, SIM115 - open as long as we are
        os.dup2(self._null, 0)
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def waits(self) -> bool:
        return bool(select.select([self.input], [], [], 0)[0])

    def end(self) -> None:
        """Let the reader find the end of its input; one that waits is interrupted by the signal and reads again."""
        os.dup2(self._null, self.input.fileno(), inheritable=False)

    def say(self, **fields: Any) -> None:
        self.write(json.dumps(fields).encode() + b"\n")

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._out, view) :]
        except BrokenPipeError:  # nobody reads any more, so there is nothing more to do
            self.end()


class _JsonLines:
    """One JSON object a line; output that is no text travels as base64."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Frames:
        """The frames that are complete with `data`."""
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._parts.append(data)
            return []
        lines = b"".join([*self._parts, head]).split(b"\n")
        self._parts = [rest]
        return [(json.loads(line.decode()), None) for line in lines]

    def encode(self, head: str, stdout: str | bytes = "") -> bytes:
        """A frame; `head` is its JSON object, still open."""
        if isinstance(stdout, bytes):
            try:
                stdout = stdout.decode()
            except UnicodeDecodeError as exc:
                return b'%s,"stdout_base64":"%s"}\n' % (head.encode(), base64.b64encode(exc.object))
        return (f'{head},"stdout":{_text(stdout)}}}\n' if stdout else f"{head}}}\n").encode()


class _LengthPrefixed:
    """The sizes of header and body as two big-endian uint32, a JSON header, and the input or output as raw bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Frames:
        frames: Frames = []
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= _SIZES.size:
            head, body = _SIZES.unpack_from(buffer, at)
            middle = at + _SIZES.size + head
            if len(buffer) < middle + body:
                break
            frames.append((json.loads(buffer[at + _SIZES.size : middle]), bytes(buffer[middle : middle + body])))
            at = middle + body
        del buffer[:at]
        return frames

    def encode(self, head: str, stdout: str | bytes = "") -> bytes:
        header, body = f"{head}}}".encode(), stdout.encode() if isinstance(stdout, str) else stdout
        return _SIZES.pack(len(header), len(body)) + header + body


class _Session:
    """Tasks in, answers out; answers leave together when several are ready at once."""

    def __init__(self, wire: _Wire, codec: _JsonLines | _LengthPrefixed, max_frame_bytes: int) -> None:
        self._wire = wire
        self._codec = codec
        self._max_frame_bytes = max_frame_bytes
        self._inbox: deque[Task] = deque()
        self._known: dict[int, Future[Answer] | None] = {}  # what has not been answered yet
        self._cancelled: set[int] = set()
        self._outbox: deque[bytes] = deque()
        self._writing = threading.Lock()
        self._due = threading.Event()
        self._reads_always = False

    def serve(self, handler: Any, submit: Submit) -> None:
        """Until the end of the input; what was submitted may go on then."""
        self._reads_always = submit is not None
        threading.Thread(target=self._flush_when_due, name="answers", daemon=True).start()
        while data := self._wire.input.read1(_READ_BYTES):
            self._take(data)
            while self._inbox:
                task = self._inbox.popleft()
                if task.id in self._cancelled:
                    self.answer(task, _CANCELLED, more=bool(self._inbox))
                elif submit is None:
                    self.answer(task, _called(handler, task), more=bool(self._inbox))
                else:
                    self._known[task.id] = future = submit(task)
                    future.add_done_callback(partial(self._done, task))
        self._flush()

    def is_cancelled(self, task_id: int) -> bool:
        if not self._reads_always and self._wire.waits():  # the thread that asks is the one that reads
            self._take(self._wire.input.read1(_READ_BYTES))
        return task_id in self._cancelled

    def answer(self, task: Task, answer: Answer, *, more: bool = False) -> None:
        """Send an answer, at once or, if `more` is about to follow, together with it or very soon."""
        self._known.pop(task.id, None)
        self._cancelled.discard(task.id)
        try:
            frame = self._encoded(task, answer)
        except UnicodeEncodeError as exc:
            frame = self._encoded(task, Answer(1, stderr=f"the answer can't be sent: {exc}"))
        if len(frame) > self._max_frame_bytes:
            text = f"the answer takes {len(frame):,} bytes, the parent allows {self._max_frame_bytes:,}"
            frame = self._encoded(task, Answer(1, stderr=text))
        self._outbox.append(frame)
        if more:
            self._due.set()
        else:
            self._flush()

    def progress(self, task_id: int) -> None:
        self._outbox.append(self._codec.encode(f'{{"type":"progress","id":{task_id}'))
        self._flush()

    def _done(self, task: Task, future: Future[Answer]) -> None:
        self.answer(task, _CANCELLED if future.cancelled() else future.result())

    def _flush(self) -> None:
        with self._writing:
            self._wire.write(b"".join([self._outbox.popleft() for _ in range(len(self._outbox))]))

    def _flush_when_due(self) -> None:
        """On a thread of its own: a task that takes long must not hold back the answers before it."""
        while self._due.wait():
            self._due.clear()
            self._flush()

    def _encoded(self, task: Task, answer: Answer) -> bytes:
        stderr = f',"stderr":{_text(answer.stderr)}' if answer.stderr else ""
        return self._codec.encode(f'{{"id":{task.id},"exit_code":{answer.exit_code}{stderr}', answer.stdout)

    def _take(self, data: bytes) -> None:
        for frame, body in self._codec.feed(data):
            if frame["type"] == "task":
                self._known[frame["id"]] = None
                self._inbox.append(Task(frame, body, self))
            elif frame["type"] == "cancel" and frame["id"] in self._known:
                self._cancelled.add(frame["id"])
                if future := self._known.get(frame["id"]):
                    future.cancel()


@contextmanager
def _pool(handler: Any, threads: int) -> Iterator[Submit]:
    """Work at several tasks at once, each in a thread; None: at a single one, in the thread that reads."""
    if threads == 1:
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield lambda task: pool.submit(_called, handler, task)


@contextmanager
def _loop(handler: Any) -> Iterator[Submit]:
    """Work at all tasks at once, on a loop in a thread of its own."""
    import asyncio

    async def finish() -> None:
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loop", daemon=True)
    thread.start()
    yield lambda task: asyncio.run_coroutine_threadsafe(_awaited(handler, task), loop)
    asyncio.run_coroutine_threadsafe(finish(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _called(handler: Any, task: Task) -> Answer:
    try:
        return _answer(handler(task))
    except (Exception, SystemExit) as exc:
        return _failure(exc)


async def _awaited(handler: Any, task: Task) -> Answer:
    try:
        return _answer(await handler(task))
    except (Exception, SystemExit) as exc:
        return _failure(exc)


def _answer(returned: Any) -> Answer:
    if isinstance(returned, Answer):
        assert isinstance(returned.exit_code, int), "the exit code has to be a number"
        assert isinstance(returned.stdout, (str, bytes)), "stdout has to be str or bytes"
        assert isinstance(returned.stderr, str), "stderr has to be str"
        return returned
    if returned is None or isinstance(returned, (str, bytes)):
        return Answer(0, returned or "")
    raise TypeError(f"the handler returned {type(returned).__name__}; str, bytes, None or an Answer is expected")


def _failure(exc: BaseException) -> Answer:
    if isinstance(exc, SystemExit):
        code = exc.code or 0
        return Answer(code & 0xFF) if isinstance(code, int) else Answer(1, stderr=f"{code}\n")
    return Answer(1, stderr="".join(traceback.format_exception(type(exc), exc, exc.__traceback__)))
