"""The `executor.limits` section."""

from __future__ import annotations

from pydantic import Field

from drakkar_flow.config.base import Section

__all__ = ["LimitsConfig"]


class LimitsConfig(Section):
    """Limits of a program, and of each process it starts; with a limit set, programs are started by `/bin/sh`."""

    cpu_s: int | None = Field(default=None, ge=1)
    """Processor time, that of a long-lived child over all its tasks; SIGXCPU at the limit, SIGKILL a second later."""
    memory_mib: int | None = Field(default=None, ge=1)
    """Memory it may allocate (RLIMIT_DATA: heap, anonymous mappings, stacks of threads); beyond, allocations fail.
    Code, mapped files and shared memory are not counted, nor address space that is only reserved."""
    open_files: int | None = Field(default=None, ge=4)
    """Descriptors it may have open."""
    processes: int | None = Field(default=None, ge=1)
    """Processes and threads of its user, all of them counted together; root is not bound."""
    file_size_mib: int | None = Field(default=None, ge=0)
    """Maximum size of a file it writes; at the limit it gets SIGXFSZ. Pipes are not bound."""
    core_mib: int = Field(default=0, ge=0)
    """Maximum size of a core dump; applies if another limit is set."""
    nice: int | None = Field(default=None, ge=-20, le=19)
    """Added to its niceness: 19 lets everybody else go first. Below 0 needs a privilege, else it is ignored."""
    umask: str | None = Field(default=None, pattern=r"^[0-7]{3,4}$")
    """Permissions that its new files never get, octal and quoted: "027"."""
