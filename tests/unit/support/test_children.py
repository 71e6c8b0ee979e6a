"""The children that misbehave do what their names say, and nothing else is wrong with them."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
from typing import Any

import pytest

from support.children import CHILDREN, command

HELLO = json.dumps(
    {
        "type": "hello",
        "protocol": "drakkar-worker",
        "versions": [1],
        "framings": ["json-lines", "length-prefixed"],
        "max_in_flight": 8,
        "max_frame_bytes": 1 << 24,
    }
).encode()


def talk(name: str, framing: str = "json-lines", number: float | None = None) -> tuple[int, list[bytes]]:
    """Its exit code and what it wrote, when it was given two tasks and the end of stdin."""
    tasks: list[dict[str, Any]] = [{"type": "task", "id": number, "args": []} for number in (1, 2)]
    if framing == "json-lines":
        frames = b"".join(json.dumps({**task, "stdin": f"{task['id']}"}).encode() + b"\n" for task in tasks)
    else:
        heads = [json.dumps(task).encode() for task in tasks]
        frames = b"".join(struct.pack(">II", len(head), 1) + head + b"%d" % (n + 1) for n, head in enumerate(heads))
    done = subprocess.run(
        command(name, framing, number), input=HELLO + b"\n" + frames, capture_output=True, check=False, timeout=20
    )
    return done.returncode, done.stdout.splitlines()


ENDS = {
    "good": (0, b'{"id": 2, "exit_code": 0, "stdout": "2"}'),
    "bad_frame": (0, b"{nonsense"),
    "wrong_id": (0, b'{"id": 1002, "exit_code": 0, "stdout": "2"}'),
    "half_frame_at_exit": (0, b'{"id": 1, "exit_code'),
    "crash_after_n": (-signal.SIGKILL, b'{"id": 1, "exit_code": 0, "stdout": "1"}'),
    "refuses": (0, b'{"type": "refused", "reason": "the model file is missing"}'),
    "out_of_order": (0, b'{"id": 1, "exit_code": 0, "stdout": "1"}'),
    "duplicate_id": (0, b'{"id": 2, "exit_code": 0, "stdout": "2"}'),
    "leaks_memory": (0, b'{"id": 2, "exit_code": 0, "stdout": "2"}'),
    "stdout_noise_between": (0, b'{"id": 2, "exit_code": 0, "stdout": "2"}'),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_child_ends_as_its_name_says(name: str) -> None:
    """Its exit code, and its last line."""
    code, lines = talk(name, number=1 if name == "crash_after_n" else None)
    assert (code, lines[-1]) == ENDS[name]


def test_a_good_child_speaks_length_prefixed_frames() -> None:
    """Sizes, header and body follow the ready line."""
    code, lines = talk("good", "length-prefixed")
    head = b'{"id": %d, "exit_code": 0}'
    assert code == 0
    assert b"".join(lines[1:]) == b"".join(struct.pack(">II", 25, 1) + head % n + b"%d" % n for n in (1, 2))


def test_every_child_says_what_it_does() -> None:
    """In its docstring, for whoever chooses one."""
    assert [name for name, child in CHILDREN.items() if not child.__doc__] == []
