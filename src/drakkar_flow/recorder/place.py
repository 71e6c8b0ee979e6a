"""Place of recordings: the directory, and the names of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from drakkar_flow.storage.directory import Purpose

__all__ = ["LIVE", "RECORDER", "SEALED", "file_time", "side_of", "workers_in"]

LIVE: Final = ".live.sqlite"
SEALED: Final = ".sqlite"
_SIDE: Final = ".side"


RECORDER: Final = Purpose("record to", "debug.db_dir", "recordings", "recorder")
"""Directory of recordings."""


def workers_in(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and directory of each worker that has recordings."""
    with suppress(OSError):
        for path in sorted(directory.iterdir()):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                yield unquote(path.name), path


def file_time(us: int) -> str:
    """Return the time of a file's name.

    >>> file_time(1_700_000_000_123_456)
    '20231114T221320.123456Z'
    """
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def side_of(path: Path) -> Path:
    """Return the side file of a sealed recording."""
    return path.with_name(path.name.removesuffix(SEALED) + _SIDE)
