"""Engine guard: an exception in a function that Bytewax calls ends the flow with a reason instead of a Rust panic.

After the first error, guarded functions do nothing and the source ends. Records in flight keep their credit, so nothing
is committed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import Any

from bytewax.dataflow import Dataflow, Operator
from bytewax.outputs import FixedPartitionedSink

__all__ = ["guard_engine"]

_FUNCTIONS = {"mapper": list}
_Otherwise = dict[str, Callable[[Any], Any]]  # by method: the value, given the object, after an error
_LOGIC: _Otherwise = {
    "on_batch": lambda _: ([], False),
    "on_notify": lambda _: ([], False),
    "on_eof": lambda _: ([], True),
}
_SINK: _Otherwise = {"write_batch": lambda _: None, "close": lambda _: None}
_SLOT: _Otherwise = {"write_batch": lambda _: None, "close": lambda _: None, "snapshot": lambda part: part.row}


def guard_engine(dataflow: Dataflow, on_error: Callable[[BaseException], object]) -> None:
    """Guard every function and object of the operators of `dataflow`; `on_error` is called at most once."""
    guard = _Guard(on_error)
    for operator in _operators(dataflow.substeps):
        for name, otherwise in _FUNCTIONS.items():
            if hasattr(operator, name):
                object.__setattr__(operator, name, guard.wrap(getattr(operator, name), otherwise))
        if hasattr(operator, "builder"):
            object.__setattr__(operator, "builder", guard.maker(operator.builder, _LOGIC))
        if isinstance(sink := getattr(operator, "sink", None), FixedPartitionedSink):
            sink.build_part = guard.maker(sink.build_part, _SLOT)  # type: ignore[method-assign]
        elif sink is not None:
            sink.build = guard.maker(sink.build, _SINK)
        if hasattr(operator, "source"):
            operator.source.build = guard.maker(operator.source.build, {"next_batch": lambda _: _end()})


class _Guard:
    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self._on_error = on_error
        self._failed = False

    def wrap(self, function: Callable[..., Any], otherwise: Callable[[], Any]) -> Callable[..., Any]:
        """Guard a function; after an error it returns the value of `otherwise`."""

        @wraps(function)
        def guarded(*args: Any) -> Any:
            if not self._failed:
                try:
                    return function(*args)
                except StopIteration:  # the end of a source
                    raise
                except BaseException as exc:
                    self._failed = True
                    self._on_error(exc)
            return otherwise()

        return guarded

    def maker(self, make: Callable[..., Any], methods: _Otherwise) -> Callable[..., Any]:
        """Guard a factory, and the methods of the objects that it makes."""

        @wraps(make)
        def made(*args: Any) -> Any:
            part = make(*args)
            for name, otherwise in methods.items():
                setattr(part, name, self.wrap(getattr(part, name), partial(otherwise, part)))
            return part

        return made


def _end() -> Any:
    raise StopIteration


def _operators(steps: Sequence[Operator]) -> Iterator[Any]:
    """Return all operators, nested ones included."""
    for operator in steps:
        yield operator
        yield from _operators(operator.substeps)
