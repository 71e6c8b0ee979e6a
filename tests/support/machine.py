"""One machine for tests that run side by side: whoever needs it alone gets it alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["share_machine"]

LOCKS = Path(__file__).resolve().parents[2] / ".cache" / "tests"


@contextmanager
def share_machine(*, alone: bool) -> Iterator[None]:
    """Share the machine with the tests of pytest-xdist's other processes while the block runs, or have it alone.

    Fair: a test that waits to be alone lets no other begin.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:  # tests run one by one
        yield
        return
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / "room.lock").open("w") as room:
        with (LOCKS / "gate.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # by hand: a process that a test forked may have the file open, too
