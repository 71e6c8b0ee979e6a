"""Optional fields of a task, as type checkers see them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

if TYPE_CHECKING:
    from drakkar_flow.model.task import PrecomputedResult

__all__ = ["Argument", "Arguments", "TaskFields"]

Argument: TypeAlias = "str | bytes | PathLike[str] | PathLike[bytes]"
"""What a command line and an environment are made of."""

Arguments: TypeAlias = "list[str] | list[bytes] | list[Path] | list[str | Path] | list[Argument] | tuple[Argument, ...]"
"""Arguments of a program; a bare text is none, though it would be a sequence of texts."""


class TaskFields(TypedDict, total=False):
    """The fields that `ExecutorTask`, `Record.task` and `ExecutorTask.for_records` share."""

    args: Arguments
    metadata: dict[str, Any]
    labels: dict[str, str]
    binary_path: Argument | None
    stdin: str | bytes | bytearray | memoryview | None
    env: Mapping[str, str] | Mapping[str, Argument]
    precomputed: PrecomputedResult | None
    parent_task_id: str | None
    executor: str
    ok_exit_codes: Collection[int] | None
