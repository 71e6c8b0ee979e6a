"""CachedExecute: the rule by which results of tasks are stored in the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from drakkar_flow.errors import FlowError, Problem
from drakkar_flow.model.cache import CacheScope
from drakkar_flow.model.task import ExecutorTask

__all__ = ["CachedExecute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedExecute:
    """Stores the results of successful tasks, and answers equal tasks as precomputed.

    Tasks are equal if their program, arguments, stdin, environment and success codes are; `key(task)` replaces this
    comparison by its own text, and None leaves the task out. `version` is part of every key: change it with the
    program. Results are stored for `ttl_s` seconds, None without limit, and in `scope`.

    >>> from drakkar_flow import BaseDrakkarHandler
    >>> class Words(BaseDrakkarHandler):
    ...     cached_execute = CachedExecute(ttl_s=3600)

    Raises:
        FlowError: a value is not allowed.
    """

    ttl_s: float | None = None
    scope: CacheScope = CacheScope.LOCAL
    key: Callable[[ExecutorTask], str | None] | None = None
    version: str = ""

    def __post_init__(self) -> None:
        """Check the values."""
        problems = []
        ttl_s: object = self.ttl_s
        scope: object = self.scope
        key: object = self.key
        if ttl_s is not None and (
            isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not (isfinite(ttl_s) and ttl_s > 0)
        ):
            problems.append(Problem("cached_execute", f"ttl_s is {ttl_s!r}", "pass seconds above 0, or None"))
        if scope not in tuple(CacheScope):
            known = ", ".join(f"CacheScope.{scope.name}" for scope in CacheScope)
            problems.append(Problem("cached_execute", f"scope is {scope!r}", f"pass one of {known}"))
        if key is not None and not callable(key):
            problems.append(Problem("cached_execute", f"key is {key!r}", "pass a function of a task"))
        if problems:
            raise FlowError(problems)
