"""The environment of programs: what is inherited, what is laid over it, and where programs are found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from drakkar_flow.config.executor import ExecutorConfig

__all__ = ["base_environment", "find_program", "forget_programs", "inheritable"]


def inheritable(parent: Mapping[str, str], deny: Iterable[str]) -> dict[str, str]:
    """The variables of `parent` whose names fit none of the globs `deny`, whatever their case.

    >>> inheritable({"HOME": "/", "db_password": "x"}, ["*PASSWORD*"])
    {'HOME': '/'}
    """
    globs = [glob.upper() for glob in deny]
    return {name: value for name, value in parent.items() if not any(fnmatchcase(name.upper(), g) for g in globs)}


def base_environment(config: ExecutorConfig, parent: Mapping[str, str]) -> dict[str, str]:
    """What every program gets: the filtered `parent`, if it is inherited at all, and `config.env` over it."""
    inherited = inheritable(parent, config.env_inherit_deny) if config.env_inherit_parent else {}
    return inherited | config.env


def find_program(name: str, path: str | None) -> str:
    """Resolve a bare program name on the child's `path` (None: the system's default path).

    A name with a slash is returned as it is. Findings are remembered.

    Raises:
        FileNotFoundError: when no directory of the path holds such a program.
    """
    return name if "/" in name else _search(name, os.defpath if path is None else path)


def forget_programs() -> None:
    """Look every program up again; called when one that was found before is gone."""
    _search.cache_clear()


@lru_cache(maxsize=256)
def _search(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"no program {name!r} on PATH {path!r}")
    return found
