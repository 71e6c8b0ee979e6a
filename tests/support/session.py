"""A parent that speaks the worker protocol by hand: one frame out, one frame in."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["HELLO", "Session"]

HELLO = {
    "type": "hello",
    "protocol": "drakkar-worker",
    "versions": [1],
    "framings": ["json-lines", "length-prefixed"],
    "max_in_flight": 8,
    "max_frame_bytes": 100_000,
}
SRC = Path(__file__).parents[2] / "src"


class Session:
    """A child and its pipes; `ready` is what it answered to the greeting. Leaving ends it, whatever it does."""

    def __init__(self, *command: str, hello: dict[str, Any] | None = None) -> None:
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._to, self._from = self._child.stdin, self._child.stdout
        self.framing = "json-lines"
        self.say({**HELLO, **(hello or {})})
        self.ready = self.hear()
        self.framing = self.ready.get("framing", "json-lines")

    @classmethod
    def with_script(cls, code: str, **hello: Any) -> Self:
        """A Python child that runs `code`."""
        return cls(sys.executable, "-c", "from drakkar_flow.worker import *\n" + code, hello=hello)

    def ask(self, number: int, stdin: str = "", **fields: Any) -> None:
        """Send a task."""
        self.say({"type": "task", "id": number, "args": [], **fields}, stdin)

    def say(self, frame: dict[str, Any], stdin: str = "") -> None:
        """Send a frame."""
        if self.framing == "json-lines":
            self._to.write(_json({**frame, **({"stdin": stdin} if stdin else {})}) + b"\n")
        else:
            head, body = _json(frame), stdin.encode()
            self._to.write(struct.pack(">II", len(head), len(body)) + head + body)
        self._to.flush()

    def say_together(self, frames: list[dict[str, Any]]) -> None:
        """Send JSON lines in one write."""
        self._to.write(b"".join(_json(frame) + b"\n" for frame in frames))
        self._to.flush()

    def hear(self) -> dict[str, Any]:
        """The next frame; the body of a length-prefixed one is its `stdout`, as bytes."""
        if self.framing == "json-lines":
            frame: dict[str, Any] = json.loads(self._from.readline())
            return frame
        head, body = struct.unpack(">II", self._from.read(8))
        return {**json.loads(self._from.read(head)), "stdout": self._from.read(body)}

    def answer_to(self, number: int, stdin: str = "", **fields: Any) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a task that is asked alone."""
        self.ask(number, stdin, **fields)
        frame = self.hear()
        assert frame["id"] == number
        return frame["exit_code"], frame.get("stdout", ""), frame.get("stderr", "")

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._child.terminate()

    def close_ears(self) -> None:
        """Read no answer any more."""
        self._from.close()

    def log_line(self) -> str:
        """The next line of its stderr."""
        assert self._child.stderr is not None
        return self._child.stderr.readline().decode()

    def wait(self) -> int:
        """Its exit code, with its stdin left open."""
        return self._child.wait(20)

    def end(self) -> tuple[int, bytes, str]:
        """Close its stdin: its exit code, what else it answered, and its stderr."""
        out, err = self._child.communicate(timeout=20)
        return self._child.returncode, out, err.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
        self._child.communicate()


def _json(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode()
