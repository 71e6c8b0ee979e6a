"""Start of programs by the C library's posix_spawn.

`os.posix_spawn` and `subprocess` hold the interpreter lock from vfork to exec, about 0.3 ms in
which no other thread runs. A call through ctypes releases the lock, which gives a third more
programs a second with eight slots.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

__all__ = ["Environment", "Spawner"]

# Both are larger than the structures of glibc and musl, which are opaque to us.
_ActionsBuffer = ctypes.c_char * 512
_Attributes = ctypes.c_char * 1024
_SIGSET_BYTES = 128
_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08  # the same in glibc and musl

_blocking = ctypes.CDLL(None)  # releases the interpreter lock during a call
_quick = ctypes.PyDLL(None)  # keeps it: cheaper for calls that take nanoseconds
_can_chdir = hasattr(_quick, "posix_spawn_file_actions_addchdir_np")
_can_close_others = hasattr(_quick, "posix_spawn_file_actions_addclosefrom_np")


class Environment:
    """The variables of programs, also as the C block for exec, created once.

    Raises:
        ValueError: if a name or a value can't be part of an environment.
    """

    __slots__ = ("block", "variables")

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)
        for name in self.variables:
            if not name or "=" in name:
                raise ValueError(f"{name!r} can't be the name of an environment variable")
        self.block = _strings([f"{name}={value}" for name, value in self.variables.items()])

    def over(self, more: Mapping[str, str]) -> Environment:
        """Return this environment, overridden by `more`."""
        return Environment({**self.variables, **more}) if more else self


class Spawner:
    """Starts programs in separate process groups, with the signals and descriptors of a fresh program.

    Signal mask empty, no signal ignored, descriptors 0-2 as given and no others. Safe to use from
    many threads.
    """

    def __init__(self, cwd: str | None = None) -> None:
        self._cwd = cwd
        self._attributes = _attributes()

    def spawn(self, path: str, args: Sequence[str], env: Environment, descriptors: tuple[int, int, int]) -> int:
        """Start the program at `path` and return its pid when it runs; the caller must reap it.

        Raises:
            OSError: if it can't be started (missing, not executable, too many arguments, ...).
            ValueError: if an argument holds a NUL character.
        """
        if self._cwd is not None and not _can_chdir:
            return self._spawn_by_subprocess(path, args, env, descriptors)
        pid = ctypes.c_int()
        argv = _strings([path, *args])
        actions = _actions(self._cwd, *descriptors)
        code = _blocking.posix_spawn(ctypes.byref(pid), argv[0], actions.buffer, self._attributes, argv, env.block)
        if code == errno.EINVAL:  # PID 1 of some containers may not vfork; subprocess works without it
            return self._spawn_by_subprocess(path, args, env, descriptors)
        if code:
            gone = self._cwd is not None and not os.path.isdir(self._cwd)  # noqa: PTH112 - a path of the configuration
            raise OSError(code, os.strerror(code), self._cwd if gone else path)
        return pid.value

    def _spawn_by_subprocess(
        self, path: str, args: Sequence[str], env: Environment, descriptors: tuple[int, int, int]
    ) -> int:
        stdin, stdout, stderr = descriptors
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            process = subprocess.Popen(
                [path, *args],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env.variables,
                cwd=self._cwd,
                process_group=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        process.returncode = 0  # the caller reaps: the object must neither do it nor warn
        return process.pid


def _strings(values: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    raw = [os.fsencode(value) for value in values]
    for value in raw:
        if b"\0" in value:
            raise ValueError("arguments and environment variables can't hold a NUL character")
    return _array(len(raw) + 1)(*raw, None)


@lru_cache(maxsize=64)
def _array(length: int) -> type[ctypes.Array[ctypes.c_char_p]]:
    """The array type, cached: ctypes discards unused ones, and creating them again is slow."""
    return ctypes.c_char_p * length


class _Actions:
    """Actions of the C library on descriptors and directory before it executes a program; immutable."""

    __slots__ = ("buffer",)

    def __init__(self, cwd: str | None, descriptors: tuple[int, ...]) -> None:
        self.buffer = _ActionsBuffer()
        _quick.posix_spawn_file_actions_init(self.buffer)
        for target, descriptor in enumerate(descriptors):
            _quick.posix_spawn_file_actions_adddup2(self.buffer, descriptor, target)
        if _can_close_others:  # ours close on exec, those of C libraries may not
            _quick.posix_spawn_file_actions_addclosefrom_np(self.buffer, 3)
        if cwd is not None:
            _quick.posix_spawn_file_actions_addchdir_np(self.buffer, os.fsencode(cwd))

    def __del__(self, destroy: Callable[[Any], int] = _quick.posix_spawn_file_actions_destroy) -> None:
        destroy(self.buffer)


@lru_cache(maxsize=1024)
def _actions(cwd: str | None, *descriptors: int) -> _Actions:
    """Descriptor numbers repeat, so their actions are cached."""
    return _Actions(cwd, descriptors)


def _attributes() -> ctypes.Array[ctypes.c_char]:
    attributes = _Attributes()
    none, every = b"\0" * _SIGSET_BYTES, b"\xff" * _SIGSET_BYTES  # also the two missing in sigfillset
    _quick.posix_spawnattr_init(attributes)
    _quick.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETPGROUP | _SETSIGDEF | _SETSIGMASK))
    _quick.posix_spawnattr_setpgroup(attributes, 0)
    _quick.posix_spawnattr_setsigmask(attributes, none)
    _quick.posix_spawnattr_setsigdefault(attributes, every)
    return attributes
