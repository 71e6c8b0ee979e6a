"""Log lines of a child: its stderr as lines for the log, and the last ones for its failure. Pure."""

from __future__ import annotations

__all__ = ["LogLines"]

_MAX_LINES = 20  # per piece that was read: a child that floods its stderr must not flood the log
_MAX_LINE_BYTES = 1000
_TAIL_BYTES = 2000


class LogLines:
    """Cuts a stream into lines that fit a log, and keeps its end.

    >>> log = LogLines()
    >>> log.feed(b"loading\\nmodel mis"), log.feed(b"sing\\n")
    ((['loading'], 0), (['model missing'], 0))
    >>> log.tail
    'model missing'
    """

    def __init__(self) -> None:
        self._rest = b""
        self._end = b""

    def feed(self, data: bytes) -> tuple[list[str], int]:
        """Return the lines that `data` completes, and the number of dropped ones."""
        self._end = (self._end + data)[-_TAIL_BYTES:]
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE_BYTES:  # an unterminated line is cut, too
            lines.append(self._rest)
            self._rest = b""
        lines = [line for line in lines if line.strip()]
        shown = [line[:_MAX_LINE_BYTES].decode("utf-8", "replace") for line in lines[:_MAX_LINES]]
        return shown, max(0, len(lines) - _MAX_LINES)

    def end(self) -> tuple[list[str], int]:
        """Return the last line if it is unterminated."""
        return self.feed(b"\n")

    @property
    def tail(self) -> str:
        """Return the last line, unterminated or not; empty if there was none."""
        lines = self._end.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""
