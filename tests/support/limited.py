"""Runs python under limits of the kernel: `python limited.py nofile=1024:1024 nproc=60 ARGUMENTS OF PYTHON...`.

A limit is `SOFT:HARD`, or one number for both. `nproc` binds any user but root, so it also changes to a user that
nobody else is, who may read everything.
"""

from __future__ import annotations

import os
import resource
import sys

_ADDED_USER = 61_000
"""Added to the process id, so that no other process counts."""
_MAY_READ = "+dac_override,+dac_read_search,+fowner,+setuid,+setgid"


def main(arguments: list[str]) -> None:
    """Set the limits and become python."""
    command = [sys.executable]
    while arguments and "=" in arguments[0]:
        name, _, value = arguments.pop(0).partition("=")
        soft, _, hard = value.partition(":")
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (int(soft), int(hard or soft)))
        if name == "nproc":
            user = str(_ADDED_USER + os.getpid() % 1_000_000)
            rights = [
                "--inh-caps",
                _MAY_READ,
                "--ambient-caps",
                _MAY_READ,
                "--bounding-set",
                "-sys_resource,-sys_admin",
            ]
            command = ["setpriv", "--reuid", user, "--clear-groups", *rights, "--", *command]
    os.execvp(command[0], [*command, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
