"""Payload of the sqlite sink."""

from __future__ import annotations

from typing import Any

from drakkar_flow.model.base import Payload

__all__ = ["SqlitePayload"]


class SqlitePayload(Payload, kw_only=True, gc=False):
    """One row for `table` of an SQLite sink; the fields of `data` are its columns."""

    table: str
    data: Any
