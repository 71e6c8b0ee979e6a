"""Child library: turns a script into a long-lived child of drakkar-flow, in three lines.

    from drakkar_flow.worker import serve

    def scan(task):
        return task.stdin.upper()

    serve(scan)

With `executor.mode: persistent` such a child starts once and answers many tasks. The same script also runs a single
task (`echo text | python scan.py ARGS`): the one-shot mode does that, and so can a user on the command line. The
protocol is in docs/worker-protocol.md.

This file needs Python 3.8 and its standard library, nothing of drakkar-flow: copy it to the host of the child.
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
{0} is a worker of drakkar-flow: it reads tasks from standard input, but standard input is a terminal.
  as a long-lived child:  executor.mode: persistent, and this program as executor.binary_path
  once, by hand:          echo INPUT | {0} ARGUMENTS
"""
_READ_BYTES = 65536  # capacity of a pipe
_SIZES = struct.Struct(">II")
_text = json.JSONEncoder(ensure_ascii=False).encode


class Task:
    """One task: `args`, `env`, `labels`, `metadata`, and the input as `stdin` or `stdin_bytes`.

    `timeout_s` is the parent's time limit in seconds, None without one. `env` holds the variables of this task only;
    `os.environ`, which all tasks of the child share, does not contain them.
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
        """Input as text; bytes that are not valid UTF-8 are replaced."""
        return self._input if isinstance(self._input, str) else self._input.decode("utf-8", "replace")

    @property
    def stdin_bytes(self) -> bytes:
        """Input as bytes."""
        return self._input.encode() if isinstance(self._input, str) else self._input

    @property
    def cancelled(self) -> bool:
        """True if the parent has cancelled this task; a long task should check it from time to time."""
        return self._session is not None and self._session.is_cancelled(self.id)

    def progress(self) -> None:
        """Report progress to the parent, which restarts its idle timeout for this task."""
        if self._session is not None:
            self._session.progress(self.id)


class Answer(NamedTuple):
    """Result of a task; an exit code other than 0 is a failure, as for a program."""

    exit_code: int = 0
    stdout: str | bytes = ""
    stderr: str = ""


_CANCELLED = Answer(1, stderr="cancelled")


def serve(
    handler: Handler, *, threads: int = 1, max_in_flight: int | None = None, framing: str = "json-lines", name: str = ""
) -> None:
    """Answer tasks with the result of `handler(task)` until the input ends, then return.

    The handler returns the output (text or bytes; None for no output) or an `Answer`. An exception becomes exit
    code 1 with the traceback as stderr, `sys.exit(3)` exit code 3; the child continues. An `async def` handler
    runs on an event loop in a separate thread; a cancel message of the parent cancels it. Standard output belongs
    to the protocol: print nothing before this call; after it `print` writes to stderr, and standard input is empty.

    At the end of stdin or on SIGTERM it finishes the tasks that it has, and returns.

    Args:
        threads: tasks that a plain function runs at once, each in a thread; 1 uses the main thread.
        max_in_flight: tasks that the child accepts at once; by default `threads`, or 16 for an async handler.
            Tasks beyond those that run wait in the child, which helps if tasks take microseconds.
        framing: `json-lines`, or `length-prefixed` for input or output that is large or not text.
        name: name of the child in the parent's log; by default the name of the script.

    Raises:
        SystemExit: standard input is a terminal (2), a single task was run (its exit code), or the child and the
            parent have no version or framing in common (1).
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
            wire.send(type="refused", reason=f"{program} supports only {ours!r}, the parent offers {offered}")
            sys.exit(1)
    codec = _LengthPrefixed() if framing == "length-prefixed" else _JsonLines()
    is_async = inspect.iscoroutinefunction(handler)
    at_once = min(max_in_flight or (16 if is_async else threads), hello["max_in_flight"])
    ready = {"version": 1, "framing": framing, "max_in_flight": at_once, "capabilities": ["cancel", "progress"]}
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: wire.end())
    wire.send(type="ready", name=name or program, **ready)
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
    """Return the parent's hello message; None if the line is something else."""
    try:
        hello = json.loads(line)
        return hello if hello["type"] == "hello" and hello["protocol"] == "drakkar-worker" else None
    except (ValueError, TypeError, KeyError):
        return None


class _Wire:
    """Owner of standard input and output: for other code descriptor 0 becomes empty, 1 becomes stderr."""

    def __init__(self) -> None:
        self._null = os.open(os.devnull, os.O_RDONLY)
        self.input, self._out = open(os.dup(0), "rb"), os.dup(1)  # noqa: PTH123, SIM115 - open until the process ends
        os.dup2(self._null, 0)
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def has_input(self) -> bool:
        return bool(select.select([self.input], [], [], 0)[0])

    def end(self) -> None:
        """End the input; the signal interrupts a waiting reader, which then reads the end."""
        os.dup2(self._null, self.input.fileno(), inheritable=False)

    def send(self, **fields: Any) -> None:
        self.write(json.dumps(fields).encode() + b"\n")

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._out, view) :]
        except BrokenPipeError:  # the parent has closed the pipe, so there is nothing more to do
            self.end()


class _JsonLines:
    """JSON lines: one object per line; output that is not text is base64."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Frames:
        """Return the frames that `data` completes."""
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._parts.append(data)
            return []
        lines = b"".join([*self._parts, head]).split(b"\n")
        self._parts = [rest]
        return [(json.loads(line.decode()), None) for line in lines]

    def encode(self, head: str, stdout: str | bytes = "") -> bytes:
        """Return a frame; `head` is its JSON object without the closing brace."""
        if isinstance(stdout, bytes):
            try:
                stdout = stdout.decode()
            except UnicodeDecodeError as exc:
                return b'%s,"stdout_base64":"%s"}\n' % (head.encode(), base64.b64encode(exc.object))
        return (f'{head},"stdout":{_text(stdout)}}}\n' if stdout else f"{head}}}\n").encode()


class _LengthPrefixed:
    """Length-prefixed frames: sizes of header and body as two big-endian uint32, a JSON header, a raw body."""

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
    """Reads tasks and writes answers; answers that are ready at once are written together."""

    def __init__(self, wire: _Wire, codec: _JsonLines | _LengthPrefixed, max_frame_bytes: int) -> None:
        self._wire = wire
        self._codec = codec
        self._max_frame_bytes = max_frame_bytes
        self._inbox: deque[Task] = deque()
        self._known: dict[int, Future[Answer] | None] = {}  # unanswered tasks
        self._cancelled: set[int] = set()
        self._outbox: deque[bytes] = deque()
        self._writing = threading.Lock()
        self._due = threading.Event()
        self._reads_always = False

    def serve(self, handler: Any, submit: Submit) -> None:
        """Serve until the end of the input; submitted tasks may still run then."""
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
        if not self._reads_always and self._wire.has_input():  # this thread is also the reader
            self._take(self._wire.input.read1(_READ_BYTES))
        return task_id in self._cancelled

    def answer(self, task: Task, answer: Answer, *, more: bool = False) -> None:
        """Send an answer at once, or with the next answer if `more` will follow."""
        self._known.pop(task.id, None)
        self._cancelled.discard(task.id)
        try:
            frame = self._encoded(task, answer)
        except UnicodeEncodeError as exc:
            frame = self._encoded(task, Answer(1, stderr=f"the answer can't be sent: {exc}"))
        if len(frame) > self._max_frame_bytes:
            text = f"the answer has {len(frame):,} bytes, the parent allows {self._max_frame_bytes:,}"
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
        """Run on a separate thread, so that a long task does not delay the answers before it."""
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
    """Yield a function that runs a task in a pool of threads; None for one thread, where the reader runs tasks."""
    if threads == 1:
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield lambda task: pool.submit(_called, handler, task)


@contextmanager
def _loop(handler: Any) -> Iterator[Submit]:
    """Yield a function that runs a task on an event loop in a separate thread."""
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
        assert isinstance(returned.exit_code, int), "Answer.exit_code must be an int"
        assert isinstance(returned.stdout, (str, bytes)), "Answer.stdout must be str or bytes"
        assert isinstance(returned.stderr, str), "Answer.stderr must be str"
        return returned
    if returned is None or isinstance(returned, (str, bytes)):
        return Answer(0, returned or "")
    raise TypeError(f"the handler returned {type(returned).__name__}: return str, bytes, None or an Answer")


def _failure(exc: BaseException) -> Answer:
    if isinstance(exc, SystemExit):
        code = exc.code or 0
        return Answer(code & 0xFF) if isinstance(code, int) else Answer(1, stderr=f"{code}\n")
    return Answer(1, stderr="".join(traceback.format_exception(type(exc), exc, exc.__traceback__)))
