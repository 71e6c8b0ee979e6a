"""Environment of programs: inherited variables, overrides, and the lookup of programs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from functools import lru_cache

from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.errors import Problem
from drakkar_flow.executor.rlimits import check_executable, limit_problems

__all__ = ["base_environment", "find_program", "forget_programs", "startup_problems"]


def base_environment(
    config: ProgramConfig, parent: Mapping[str, str], mark: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables of every program: inherited ones of `parent`, overridden by `config.env`, and `mark`."""
    return {**config.inherited(parent), **config.env, **(mark or {})}


def find_program(name: str, path: str | None) -> str:
    """Resolve a bare program name on the child's `path` (None: the system's default path).

    A name with a slash is returned unchanged. Results are cached.

    Raises:
        FileNotFoundError: if no directory of the path has such a program.
    """
    return name if "/" in name else _search(name, os.defpath if path is None else path)


def startup_problems(config: ProgramConfig, parent: Mapping[str, str]) -> list[Problem]:
    """Yield the problems of the program, the working directory and the limits, and an ignored SIGCHLD."""
    problems = []
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        what = "this process ignores SIGCHLD, so the kernel does not report the end of programs"
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
    """Clear the cache; called if a cached program is gone."""
    _search.cache_clear()


@lru_cache(maxsize=256)
def _search(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"no program {name!r} on PATH {path!r}")
    return found
