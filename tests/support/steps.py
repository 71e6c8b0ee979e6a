"""One async step in a chain on the test's own loop: items in, what it answers out."""

from __future__ import annotations

from drakkar_flow.testing.conformance.one_step import Alone, context_of

__all__ = ["Alone", "context_of"]
