"""Causes of failures: texts without what differs from one failure to the next. Pure."""

from __future__ import annotations

import re
from pathlib import PurePath

from drakkar_flow.model.task import ExecutorError

__all__ = ["cause_of", "cause_of_task"]

_MAX_SCANNED = 600
_MAX_CAUSE = 120
_VARIABLE = re.compile(
    r"(?P<count>^\d+(?= payloads of the batch))"
    r"|(?P<quoted>'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`)"
    r"|(?P<path>(?<![\w:/])[\w.~-]*/[^\s:,;)'\"]+)"
    r"|(?P<id>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4,12})*\b|\b0x[0-9a-fA-F]+|\b\w*\d{4,}\w*)"
    r"|(?P<position>(?<=:)\d+\b|(?<=\bline )\d+|(?<=\bcolumn )\d+|(?<=\bchar )\d+|(?<=\boffset )\d+|(?<=\bpid )\d+"
    r"|(?<=\bposition )\d+|(?<=\bbyte )\d+|(?<=\brow )\d+|(?<=\brecord )\d+)"
)


def cause_of(text: str) -> str:
    """The first line of an error, without quoted values, paths, ids, positions and long numbers.

    >>> cause_of("no column 'price' in /data/in-7.csv, line 12"), cause_of("HTTP 503 after 3 attempts")
    ("no column '...' in /..., line #", 'HTTP 503 after 3 attempts')
    """
    stripped = text.strip()
    first = stripped[:_MAX_SCANNED].partition("\n")[0]
    return _VARIABLE.sub(_placeholder, first)[:_MAX_CAUSE]


def cause_of_task(error: ExecutorError) -> str:
    """The program, how it ended, and the last line of its stderr.

    >>> from drakkar_flow.model.task import ExecutorTask
    >>> task = ExecutorTask(task_id="t", source_offsets=[1])
    >>> cause_of_task(ExecutorError(task=task, exit_code=2, stderr="grep: /a: No such file\\n", command=["/bin/grep"]))
    'grep: exit code 2: grep: /...: No such file'
    """
    last = error.stderr.rstrip()[-_MAX_SCANNED:].rpartition("\n")[2]
    program = PurePath(error.command[0]).name if error.command else ""
    ending = error.reason if error.exception is None else cause_of(error.exception)
    return ": ".join(filter(None, (program, ending, cause_of(last))))


def _placeholder(match: re.Match[str]) -> str:
    return {"quoted": "'...'", "path": "/..."}.get(match.lastgroup or "", "#")
