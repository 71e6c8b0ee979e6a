"""Settings of `sinks.sqlite.<name>`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drakkar_flow.config.sections.delivery import SinkConfig

__all__ = ["SqliteSinkConfig"]


class SqliteSinkConfig(SinkConfig):
    """An SQLite database; missing tables are created from the first row."""

    synonyms = dict.fromkeys(("file", "database", "dsn", "base_path"), "path")
    path: str = Field(min_length=1)
    """The database file."""
    create_tables: bool = True
    """Creates a missing table from its first row."""
    synchronous: Literal["NORMAL", "FULL"] = "FULL"
    """SQLite's synchronous level: FULL survives a power cut, NORMAL a crash of the process."""
