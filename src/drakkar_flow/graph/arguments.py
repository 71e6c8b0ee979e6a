"""Checks of node arguments: one line for each wrong argument, with the line of the user's code."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any, Final

from drakkar_flow.errors import FlowArgumentError, Problem

__all__ = ["callers_place", "choice", "instance", "items", "mapping", "number", "refuse", "text", "texts", "whole"]

_LIBRARY: Final = str(Path(__file__).parents[1])
_SHOWN: Final = 80  # characters of a value in a message

Wrong = Iterator[str]
"""Problem of an argument and its fix; empty if it is valid."""


def refuse(what: str, *checks: Iterable[str]) -> None:
    """Raise if a check found a problem; `what` is the called function.

    Raises:
        FlowArgumentError: with all problems.
    """
    wrong = [text for check in checks for text in check]
    if wrong:
        place = callers_place()
        raise FlowArgumentError([Problem(f"{place} {what}".strip(), text) for text in wrong])


def callers_place() -> str:
    """The file and line of the caller outside of the library; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no public way
    while frame is not None and frame.f_code.co_filename.startswith((_LIBRARY, "<string>")):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def whole(name: str, value: object, least: int, most: int | None = None, *, optional: bool = True) -> Wrong:
    """A whole number between two bounds."""
    if value is None and optional:
        return
    bounds = f"at least {least}" if most is None else f"from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, int):
        yield f"{name} is {_shown(value)}; write a whole number, {bounds}"
    elif value < least or (most is not None and value > most):
        yield f"{name} is {value}; use {bounds}"


def number(name: str, value: object, *, above: bool = True) -> Wrong:
    """Seconds: more than 0, or without `above` 0 as well."""
    if value is None:
        return
    bounds = "more than 0" if above else "0 or more"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        yield f"{name} is {_shown(value)}; write a number of seconds, {bounds}"
    elif value < 0 or (above and value == 0):
        yield f"{name} is {value}; use {bounds} seconds"


def text(name: str, value: object, *, optional: bool = False) -> Wrong:
    """Text that is not empty."""
    if value is None and optional:
        return
    if not isinstance(value, str) or not value:
        yield f"{name} is {_shown(value)}; write a text that is not empty"


def texts(name: str, value: object) -> Wrong:
    """Several texts or paths."""
    if value is None:
        return
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        yield f"{name} is {_shown(value)}; write a list of texts"
        return
    for index, item in enumerate(value):
        if not isinstance(item, str | PathLike):
            yield f"{name}[{index}] is {_shown(item)}; write a text"


def items(name: str, values: Iterable[object], kind: Any, example: str) -> Wrong:
    """Several values of a kind."""
    for index, value in enumerate(values):
        yield from instance(f"{name} {index + 1}", value, kind, example)


def mapping(name: str, value: object) -> Wrong:
    """Settings by their names."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        yield f"{name} is {_shown(value)}; write a mapping of names to values"


def choice(name: str, value: object, choices: Sequence[str]) -> Wrong:
    """One of several words."""
    if value is not None and value not in choices:
        yield f"{name} is {_shown(value)}; write one of {', '.join(map(repr, choices))}"


def instance(name: str, value: object, kind: Any, example: str) -> Wrong:
    """A value of a kind; `example` shows its syntax."""
    if not isinstance(value, kind):
        yield f"{name} is {_shown(value)}; write {example}"


def _shown(value: object) -> str:
    if value is None or isinstance(value, str):
        return repr(value)[:_SHOWN]
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{type(value).__name__} {value!r}"[:_SHOWN]
