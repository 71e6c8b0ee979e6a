"""Persistent children that misbehave, each in one way: `python children.py NAME [length-prefixed] [NUMBER]`.

`command("silent")` gives the command line. All speak the protocol of docs/worker-protocol.md well but for the one
thing their name says; they need nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["CHILDREN", "command"]

FOREVER_S = 1000
Frame = dict[str, Any]


def command(name: str, framing: str = "json-lines", number: float | None = None) -> list[str]:
    """The command line of a child; `number` is what its docstring calls N."""
    assert name in CHILDREN
    return [sys.executable, "-S", __file__, name, framing, *([] if number is None else [str(number)])]


class Wire:
    """The child's end of the pipes, in one framing; what it sends is sent at once."""

    def __init__(self, framing: str, number: float | None) -> None:
        self.framing = framing
        self._number = number

    def number(self, default: float) -> float:
        """The number of the command line."""
        return default if self._number is None else self._number

    def greet(self, **fields: Any) -> None:
        """Read the hello and answer that we are ready."""
        hello = json.loads(sys.stdin.buffer.readline())
        assert hello["type"] == "hello"
        self.raw(line({"type": "ready", "version": 1, "framing": self.framing, **fields}))

    def tasks(self) -> Iterator[Frame]:
        """Every task until stdin ends, its input as text under `stdin`."""
        while (frame := self._read()) is not None:
            if frame["type"] == "task":
                yield frame

    def answer(self, task: Frame, stdout: str = "", **fields: Any) -> None:
        """Answer one task; without `stdout` with its own input."""
        self.raw(self.encode({"id": task["id"], "exit_code": 0, **fields}, stdout or task["stdin"]))

    def encode(self, header: Frame, body: str = "") -> bytes:
        """One frame."""
        if self.framing == "json-lines":
            return line({**header, "stdout": body})
        head, rest = json.dumps(header).encode(), body.encode()
        return struct.pack(">II", len(head), len(rest)) + head + rest

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _read(self) -> Frame | None:
        if self.framing == "json-lines":
            text = sys.stdin.buffer.readline()
            return {"stdin": "", **json.loads(text)} if text else None
        sizes = sys.stdin.buffer.read(8)
        if len(sizes) < 8:
            return None
        head, body = struct.unpack(">II", sizes)
        frame = json.loads(sys.stdin.buffer.read(head))
        return {"stdin": "", **frame, **({"stdin": sys.stdin.buffer.read(body).decode()} if body else {})}


def line(frame: Frame) -> bytes:
    """A frame of the handshake."""
    return json.dumps(frame).encode() + b"\n"


def good(wire: Wire) -> None:
    """Answers each task with its input, as it should."""
    wire.greet()
    for task in wire.tasks():
        wire.answer(task)


def bad_frame(wire: Wire) -> None:
    """Answers with bytes that are no frame."""
    wire.greet()
    for _ in wire.tasks():
        wire.raw(b"{nonsense\n" if wire.framing == "json-lines" else struct.pack(">II", 9, 0) + b"{nonsense")


def wrong_id(wire: Wire) -> None:
    """Answers with an id that was never asked."""
    wire.greet()
    for task in wire.tasks():
        wire.answer({**task, "id": task["id"] + 1000})


def duplicate_id(wire: Wire) -> None:
    """Answers each task twice."""
    wire.greet()
    for task in wire.tasks():
        wire.raw(2 * wire.encode({"id": task["id"], "exit_code": 0}, task["stdin"]))


def half_frame_at_exit(wire: Wire) -> None:
    """Writes half of its answer to the first task and exits with 0."""
    wire.greet()
    task = next(wire.tasks())
    frame = wire.encode({"id": task["id"], "exit_code": 0}, task["stdin"])
    wire.raw(frame[: len(frame) // 2])


def silent(wire: Wire) -> None:
    """Reads its tasks and never answers."""
    wire.greet(max_in_flight=4, capabilities=["cancel"])
    for _ in wire.tasks():
        continue


def only_progress(wire: Wire) -> None:
    """Says every N seconds (0.01) that its first task goes on, and never ends it."""
    wire.greet(capabilities=["progress"])
    task = next(wire.tasks())
    while True:
        wire.raw(wire.encode({"type": "progress", "id": task["id"]}))
        time.sleep(wire.number(0.01))


def flood(wire: Wire) -> None:
    """Answers the first task with a frame that never ends."""
    wire.greet()
    next(wire.tasks())
    if wire.framing == "length-prefixed":
        wire.raw(struct.pack(">II", 2, 2**32 - 1) + b"{}")
    while True:
        wire.raw(b"x" * 65536)


def flood_stderr(wire: Wire) -> None:
    """Writes N MiB (16) to stderr for each task, then answers it."""
    wire.greet()
    for task in wire.tasks():
        for _ in range(int(wire.number(16) * 16)):
            sys.stderr.write("e" * 65535 + "\n")
        wire.answer(task)


def crash_after_n(wire: Wire) -> None:
    """Answers N tasks (3) and kills itself at the next."""
    wire.greet(max_in_flight=4)
    for count, task in enumerate(wire.tasks()):
        if count >= wire.number(3):
            os.kill(os.getpid(), signal.SIGKILL)
        wire.answer(task)


def crash_loop(wire: Wire) -> None:
    """Exits with 3 as soon as it is started."""
    sys.stderr.write("no licence found\n")
    sys.exit(3)


def refuses(wire: Wire) -> None:
    """Refuses to work."""
    sys.stdin.buffer.readline()
    wire.raw(line({"type": "refused", "reason": "the model file is missing"}))


def wrong_version(wire: Wire) -> None:
    """Chooses a version that nobody offered."""
    wire.greet(version=99)
    time.sleep(FOREVER_S)


def no_handshake(wire: Wire) -> None:
    """Reads the hello and says nothing."""
    sys.stdin.buffer.readline()
    time.sleep(FOREVER_S)


def never_reads(wire: Wire) -> None:
    """Is ready, and reads nothing more."""
    wire.greet(max_in_flight=1000)
    time.sleep(FOREVER_S)


def stops_itself(wire: Wire) -> None:
    """Stops its whole process group at the first task."""
    wire.greet()
    next(wire.tasks())
    os.killpg(0, signal.SIGSTOP)
    time.sleep(FOREVER_S)


def stdout_noise_before_ready(wire: Wire) -> None:
    """Prints a greeting before it is ready, as a library at import might."""
    wire.raw(b"Loading the model...\n")
    good(wire)


def stdout_noise_between(wire: Wire) -> None:
    """Prints a line before each answer, as a forgotten print does."""
    wire.greet()
    for task in wire.tasks():
        wire.raw(b"got one\n")
        wire.answer(task)


def slow_answers(wire: Wire) -> None:
    """Answers each task after N seconds (0.2)."""
    wire.greet()
    for task in wire.tasks():
        time.sleep(wire.number(0.2))
        wire.answer(task)


def out_of_order(wire: Wire) -> None:
    """Takes N tasks (4) at a time and answers the last one first; what is left over when stdin ends, too."""
    wire.greet(max_in_flight=int(wire.number(4)))
    held: list[Frame] = []
    for task in wire.tasks():
        held.append(task)
        if len(held) >= wire.number(4):
            while held:
                wire.answer(held.pop())
    while held:
        wire.answer(held.pop())


def leaks_memory(wire: Wire) -> None:
    """Keeps N MiB (8) more with each task."""
    wire.greet()
    kept = []
    for task in wire.tasks():
        kept.append(os.urandom(1024) * int(wire.number(8) * 1024))
        wire.answer(task)


def forks_grandchild(wire: Wire) -> None:
    """Answers with the pid of a process that it started, which holds the pipes and outlives it."""
    wire.greet()
    for task in wire.tasks():
        left = subprocess.Popen(["sleep", str(FOREVER_S)])
        wire.answer(task, str(left.pid))
        left.returncode = 0  # left on purpose


def ignores_the_end(wire: Wire) -> None:
    """Neither the end of stdin nor SIGTERM ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    good(wire)
    time.sleep(FOREVER_S)


def closes_stdout(wire: Wire) -> None:
    """Closes its stdout at the first task and lives on."""
    wire.greet()
    next(wire.tasks())
    os.close(1)
    time.sleep(FOREVER_S)


CHILDREN: dict[str, Callable[[Wire], None]] = {
    child.__name__: child
    for child in (
        bad_frame, closes_stdout, crash_after_n, crash_loop, duplicate_id, flood, flood_stderr, forks_grandchild, good,
        half_frame_at_exit, ignores_the_end, leaks_memory, never_reads, no_handshake, only_progress, out_of_order,
        refuses, silent, slow_answers, stdout_noise_before_ready, stdout_noise_between, stops_itself, wrong_id,
        wrong_version,
    )
}  # fmt: skip

if __name__ == "__main__":
    arguments = sys.argv[2:]
    CHILDREN[sys.argv[1]](
        Wire(arguments[0] if arguments else "json-lines", float(arguments[1]) if len(arguments) > 1 else None)
    )
