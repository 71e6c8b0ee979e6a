"""Forms of an export, and the tables that it may have."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["EXPORTED_TABLES", "ExportFormat"]

EXPORTED_TABLES = ("ticks", "spans", "faults", "events", "tasks", "traces")
"""Tables of an export, in their order."""


class ExportFormat(StrEnum):
    """The form of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    PERFETTO = "perfetto"
    OTLP = "otlp"
