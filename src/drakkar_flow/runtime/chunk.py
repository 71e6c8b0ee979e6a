"""Chunk: one Bytewax item, a batch of records.

Bytewax moves items one by one through its operators; a chunk makes that cost once per batch of
records instead of once per record and step. Failures and acks travel beside the items: a step reads only
its items, and no error crosses an operator as an exception.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from drakkar_flow.model.outcome import Ack, Failure

__all__ = ["Chunk", "Keyed"]

T = TypeVar("T")


class Chunk(Generic[T]):
    """Items for the next step, failures for a policy, and acks for the tracker."""

    __slots__ = ("acks", "failures", "items")

    def __init__(
        self,
        items: list[T] | None = None,
        failures: list[Failure] | None = None,
        acks: list[Ack] | None = None,
    ) -> None:
        self.items: list[T] = items if items is not None else []
        self.failures: list[Failure] = failures if failures is not None else []
        self.acks: list[Ack] = acks if acks is not None else []

    def __bool__(self) -> bool:
        return bool(self.items or self.failures or self.acks)

    def __repr__(self) -> str:
        return f"Chunk(items={len(self.items)}, failures={len(self.failures)}, acks={len(self.acks)})"


Keyed = tuple[str, Chunk[Any]]
"""Chunk with the shard key by which Bytewax routes it."""
