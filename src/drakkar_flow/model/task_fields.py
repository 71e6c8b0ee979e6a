"""Types that a task is made of, as type checkers see them: its optional fields, and its records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from os import PathLike
from typing import Any, Protocol, TypeAlias, TypedDict

from drakkar_flow.model.precomputed import PrecomputedResult

__all__ = ["Argument", "Arguments", "TaskFields", "TaskSource"]

Argument: TypeAlias = "str | bytes | PathLike[str] | PathLike[bytes]"
"""Values of command lines and environments."""


class Arguments(Protocol):
    """Arguments of a program, in any collection except text, whose `in` accepts text only."""

    def __contains__(self, value: object, /) -> bool: ...
    def __iter__(self) -> Iterator[Argument]: ...
    def __len__(self) -> int: ...


class TaskFields(TypedDict, total=False):
    """The fields that `ExecutorTask`, `Record.task` and `ExecutorTask.for_records` share."""

    args: Arguments
    metadata: dict[str, Any]
    labels: dict[str, str]
    binary_path: Argument | None
    stdin: str | bytes | bytearray | memoryview | None
    env: Mapping[str, Argument]
    precomputed: PrecomputedResult | None
    parent_task_id: str | None
    executor: str
    ok_exit_codes: Collection[int] | None


class TaskSource(Protocol):
    """A record, as far as a task needs it."""

    offset: int

    def next_task_id(self) -> str: ...
