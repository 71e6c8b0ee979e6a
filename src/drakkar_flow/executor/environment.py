"""The environment of programs: what is inherited, what is laid over it, and where programs are found."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from functools import lru_cache

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.errors import Problem
from drakkar_flow.executor.confine import check_executable, limit_problems

__all__ = ["base_environment", "find_program", "forget_programs", "startup_problems"]


def base_environment(
    config: ProgramConfig, parent: Mapping[str, str], mark: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What every program gets: what it inherits of `parent`, `config.env` over it, and `mark`."""
    return {**config.inherited(parent), **config.env, **(mark or {})}


def find_program(name: str, path: str | None) -> str:
    """Resolve a bare program name on the child's `path` (None: the system's default path).

    A name with a slash is returned as it is. Findings are remembered.

    Raises:
        FileNotFoundError: when no directory of the path holds such a program.
    """
    return name if "/" in name else _search(name, os.defpath if path is None else path)


def startup_problems(config: ProgramConfig, parent: Mapping[str, str]) -> list[Problem]:
    """What can't work here: the program, the working directory, the limits, and that ends are not told."""
    problems = []
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        what = "this process ignores SIGCHLD, so the kernel does not tell how a program ended"
        problems.append(Problem("executor", what, "set the signal to its default before the flow starts"))
    name = config.binary_path
    if name is not None:
        try:
            found = find_program(name, base_environment(config, parent).get("PATH"))
        except FileNotFoundError as exc:
            problems.append(Problem("executor.binary_path", str(exc), "install it, or give its full path"))
        else:
            try:
                check_executable(found, config.cwd)
            except OSError as exc:
                what = f"{found!r} is not a program that can be run: {exc}"
                problems.append(Problem("executor.binary_path", what, "fix the path, or make it executable"))
    if config.cwd is not None and not os.path.isdir(config.cwd):  # noqa: PTH112
        problems.append(Problem("executor.cwd", f"{config.cwd!r} is not a directory", "create it or name another"))
    return problems + limit_problems(config.limits)


def forget_programs() -> None:
    """Look every program up again; called when one that was found before is gone."""
    _search.cache_clear()


@lru_cache(maxsize=256)
def _search(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"no program {name!r} on PATH {path!r}")
    return found
