"""The processes that a worker starts: programs, and the reapers that end them when the worker is killed."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil

from support.until import until

__all__ = ["programs", "reapers", "slots"]


def programs(pid: int | None = None) -> list[psutil.Process]:
    """The children of a process, by default of this one, but for its reapers."""
    return [child for child in psutil.Process(pid).children() if not _is_warden(child)]


def slots() -> list[threading.Thread]:
    """The threads of this process that run programs."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("slot-")]


def reapers(pid: int | None = None) -> list[psutil.Process]:
    """The reapers among the children of a process, by default of this one."""
    return [child for child in psutil.Process(pid).children() if _is_warden(child)]


def _is_warden(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        arguments = until(process.cmdline, what="its command line, which a program that just starts has not")
        return any(argument.endswith("/executor/reaper.py") for argument in arguments)
    return False
