"""`@periodic`: functions that run repeatedly while the flow runs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, TypeVar, get_args

__all__ = ["OnError", "Periodic", "periodic", "periodics_of"]

OnError = Literal["continue", "stop"]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_MARK = "__drakkar_periodic__"


@dataclass(frozen=True, slots=True)
class Periodic:
    """A function without parameters that runs every `seconds`, from the end of one run to the start of the next."""

    fn: Callable[[], Awaitable[Any]]
    name: str
    seconds: float
    on_error: OnError


def periodic(seconds: float, *, on_error: OnError = "continue") -> Callable[[F], F]:
    """Run an async method of a handler every `seconds` while the flow runs.

    It first runs one interval after `on_ready`; the next interval begins after the end of a run, so
    runs never overlap. A run that raises is counted and logged; with `on_error="stop"` it is the
    last one, and other periodic methods continue. When the flow stops, a run in progress is
    cancelled before anything else ends.

    A method of a base class counts too. A subclass that overrides it must decorate it again to keep it
    periodic.

    >>> class Beating:
    ...     @periodic(30)
    ...     async def beat(self): ...
    >>> [(found.name, found.seconds, found.on_error) for found in periodics_of(Beating())]
    [('beat', 30, 'continue')]

    Raises:
        ValueError: `seconds` is not a finite number above 0, or there is no such `on_error`.
        TypeError: the decorated function is not an `async def`.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not isfinite(seconds) or seconds <= 0:
        raise ValueError(f"periodic needs a number of seconds above 0, not {seconds!r}")
    if on_error not in get_args(OnError):
        raise ValueError(f"periodic's on_error is 'continue' or 'stop', not {on_error!r}")

    def mark(function: F) -> F:
        check: Callable[[object], bool] = inspect.iscoroutinefunction  # a direct check would narrow F away
        if not check(function):
            name = getattr(function, "__qualname__", repr(function))
            raise TypeError(f"periodic needs an async function: write {name} with 'async def'")
        setattr(function, _MARK, (seconds, on_error))
        return function

    return mark


def periodics_of(owner: object) -> tuple[Periodic, ...]:
    """The periodic methods of an object, those of base classes first."""
    attributes: dict[str, Any] = {}
    for klass in reversed(type(owner).__mro__):
        attributes.update(vars(klass))
    names = [name for name, value in attributes.items() if _is_periodic(getattr(value, "__func__", value))]
    return tuple(bound(getattr(owner, name)) for name in names)


def bound(function: Callable[[], Awaitable[Any]]) -> Periodic:
    """Return the Periodic of a decorated function.

    Raises:
        TypeError: it was not.
    """
    if not _is_periodic(function):
        raise TypeError(f"{function!r} is not periodic: decorate it with @periodic(seconds)")
    seconds, on_error = getattr(function, _MARK)
    return Periodic(function, getattr(function, "__name__", "periodic"), seconds, on_error)


def _is_periodic(function: object) -> bool:
    return hasattr(function, _MARK) and inspect.iscoroutinefunction(function)
