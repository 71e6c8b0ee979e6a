"""Sink of CSV files: a row per payload, on the disk when it is acknowledged."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

from drakkar_flow.plugins import (
    BatchFailed,
    Delivery,
    Payload,
    Problem,
    Record,
    SinkConfig,
    SinkNotConnected,
    SinkRejected,
    SinkSpec,
    StartupError,
)

__all__ = ["SPEC", "CsvConfig", "CsvRow", "CsvSink"]


class CsvConfig(SinkConfig):
    """Settings: a CSV file."""

    synonyms = {"file": "path", "fields": "columns"}
    path: str
    """Path of the file; rows are appended."""
    columns: list[str]
    """Names of the columns, in order; a field without a column is refused."""


class CsvRow(Payload, kw_only=True):
    """One row; `data` has a value for each column, a missing one is empty."""

    data: Mapping[str, Any]


class CsvSink:
    """Appends rows to one file."""

    def __init__(self, name: str, settings: CsvConfig) -> None:
        self._where = f"sinks.csv.{name}"
        self._settings = settings
        self._file: int | None = None
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def connect(self) -> None:
        """Open the file.

        Raises:
            StartupError: the file can't be opened (exit code 2).
        """
        if self._file is not None:
            return
        path = Path(self._settings.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            what = f"{path} can't be opened: {error.strerror}"
            raise StartupError([Problem(f"{self._where}.path", what, "set another path")], exit_code=2) from error

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Append the rows that can be written, all at once.

        Raises:
            BatchFailed: some payloads are not rows of the file.
            SinkNotConnected: before `connect` and after `close`.
        """
        if self._file is None:
            raise SinkNotConnected(f"{self._where} is not connected; connect() comes first")
        lines: list[str] = []
        failures: dict[int, Exception] = {}
        settings = {"columns": self._settings.columns}
        for index, delivery in enumerate(batch):
            try:
                lines.append(line_of(delivery.payload, settings))
            except SinkRejected as error:
                failures[index] = error
        if lines:
            data = "".join(lines).encode()
            await anyio.to_thread.run_sync(_append, self._file, data, limiter=self._one_at_a_time)
        if failures:
            raise BatchFailed(failures)

    async def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _append(file: int, data: bytes) -> None:
    """Write all bytes or none, and force them to the disk."""
    size = os.fstat(file).st_size
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.fdatasync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def line_of(payload: CsvRow, settings: Mapping[str, Any]) -> str:
    """Return the line of a row.

    Raises:
        SinkRejected: the row has other fields, or values that are neither text nor numbers.
    """
    columns = settings.get("columns") or []
    if not isinstance(payload.data, Mapping):
        raise SinkRejected("the data of a row must be a mapping")
    if unknown := sorted(map(repr, payload.data.keys() - set(columns))):
        raise SinkRejected(f"the file has no column {unknown[0]}")
    values = [payload.data.get(column) for column in columns]
    for column, value in zip(columns, values, strict=True):
        if not isinstance(value, str | int | float | None):
            raise SinkRejected(f"column {column!r} takes text and numbers, not {type(value).__name__}")
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    text = line.getvalue()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SinkRejected("the row has characters without an encoding") from None
    return text


def _row(value: Any, _record: Record[Any], name: str, _settings: CsvConfig) -> CsvRow:
    return CsvRow(data=value, sink=name)


SPEC = SinkSpec(
    "csv",
    CsvConfig,
    CsvSink,
    payload_type=CsvRow,
    wrap=_row,
    check_payload=line_of,
)
"""Spec of the sink kind `csv`."""
