"""Names that no other test or run uses."""

from __future__ import annotations

import uuid

__all__ = ["unique"]


def unique(prefix: str) -> str:
    """A name for a topic, a group or a table that nobody else has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"
