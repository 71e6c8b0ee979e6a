"""Log output: lines that can't be written are dropped and counted; nothing is raised.

Lines are UTF-8 with any locale. A file is opened again after it was rotated or removed. A pipe without a reader blocks
for at most a second.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TextIO

__all__ = ["FileTarget", "LogOutput", "LogTarget", "StreamTarget"]

_MODE = 0o666  # minus the umask, as for any file
_WAIT_S = 1.0  # one wait for the reader of a pipe; after that lines are dropped until it reads again
_COMPLAIN_S = 60.0


class LogTarget(Protocol):
    """Destination of log lines."""

    name: str

    def write(self, data: bytes) -> None:
        """Write all of `data`, or raise OSError or ValueError."""

    def close(self) -> None:
        """Close the destination; may raise OSError."""


class FileTarget:
    """A file in append mode; its directories are created, and created again if they are removed."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._fd, self._inode = self._open()
        self._torn = False

    def write(self, data: bytes) -> None:
        """Append all of `data`; on an error remove a partial line, unless another process has appended after it."""
        if self._is_moved():
            fd, inode = self._open()
            os.close(self._fd)
            self._fd, self._inode, self._torn = fd, inode, False
        before = os.fstat(self._fd).st_size
        if self._torn:
            data = b"\n" + data
        written = os.write(self._fd, data)
        if written < len(data):
            self._torn = not self._take_back(before, written)
            raise OSError("only a part of the line was written")
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _open(self) -> tuple[int, tuple[int, int]]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._path, flags, _MODE)
        found = os.fstat(fd)
        return fd, (found.st_dev, found.st_ino)

    def _is_moved(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

    def _take_back(self, before: int, written: int) -> bool:
        """Remove the written part of a line, unless another process has appended after it."""
        with suppress(OSError):
            if os.fstat(self._fd).st_size == before + written:
                os.ftruncate(self._fd, before)
                return True
        return False


class StreamTarget:
    """Standard output or standard error; None stands for a closed stream, which refuses every write."""

    def __init__(self, name: str, stream: TextIO | None) -> None:
        self.name = name
        self._stream = stream
        self._fd = _descriptor(stream)
        self._torn = False
        self._stalled = False

    def write(self, data: bytes) -> None:
        """Write `data`; raises OSError if the reader of a pipe reads nothing for a second."""
        if self._stream is None:
            raise OSError("the stream is closed")
        if self._fd is None:
            self._stream.write(data.decode())
            self._stream.flush()
            return
        data = b"\n" + data if self._torn else data
        chunk = len(data) if stat.S_ISREG(os.fstat(self._fd).st_mode) else select.PIPE_BUF
        written = 0
        try:
            while written < len(data):
                self._wait()
                count = os.write(self._fd, data[written : written + chunk])
                if not count:
                    raise OSError("the stream accepts no data")
                written += count
        except OSError:
            self._torn = self._torn or written > 0
            raise
        self._torn = False

    def close(self) -> None:
        """Do nothing: the stream belongs to the process."""

    def _wait(self) -> None:
        """Wait until a write would not block."""
        poll = select.poll()
        poll.register(self._fd or 0, select.POLLOUT)
        ready = poll.poll(0 if self._stalled else _WAIT_S * 1000)
        self._stalled = not ready
        if self._stalled:
            raise BlockingIOError("the pipe has no reader")


class LogOutput(logging.Handler):
    """Writes log records to a target.

    The first lost line is reported on standard error, further ones at most once a minute. The number of lost lines is
    logged when the target works again, else written to standard error at the end. `on_lost` is called for each.
    """

    def __init__(self, target: LogTarget, on_lost: Callable[[], object] | None = None) -> None:
        super().__init__()
        self._target = target
        self._on_lost = on_lost
        self._lost = 0
        self._complained_at: float | None = None

    @property
    def name_of_target(self) -> str:
        """`stderr`, `stdout` or the file."""
        return self._target.name

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; never raises."""
        line = self._rendered(record)
        try:
            if self._lost:
                line = self._rendered(_record("warning", "log_lines_lost", count=self._lost)) + line
            self._target.write(line)
            self._lost = 0
        except (OSError, ValueError) as exc:
            self._lose(exc)

    def close(self) -> None:
        """Close the target, and report the number of lines lost since the last report."""
        super().close()
        with suppress(OSError):
            self._target.close()
        if self._lost:
            self._complain(f"{self._lost} log lines were dropped")
            self._lost = 0

    def _rendered(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as exc:  # the __str__ of a value raised; the line is written without its fields
            error = f"{type(exc).__name__} while rendering a line from {record.name}"
            text = self.format(_record("warning", "log_line_failed", error=error))
        return f"{text}\n".encode("utf-8", "backslashreplace")

    def _lose(self, error: Exception) -> None:
        self._lost += 1
        now = time.monotonic()
        if self._complained_at is None or (self._lost == 1 and now - self._complained_at > _COMPLAIN_S):
            self._complained_at = now
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            self._complain(f"{why}; log lines are dropped until a write succeeds")
        if self._on_lost is not None:
            with suppress(Exception):
                self._on_lost()

    def _complain(self, text: str) -> None:
        if self._target.name != "stderr":
            with suppress(OSError, ValueError):
                line = f"drakkar-flow: logging.output {self._target.name}: {text}\n"
                StreamTarget("stderr", sys.stderr).write(line.encode("utf-8", "backslashreplace"))


def _record(level: str, event: str, **fields: object) -> logging.LogRecord:
    """Make a log record of the library, where no logger may be called."""
    number = logging.getLevelNamesMapping()[level.upper()]
    record = logging.LogRecord("drakkar_flow", number, "", 0, event, None, None)
    record.__dict__.update(fields)
    return record


def _descriptor(stream: TextIO | None) -> int | None:
    """Return the descriptor of a stream; None without one, as in tests."""
    try:
        return stream.fileno() if stream is not None else None
    except (AttributeError, OSError, ValueError):
        return None
