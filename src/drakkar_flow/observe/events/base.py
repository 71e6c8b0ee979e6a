"""Base class of all events."""

from __future__ import annotations

import msgspec

__all__ = ["Event"]


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base class of all events."""
