"""Checks of a task's fields, with one line per error."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

__all__ = ["TaskChecks"]

_SHOWN = 80  # characters of a value in a message
_MOST = 255  # the largest exit code


class TaskChecks:
    """Converts the values of a task's fields; every method raises TypeError for a wrong one.

    >>> TaskChecks("t-1").arguments(["-c", b"x", os.path])
    Traceback (most recent call last):
    ...
    TypeError: task t-1: args[2] is module <module 'posixpath' (frozen)>: write text, bytes or a path
    """

    def __init__(self, task_id: object) -> None:
        if not isinstance(task_id, str):
            raise TypeError(f"task_id must be text, not {type(task_id).__name__}: {_shown(task_id)}")
        self._task_id = task_id

    def refuse(self, where: str, value: object, remedy: str) -> NoReturn:
        """Raise for an invalid value of a field."""
        found = "None" if value is None else f"{type(value).__name__} {_shown(value)}"
        raise TypeError(f"task {self._task_id}: {where} is {found}: {remedy}")

    def arguments(self, values: object) -> list[str]:
        """The arguments as text."""
        return [self.argument(f"args[{index}]", value) for index, value in enumerate(self.items("args", values))]

    def argument(self, where: str, value: Any) -> str:
        """Text, bytes or a path as the text that `os.fsencode` turns into the bytes the program gets."""
        if isinstance(value, str):
            text = str.__str__(value)
        elif isinstance(value, (bytes, os.PathLike)):
            try:
                text = os.fsdecode(value)
            except TypeError:
                self.refuse(where, value, "its __fspath__ must return text or bytes")
        elif isinstance(value, (int, float)):
            self.refuse(where, value, f"write str({_shown(value)})")
        elif value is None:
            self.refuse(where, value, "leave it out")
        else:
            self.refuse(where, value, "write text, bytes or a path")
        if "\0" in text:
            self.refuse(where, value, "remove the NUL byte: arguments can't contain it")
        return text

    def word(self, where: str, value: object, remedy: str) -> str:
        """A text."""
        if not isinstance(value, str):
            self.refuse(where, value, remedy)
        return value

    def numbers(self, where: str, values: object) -> list[int]:
        """Whole numbers as a list."""
        return [self._number(f"{where}[{index}]", value) for index, value in enumerate(self.items(where, values))]

    def exit_codes(self, values: object) -> list[int]:
        """Exit codes that count as success."""
        codes = self.numbers("ok_exit_codes", values)
        if not codes:
            self.refuse("ok_exit_codes", values, "name at least one, or leave it out")
        for index, code in enumerate(codes):
            if not 0 <= code <= _MOST:
                self.refuse(f"ok_exit_codes[{index}]", code, f"an exit code is between 0 and {_MOST}")
        return codes

    def stdin(self, value: Any) -> str | bytes | None:
        """Text, bytes, or None for an empty input."""
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        if not isinstance(value, (str, bytes, type(None))):
            raise TypeError(f"task {self._task_id}: stdin must be text or bytes, not {type(value).__name__}")
        return value

    def environment(self, values: object) -> dict[str, str]:
        """Variables of an environment."""
        variables = {}
        for key, value in self._mapping("env", values).items():
            name = self.argument("a name in env", key)
            if not name or "=" in name:
                self.refuse("a name in env", key, "write the name of an environment variable")
            variables[name] = self.argument(f"env[{key!r}]", value)
        return variables

    def texts(self, where: str, values: object) -> dict[str, str]:
        """A mapping of text to text."""
        mapping = self.keyed(where, values)
        for key, value in mapping.items():
            if not isinstance(value, str):
                self.refuse(f"{where}[{key!r}]", value, "write text")
        return mapping

    def keyed(self, where: str, values: object) -> dict[str, Any]:
        """A mapping of text to any value."""
        mapping = self._mapping(where, values)
        for key in mapping:
            if not isinstance(key, str):
                self.refuse(f"a key of {where}", key, "write text")
        return mapping

    def _mapping(self, where: str, values: object) -> dict[Any, Any]:
        if isinstance(values, dict):
            return values
        if isinstance(values, Mapping):
            return dict(values)
        raise TypeError(f"task {self._task_id}: {where} must be a dict, not {type(values).__name__}: {_shown(values)}")

    def items(self, where: str, values: object) -> list[Any]:
        """The items of any collection except text, a collection of its characters."""
        if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise TypeError(
                f"task {self._task_id}: {where} must be a list, not {type(values).__name__}: {_shown(values)}"
            )
        return list(values)

    def _number(self, where: str, value: Any) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):  # numpy's integers have it as well
            self.refuse(where, value, "write a whole number")
        return operator.index(value)


def _shown(value: object) -> str:
    """A value in a message: its shortened repr; the name of its type if repr fails."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
