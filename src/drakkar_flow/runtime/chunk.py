"""Chunk: what one Bytewax item is.

Bytewax moves items one by one through its operators; a chunk makes that cost once per batch of
records instead of once per record and step. Errors and endings travel beside the items, so that a
step looks only at what concerns it and no error ever crosses an operator as an exception.
"""

from __future__ import annotations

from typing import Any

from drakkar_flow.model.outcome import Ack, Failure

__all__ = ["Chunk", "Keyed"]


class Chunk:
    """Items on their way to the next step, failures on their way to a policy, acks to the tracker."""

    __slots__ = ("acks", "failures", "items")

    def __init__(
        self,
        items: list[Any] | None = None,
        failures: list[Failure] | None = None,
        acks: list[Ack] | None = None,
    ) -> None:
        self.items: list[Any] = items if items is not None else []
        self.failures: list[Failure] = failures if failures is not None else []
        self.acks: list[Ack] = acks if acks is not None else []

    def __bool__(self) -> bool:
        return bool(self.items or self.failures or self.acks)

    def __repr__(self) -> str:
        return f"Chunk(items={len(self.items)}, failures={len(self.failures)}, acks={len(self.acks)})"


Keyed = tuple[str, Chunk]
"""A chunk with the lane key Bytewax routes it by."""
