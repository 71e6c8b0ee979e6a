"""Host shortage: errors of a machine without descriptors, processes, threads, memory or space. Pure."""

from __future__ import annotations

import errno
from typing import Final

__all__ = ["shortage_of"]

_BY_ERRNO: Final = {
    errno.EMFILE: "descriptors",
    errno.ENFILE: "descriptors",
    errno.EAGAIN: "processes",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    errno.ENOSPC: "space",
    errno.EDQUOT: "space",
    errno.EINTR: "time",
}
_NO_THREAD: Final = "can't start new thread"


def shortage_of(error: BaseException) -> str:
    """Name of the resource that the host lacks according to `error`, empty when the cause is another.

    >>> shortage_of(OSError(errno.EMFILE, "Too many open files")), shortage_of(RuntimeError("can't start new thread"))
    ('descriptors', 'processes')
    >>> shortage_of(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    ''
    """
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, "")
    if isinstance(error, MemoryError):
        return "memory"
    return "processes" if isinstance(error, RuntimeError) and _NO_THREAD in str(error) else ""
