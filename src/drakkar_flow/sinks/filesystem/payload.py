"""Payload of the filesystem sink."""

from __future__ import annotations

from typing import Any, Literal

from drakkar_flow.model.base import Payload

__all__ = ["FilePayload"]


class FilePayload(Payload, kw_only=True, gc=False):
    """One line appended to a file, or a whole file; `path` is relative to the sink's base directory.

    `data` is a pydantic model, a msgspec struct, a dataclass or a JSON-able value (written as JSON), text
    or bytes (as they are).

    | format | does |
    | --- | --- |
    | line (default) | appends `data` and a line break; `data` itself holds none |
    | file | makes `data` the whole content of the file; readers see the old or the new content |

    >>> FilePayload(path="thumbnails/7.png", data=bytes.fromhex("89504e47"), format="file").path
    'thumbnails/7.png'
    """

    path: str
    data: Any
    format: Literal["line", "file"] = "line"
