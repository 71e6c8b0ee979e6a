"""Filesystem sink: JSON-lines files below one directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from drakkar_flow.errors import BatchFailed, SinkNotConnected, SinkRejected
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.model.codec import encode
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.clients import never, unusable
from drakkar_flow.sinks.filesystem.appender import Appender
from drakkar_flow.sinks.filesystem.payload import FilePayload
from drakkar_flow.sinks.filesystem.settings import FilesystemSinkConfig
from drakkar_flow.sinks.threads import in_thread

__all__ = ["SPEC", "FileSink", "entry_of", "line_of"]


class FileSink:
    """Appends one line per payload to files below `base_path`.

    - Models, structs, mappings and lists become one JSON line.
    - Text and bytes are written as they are and may hold no line break, unless their format is `file`: then they
      replace the whole file.
    - The lines of a batch that go to the same file are written at once, in order, all of them or none. With `fsync:
      batch` they are on the disk when `write_batch` returns.
    - Paths that leave the directory (absolute, `..`, symbolic links) are rejected.

    Args:
        name: the instance's name under `sinks.filesystem`.
        settings: the directory and the sync mode.
    """

    def __init__(self, name: str, settings: FilesystemSinkConfig) -> None:
        self._name = name
        self._settings = settings
        self._appender: Appender | None = None
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def connect(self) -> None:
        """Create the directory if it is missing and check that files can be created in it.

        Raises:
            StartupError: the directory can't be written at present (exit code 1); the path is no directory or
                not writable for this user (2).
        """
        if self._appender is None:
            self._appender = await anyio.to_thread.run_sync(self._prepare, limiter=self._one_at_a_time)

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Append the batch, grouped by file, in a worker thread.

        Raises:
            BatchFailed: some payloads failed; a bad path or a payload without a line is a SinkRejected.
            SinkNotConnected: before `connect`, or after `close`.
        """
        if self._appender is None:
            raise SinkNotConnected(f"sinks.filesystem.{self._name} is not connected; connect() comes first")
        failures = await in_thread(_write, self._appender, batch, limiter=self._one_at_a_time)
        if failures:
            raise BatchFailed(dict(sorted(failures.items())))

    async def close(self) -> None:
        """Close all files; safe to call twice and before `connect`."""
        appender, self._appender = self._appender, None
        if appender is not None:
            await anyio.to_thread.run_sync(appender.close, limiter=self._one_at_a_time)

    def _prepare(self) -> Appender:
        base = Path(self._settings.base_path)
        try:
            base.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=base):
                pass
        except OSError as error:
            where = f"sinks.filesystem.{self._name}.base_path"
            why = "the path is a file" if base.is_file() else error.strerror
            what = f"files can't be created in {base}: {why}"
            raise unusable(where, what, "give a directory that this user may write", for_good=never(error)) from error
        return Appender(base, fsync=self._settings.fsync == "batch")


def _write(appender: Appender, batch: Sequence[Delivery]) -> dict[int, Exception]:
    failures: dict[int, Exception] = {}
    files: dict[str, list[_Entry]] = {}
    for index, delivery in enumerate(batch):
        try:
            entry = entry_of(index, delivery.payload)
            path = delivery.payload.path
            files.setdefault(os.fspath(path) if isinstance(path, os.PathLike) else path, []).append(entry)
        except SinkRejected as error:
            failures[index] = error
        except Exception as error:  # encoding runs the user's serializers, which may raise anything
            failures[index] = SinkRejected(f"the payload can't be encoded: {type(error).__name__}: {error}")
    for path, entries in files.items():
        for whole, run in groupby(entries, key=lambda entry: entry.whole):
            parts = list(run)
            try:
                if whole:
                    appender.replace(path, parts[-1].data)
                else:
                    appender.append(path, [entry.data for entry in parts])
            except Exception as error:  # any error here is about this file
                failures |= {entry.position: error for entry in parts}
    return failures


class _Entry(NamedTuple):
    position: int
    whole: bool
    data: bytes


def entry_of(position: int, payload: FilePayload) -> _Entry:
    """Return the addition of a payload to its file.

    Raises:
        SinkRejected: the format is unknown, or a line holds a line break.
        TypeError, ValueError: the data has no JSON form.
    """
    if payload.format == "file":
        return _Entry(position, whole=True, data=encode(payload.data))
    if payload.format != "line":
        raise SinkRejected(f"unknown format {payload.format!r}; choose line or file")
    return _Entry(position, whole=False, data=line_of(payload.data))


def line_of(data: Any) -> bytes:
    """Return the line that is written for a value.

    Raises:
        SinkRejected: a text that would become several lines.
    """
    line = encode(data)
    if b"\n" in line or b"\r" in line:
        raise SinkRejected('the text holds a line break; send it inside a mapping, or as a file with format="file"')
    return line


def _wrap(value: Any, _record: Record, name: str, _settings: FilesystemSinkConfig) -> FilePayload:
    return FilePayload(path=f"{name}.jsonl", data=value, sink=name)


SPEC = SinkSpec(
    kind="filesystem",
    payload_type=FilePayload,
    settings_type=FilesystemSinkConfig,
    make=FileSink,
    wrap=_wrap,
    check_payload=lambda payload, _: entry_of(0, payload),
    not_checked="paths below base_path that only payloads name (FilePayload.path)",
)
"""Spec of the filesystem sink."""
