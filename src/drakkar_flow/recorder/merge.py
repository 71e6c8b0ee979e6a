"""Merge: collects the recordings of many directories in one. Files are copied whole, so a merge may be repeated."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from drakkar_flow.recorder.files import RecordedFile, connect, find_files
from drakkar_flow.recorder.place import SEALED, file_time, side_of
from drakkar_flow.recorder.side import read_side, write_side
from drakkar_flow.storage.directory import safe_name

__all__ = ["Merged", "merge"]


class Merged(NamedTuple):
    """Recordings that were copied, those that were there already, and the files that are none, with the reason."""

    copied: list[Path]
    kept: list[Path]
    faulty: dict[Path, str]


def merge(sources: Iterable[Path], target: Path) -> Merged:
    """Copy the recordings below `sources` into `target`; a snapshot is made of a file that is being written.

    A file keeps its identity: a copy in the target stays as it is, and a snapshot is replaced by the whole
    file once that is sealed.

    Raises:
        OSError: the target can't be written.
    """
    files, faulty = find_files(sources, {})
    copied: list[Path] = []
    kept: list[Path] = []
    for file in files:
        side = file.side
        directory = target / safe_name(side.worker)
        path = directory / f"{file_time(side.began_us)}-{side.file}{SEALED}"
        there = read_side(side_of(path)) if path.exists() else None
        if there is not None and (there.ended != "open" or (file.is_live and not _is_newer(file, there.ended_us))):
            kept.append(path)
            continue
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _copy(file, path)
        except (sqlite3.Error, FileNotFoundError) as exc:
            faulty[file.path] = str(exc)
        else:
            copied.append(path)
    return Merged(copied, kept, faulty)


def _is_newer(file: RecordedFile, ended_us: int) -> bool:
    """Return True if a live file was written to after a time."""
    paths = (file.path, file.path.with_name(f"{file.path.name}-wal"))
    return any(path.exists() and path.stat().st_mtime_ns // 1000 > ended_us for path in paths)


def _copy(file: RecordedFile, path: Path) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    try:
        if file.is_live:
            snapshot_us = time.time_ns() // 1000
            with closing(connect(file.path)) as source:
                source.execute("VACUUM INTO ?", (str(temporary),))
            with closing(sqlite3.connect(temporary, isolation_level=None)) as copy:
                copy.execute("INSERT OR REPLACE INTO meta VALUES ('ended_us', ?)", (snapshot_us,))
        else:
            shutil.copyfile(file.path, temporary)
        temporary.chmod(0o600)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    write_side(path, side_of(path))
