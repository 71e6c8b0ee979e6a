"""Check of a program against the worker protocol: a small separate parent that tries it out.

It shares no code with the executor that talks to workers, so that an error of one is not an error of both.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import select
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO, Any, Self

__all__ = ["Broken", "check_worker"]

_MAX_FRAME_BYTES = 16 * 1024 * 1024
_HELLO = {
    "type": "hello",
    "protocol": "drakkar-worker",
    "versions": [1],
    "framings": ["json-lines", "length-prefixed"],
    "max_in_flight": 8,
    "max_frame_bytes": _MAX_FRAME_BYTES,
}
_TEXTS = ["hello", "", 'quotes " \\ and\nlines\t', "ä € 😀", "x" * 100_000]


class Broken(Exception):
    """Raised if a program violates the protocol; the text describes how."""


def check_worker(command: Sequence[str], timeout_s: float = 10.0, *, binary: bool = False) -> Iterator[str]:
    """Start `command` as a worker and test it; yields each passed check as a sentence.

    Tasks have no arguments and text of several kinds as their input, with `binary` also bytes that are not text. Their
    results are not judged, only that each is answered once, in a frame of docs/worker-protocol.md. Every wait ends
    after `timeout_s` seconds. In the end the program and its process group are always gone.

    Raises:
        Broken: at the first violation, with the end of the program's stderr.
        OSError: the program can't be started.
    """
    with TemporaryFile() as stderr, _Child(command, stderr, timeout_s) as child:
        try:
            yield from _conversation(child, binary=binary)
        except Broken as exc:
            stderr.seek(max(stderr.seek(0, os.SEEK_END) - 2000, 0))
            said = stderr.read().decode("utf-8", "replace").rstrip()
            raise Broken(f"{exc}\nits stderr:\n{said}" if said else str(exc)) from None


def _conversation(child: _Child, *, binary: bool) -> Iterator[str]:
    yield child.shake_hands()
    for number, text in enumerate(_TEXTS, start=1):
        child.write(child.task(number, text))
        child.expect({number})
    yield f"it answers tasks: empty, long, and with every kind of character ({len(_TEXTS)})"
    if binary:
        child.write(child.task(99, bytes(range(256))))
        child.expect({99})
        yield "it answers a task whose input is not text"
    ids = set(range(100, 100 + child.in_flight))
    child.write(b"".join(child.task(number, "hello") for number in sorted(ids)))
    child.expect(ids)
    yield f"it answers each of {len(ids)} that it has at once"
    if "cancel" in child.capabilities:
        child.write(child.task(200, "hello") + child.frame({"type": "cancel", "id": 200}))
        child.expect({200})
        yield "it answers a cancelled one, too, and once"
    child.write(child.frame({"type": "cancel", "id": 1}) + child.frame({"type": "of-the-future", "id": 1}))
    child.write(child.task(201, "hello"))
    child.expect({201})
    yield "it goes over frames that mean nothing to it"
    child.finish()
    yield "it ends with 0 when its stdin ends"


class _Child:
    """The program, and the result of the handshake with it."""

    def __init__(self, command: Sequence[str], stderr: IO[bytes], timeout_s: float) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0, process_group=0
        )
        self._timeout_s = timeout_s
        self._buffer = b""
        self._framing = "json-lines"
        self.in_flight = 1
        self.capabilities: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def shake_hands(self) -> str:
        began_at = time.monotonic()
        self.write(json.dumps(_HELLO, separators=(",", ":")).encode() + b"\n")
        ready = _parsed(self._until(b"\n"))
        if ready.get("type") == "refused":
            raise Broken(f"it refuses: {ready.get('reason')}")
        if ready.get("type") != "ready":
            raise Broken(f'its first line has to be of type "ready" or "refused": {ready}')
        _demand(ready.get("version") == 1, 'its "version" has to be one that was offered: 1', ready)
        self._framing = ready.get("framing", "json-lines")
        _demand(self._framing in ("json-lines", "length-prefixed"), 'its "framing" was not offered', ready)
        in_flight, self.capabilities = ready.get("max_in_flight", 1), ready.get("capabilities", [])
        _demand(isinstance(in_flight, int) and in_flight > 0, 'its "max_in_flight" is no positive number', ready)
        is_list = isinstance(self.capabilities, list) and all(isinstance(each, str) for each in self.capabilities)
        _demand(is_list, 'its "capabilities" are no list of texts', ready)
        self.in_flight = min(in_flight, 8)
        took_s = time.monotonic() - began_at
        return f"it is ready after {took_s:.2f} s: {self._framing}, {in_flight} at once, {self.capabilities or 'plain'}"

    def task(self, number: int, stdin: str | bytes) -> bytes:
        """Return the frame of a task."""
        return self.frame({"type": "task", "id": number, "args": []}, stdin)

    def frame(self, header: dict[str, Any], stdin: str | bytes = "") -> bytes:
        if self._framing == "json-lines":
            text = {"stdin": stdin} if stdin else {}
            if isinstance(stdin, bytes):
                text = {"stdin_base64": base64.b64encode(stdin).decode()}
            return json.dumps({**header, **text}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        head, body = (
            json.dumps(header, separators=(",", ":")).encode(),
            stdin if isinstance(stdin, bytes) else stdin.encode(),
        )
        return struct.pack(">II", len(head), len(body)) + head + body

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        descriptor, deadline = self._process.stdin.fileno(), time.monotonic() + self._timeout_s
        os.set_blocking(descriptor, False)
        try:
            while data:
                if not select.select([], [descriptor], [], max(deadline - time.monotonic(), 0))[1]:
                    raise Broken(f"it did not read its stdin for {self._timeout_s:g} s")
                data = data[os.write(descriptor, data) :]
        except BrokenPipeError:
            return  # its end is the report

    def expect(self, ids: set[int]) -> None:
        """Read answers until each of `ids` has one."""
        left, deadline = set(ids), time.monotonic() + self._timeout_s
        while left:
            if time.monotonic() > deadline:
                raise Broken(f"it did not end a task within {self._timeout_s:g} s")
            answer = self._answer()
            number = answer.get("id")
            if answer.get("type") == "progress" and number in left:
                continue
            _demand(answer.get("type", "result") == "result", 'the "type" of an answer is "result" or missing', answer)
            _demand(number in left, f'the "id" of an answer has to be one of {sorted(left)}', answer)
            left.discard(number)
            for key, kind in (("exit_code", int), ("stdout", str), ("stderr", str)):
                _demand(
                    isinstance(answer.get(key, kind()), kind), f'its "{key}" is not of type {kind.__name__}', answer
                )
            with suppress(KeyError):
                try:
                    base64.b64decode(answer["stdout_base64"], validate=True)
                except (binascii.Error, TypeError, ValueError):
                    _demand(met=False, what='its "stdout_base64" is not base64', frame=answer)

    def finish(self) -> None:
        """Close its stdin: it must end with 0, and write nothing more."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(EOFError):
            while True:
                self._buffer += self._read("end when its stdin did")
        _demand(not self._buffer, "it wrote output that no task asked for", self._buffer[:100])
        try:
            code = self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            raise Broken(f"it did not end within {self._timeout_s:g} s when its stdin did") from None
        _demand(code == 0, "it has to end with 0 when its stdin does", code)

    def _answer(self) -> dict[str, Any]:
        if self._framing == "json-lines":
            return _parsed(self._until(b"\n"))
        head, body = struct.unpack(">II", self._exactly(8))
        _demand(head + body <= _MAX_FRAME_BYTES, "the sizes of a frame are too large", (head, body))
        answer = _parsed(self._exactly(head))
        self._exactly(body)
        return answer

    def _ending(self) -> str:
        try:
            return f"ended with {self._process.wait(self._timeout_s)}"
        except subprocess.TimeoutExpired:
            return "closed its stdout"

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._buffer += self._read("write a whole line")
        line, _, self._buffer = self._buffer.partition(end)
        return line

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += self._read("write a whole frame")
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _read(self, what: str) -> bytes:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._timeout_s)[0]:
            held = f"; what it wrote begins with {self._buffer[:100]!r}" if self._buffer else ""
            raise Broken(f"it did not {what} within {self._timeout_s:g} s{held}")
        _demand(
            len(self._buffer) <= _MAX_FRAME_BYTES, "a frame has no end within the bytes allowed", self._buffer[:100]
        )
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data and what.startswith("end"):
            raise EOFError
        if not data:
            raise Broken(f"it {self._ending()}, and did not {what} before")
        return data


def _demand(met: bool, what: str, frame: object) -> None:  # noqa: FBT001
    if not met:
        raise Broken(f"{what}; it said {frame!r}")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        frame = json.loads(line)
    except ValueError as exc:
        raise Broken(f"it wrote output that is not JSON ({exc}): {line[:100]!r}") from None
    _demand(isinstance(frame, dict), "a frame has to be a JSON object", frame)
    return dict(frame)
