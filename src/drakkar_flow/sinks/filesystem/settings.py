"""Settings of `sinks.filesystem.<name>`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drakkar_flow.config.sections.delivery import SinkConfig

__all__ = ["FilesystemSinkConfig"]


class FilesystemSinkConfig(SinkConfig):
    """A directory of JSON-lines files."""

    synonyms = dict.fromkeys(("path", "dir", "directory", "folder"), "base_path")
    base_path: str = Field(min_length=1)
    """The directory all paths stay inside."""
    fsync: Literal["never", "batch"] = "batch"
    """Sync of written lines to disk: `batch` before they are acknowledged, `never` leaves it to the system."""
