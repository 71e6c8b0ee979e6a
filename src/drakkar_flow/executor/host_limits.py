"""Limits of this process for its programs: descriptors, processes, threads."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Shortfall", "programs_soft_limit", "provide_for", "release"]

_PER_PROGRAM: Final = 7  # both ends of three pipes during the start, then our ends and a descriptor for its end
_RESERVE: Final = 128  # for the clients of Kafka and sinks, the log, scrapes, hooks; a quarter of a small limit
_TASKS: Final = 2  # a slot's thread and its program; children of the program are unknown
_AMPLE: Final = 4096
_THREADS: Final = 64  # of this process beside its slots; a quarter of a small limit

_claims: dict[int, int] = {}  # slots by owner
_original: list[int] = []  # the soft limit of descriptors before it was raised


class Shortfall(NamedTuple):
    """A limit that is too low for all slots: allowed and needed value, and the number of usable slots."""

    limit: str
    allowed: int
    needed: int
    slots: int


def provide_for(owner: object, slots: int) -> list[Shortfall]:
    """Reserve resources for `slots` programs; returns the limits that are too low for them.

    The soft limit of descriptors is raised to the hard one, but only where it is too low.
    """
    others = sum(_claims.values())
    _claims[id(owner)] = slots
    return [*_descriptors(slots, others), *_processes(slots, slots + others)]


def release(owner: object) -> None:
    """Release the resources of the programs of `owner`."""
    _claims.pop(id(owner), None)


def programs_soft_limit() -> int | None:
    """The soft limit of descriptors to restore in programs; None if it was not raised."""
    return _original[0] if _original else None


def _descriptors(slots: int, others: int) -> list[Shortfall]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) + others * _PER_PROGRAM  # noqa: PTH208
    if soft < used + _RESERVE + slots * _PER_PROGRAM and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _original.append(soft)
        soft = hard
    room = soft - used - min(_RESERVE, soft // 4)
    if room >= slots * _PER_PROGRAM:
        return []
    needed = used + _RESERVE + slots * _PER_PROGRAM
    return [Shortfall("RLIMIT_NOFILE", soft, needed, max(1, room // _PER_PROGRAM))]


def _processes(slots: int, all_slots: int) -> list[Shortfall]:
    """Limits of processes and threads, which count together."""
    found = []
    soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # Counting reads all of /proc, so ample limits are not compared.
    if os.geteuid() != 0 and 0 <= soft < _AMPLE + 20 * _TASKS * all_slots:
        found.append(("RLIMIT_NPROC", soft, _threads_of_user()))
    if (group := _control_group()) is not None:
        found.append(("pids.max", *group))
    others = (all_slots - slots) * _TASKS
    rooms = [(name, most, used, most - used - others - min(_THREADS, most // 4)) for name, most, used in found]
    return [
        Shortfall(name, most, used + others + _THREADS + slots * _TASKS, max(1, room // _TASKS))
        for name, most, used, room in rooms
        if room < slots * _TASKS
    ]


def _threads_of_user() -> int:
    """Number of processes and threads of this process's user."""
    count, user = 0, os.getuid()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == user:
                count += len(list((process / "task").iterdir()))
    return count


def _control_group() -> tuple[int, int] | None:
    """Maximum and number of processes of this process's control group; None without a bound."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "pids"):
                group = Path("/sys/fs/cgroup", controllers, path.lstrip("/"))
                if (most := (group / "pids.max").read_text().strip()) != "max":
                    return int(most), int((group / "pids.current").read_text())
    return None
