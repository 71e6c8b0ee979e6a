"""Source places: the line of the user's code that caused an error."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Final

__all__ = ["place_of", "shown", "user_place"]

_LIBRARY: Final = str(Path(__file__).resolve().parents[1]) + os.sep
_COMMAND: Final = ("typer", "click")  # between the command and the library; no user code


def user_place() -> str:
    """`file:line` of the innermost caller outside this library; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to a caller's frame
    while frame is not None:
        code = frame.f_code.co_filename
        if not code.startswith((_LIBRARY, "<frozen")):
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            return "" if package in _COMMAND or code.startswith("<") else shown(code, frame.f_lineno)
        frame = frame.f_back
    return ""


def place_of(thing: object) -> str:
    """`file:line` of the definition of a user's function, method or class; empty if unknown or ours."""
    function = inspect.unwrap(getattr(thing, "__func__", thing))  # type: ignore[arg-type]
    code = getattr(function, "__code__", None)
    if code is not None:
        file, line = code.co_filename, code.co_firstlineno
    elif isinstance(thing, type):
        try:
            file, line = inspect.getsourcefile(thing) or "", inspect.findsource(thing)[1] + 1
        except (OSError, TypeError):
            return ""
    else:
        return ""
    return "" if file.startswith(_LIBRARY) else shown(file, line)


def shown(file: str, line: int) -> str:
    """The place relative to the working directory, if the file is below it.

    >>> shown("/somewhere/else/job.py", 3)
    '/somewhere/else/job.py:3'
    """
    try:
        here = f"{Path.cwd()}{os.sep}"
    except OSError:  # it was removed
        here = ""
    return f"{file.removeprefix(here)}:{line}"
