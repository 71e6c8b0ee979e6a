"""Resource limits of programs: set between vfork and the program, and recognised after a failure.

A shell sets them on itself and becomes the program, which costs about a millisecond per start; environment variables
whose names a shell can't hold may get lost. `prlimit` from outside would miss the program's first instructions, and
Python code between fork and exec would require a fork of this process instead of vfork.
"""

from __future__ import annotations

import os
import resource
import signal
from functools import lru_cache
from typing import Final

from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.errors import Problem
from drakkar_flow.kernel.shortage import shortage_of

__all__ = ["SHELL", "SHELL_ARGS", "SHELL_FAILED", "check_executable", "confined", "limit_met", "limit_problems"]

SHELL: Final = "/bin/sh"
SHELL_ARGS: Final = 4
"""Arguments of the shell, up to the path of the program."""
SHELL_FAILED: Final = (126, 127)
"""Exit codes of a shell that can't become the program."""
_NONE: Final = LimitsConfig()
_MIB: Final = 1024 * 1024

_BY_SIGNAL: Final = {signal.SIGXCPU: "cpu_s", signal.SIGXFSZ: "file_size_mib"}
_BY_WORDS: Final = {
    "memory_mib": ("memoryerror", "cannot allocate memory", "out of memory", "bad_alloc", "memory exhausted"),
    "file_size_mib": ("file too large",),
    "open_files": ("too many open files",),
    "processes": ("resource temporarily unavailable", "cannot fork", "can't start new thread"),
}
"""Texts on stderr after a refusal of the kernel, from the C library and from runtimes."""

_KERNEL_NAMES: Final = {
    "cpu_s": (resource.RLIMIT_CPU, 1),
    "memory_mib": (resource.RLIMIT_DATA, _MIB),
    "open_files": (resource.RLIMIT_NOFILE, 1),
    "processes": (resource.RLIMIT_NPROC, 1),
    "file_size_mib": (resource.RLIMIT_FSIZE, _MIB),
}


def confined(
    path: str, args: list[str], limits: LimitsConfig, cwd: str | None = None, soft_files: int | None = None
) -> tuple[str, list[str]]:
    """Return the command that runs the program at `path` within `limits`; without limits the program itself.

    `soft_files` is the soft limit of descriptors if `limits` has none; None keeps that of this process.

    >>> confined("/bin/cat", ["-"], LimitsConfig())
    ('/bin/cat', ['-'])
    >>> confined("/bin/cat", ["-"], LimitsConfig(open_files=10))
    ('/bin/sh', ['-c', 'ulimit -n 10 && ulimit -c 0 && exec "$@"', 'sh', '/bin/cat', '-'])

    Raises:
        OSError: if the program can't be executed, which the shell would only report as an exit code.
    """
    script = _script(limits, soft_files)
    if not script:
        return path, args
    check_executable(path, cwd)
    return SHELL, ["-c", script, "sh", path, *args]


def limit_met(limits: LimitsConfig, exit_code: int, stderr: str, section: str = "executor") -> str | None:
    """Return the limit that ended a failed program, by its signal or the texts on its stderr; None if none did.

    >>> limit_met(LimitsConfig(cpu_s=2), -24, "")
    'reached executor.limits.cpu_s (2)'
    >>> limit_met(LimitsConfig(memory_mib=64), 1, "MemoryError")
    'reached executor.limits.memory_mib (64), as its stderr says'
    """
    number = -exit_code if exit_code < 0 else exit_code - 128  # a shell reports the signal of its child like this
    key = _BY_SIGNAL.get(signal.Signals(number)) if number in signal.valid_signals() else None
    if key is not None and getattr(limits, key) is not None:
        return f"reached {section}.limits.{key} ({getattr(limits, key)})"
    if limits == _NONE:
        return None
    said = stderr.lower()
    for key, words in _BY_WORDS.items():
        if getattr(limits, key) is not None and any(word in said for word in words):
            return f"reached {section}.limits.{key} ({getattr(limits, key)}), as its stderr says"
    return None


def limit_problems(limits: LimitsConfig) -> list[Problem]:
    """Return the limits that can't be set, because those of this process are lower."""
    if os.geteuid() == 0:
        return []
    problems = []
    for key, (which, unit) in _KERNEL_NAMES.items():
        wanted, hard = getattr(limits, key), resource.getrlimit(which)[1]
        if wanted is not None and hard != resource.RLIM_INFINITY and wanted * unit > hard:
            what = f"{wanted} is more than this process may give ({hard // unit})"
            problems.append(Problem(f"executor.limits.{key}", what, "lower it, or raise the limit of this process"))
    return problems


@lru_cache(maxsize=16)
def _script(limits: LimitsConfig, soft_files: int | None) -> str:
    """The shell's commands; empty without limits. Memory is in KiB there, files in blocks of 512 bytes."""
    steps = [] if soft_files is None or limits.open_files is not None else [f"ulimit -S -n {soft_files}"]
    if limits.model_copy(update={"core_mib": 0}) == _NONE:
        return " && ".join([*steps, 'exec "$@"']) if steps else ""
    if limits.cpu_s is not None:  # with equal limits the kernel skips SIGXCPU
        steps += [f"ulimit -S -t {limits.cpu_s}", f"ulimit -H -t {limits.cpu_s + 1}"]
    if limits.memory_mib is not None:
        steps.append(f"ulimit -d {limits.memory_mib * 1024}")
    if limits.open_files is not None:
        steps.append(f"ulimit -n {limits.open_files}")
    if limits.processes is not None:  # bash has -u, dash and busybox -p
        steps.append(f"{{ ulimit -u {limits.processes} 2>/dev/null || ulimit -p {limits.processes}; }}")
    if limits.file_size_mib is not None:
        steps.append(f"ulimit -f {limits.file_size_mib * 2048}")
    steps.append(f"ulimit -c {limits.core_mib * 2048}")
    if limits.umask is not None:
        steps.append(f"umask {limits.umask}")
    steps.append('exec "$@"' if limits.nice is None else f'exec nice -n {limits.nice} "$@"')
    return " && ".join(steps)


def check_executable(path: str, cwd: str | None = None) -> None:
    """Check that the program at `path`, seen from `cwd`, can be executed, and the interpreter of a script.

    Raises:
        OSError: it can't.
    """
    path = os.path.join(cwd or "", path)  # noqa: PTH118 - the path of a program
    if os.path.isdir(path):  # noqa: PTH112
        raise IsADirectoryError(f"{path!r} is a directory")
    if not os.access(path, os.X_OK):
        os.stat(path)  # noqa: PTH116 - says what is wrong with the path
        raise PermissionError(f"{path!r} may not be executed")
    interpreter = _interpreter(path)
    if interpreter is None:
        raise OSError(f"{path!r} is text without a first line that names its interpreter, such as #!/bin/sh")
    if interpreter and not os.access(interpreter, os.X_OK):
        raise FileNotFoundError(f"{path!r} needs the interpreter {interpreter!r}, which can't be executed")


def _interpreter(path: str) -> str | None:
    """Return the interpreter of a script, None if it names none, empty for other and unreadable programs."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            first = file.read(256)
    except OSError as exc:
        if shortage_of(exc):
            raise
        return ""
    if not first.startswith(b"#!"):
        return "" if b"\0" in first else None  # the kernel executes no other text file
    words = first.split(b"\n", 1)[0].removeprefix(b"#!").split()
    return os.fsdecode(words[0]) if words else None
