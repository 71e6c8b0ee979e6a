"""Async step: one member of a chain. It accepts items and answers for them later, all on the event loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from drakkar_flow.model.outcome import Ack, AckStatus, AckToken, Delivery, Failure
from drakkar_flow.observe.events.sinks import DeliveriesSuppressed
from drakkar_flow.runtime.failures import about, by_partition
from drakkar_flow.runtime.hook_calls import HookCalls
from drakkar_flow.runtime.steps.context import StepContext

__all__ = ["AsyncStep", "tokens_of"]

In = TypeVar("In")
Out = TypeVar("Out")
D = TypeVar("D", Delivery, Failure)


def tokens_of(items: Iterable[Delivery | Failure]) -> list[AckToken]:
    """The acknowledgement tokens of several items."""
    return [token for item in items for token in item.tokens]


class AsyncStep(ABC, Generic[In, Out]):
    """A step whose work may wait: one instance per shard. All methods are called on the loop's thread.

    A subclass writes `accept`, keeps `open` at the number of unanswered items, and answers through `emit`, `fail` and
    `ack`.
    """

    def __init__(self, context: StepContext, step_id: str) -> None:
        self.step_id = step_id
        self.inbox: list[In] = []
        """Items that the chain hands over in its next pass; appended to in place, never replaced."""
        self.open = 0
        self._context = context
        self._bus = context.bus
        self._in_flight = context.in_flight
        self._proof = context.proof
        self._state = context.state
        self._calls = HookCalls(context.loop_thread)
        self._out: list[Out] | None = None
        self._failures: list[Failure] = []
        self._acks: list[Ack] = []
        self._wake: Callable[[], object] = bool

    def to(self, following: AsyncStep[Out, Any]) -> None:
        """Send the items that this step emits to another step of the same chain."""
        self._out = following.inbox

    def join(self, results: list[Any], failures: list[Failure], acks: list[Ack], wake: Callable[[], object]) -> None:
        """Join a chain: answers are appended to these lists, then `wake` is called.

        `results` takes the items of a step that has no following one.
        """
        if self._out is None:
            self._out = results
        self._failures = failures
        self._acks = acks
        self._wake = wake

    @property
    def calls(self) -> list[tuple[asyncio.Task[Any] | None, object]]:
        """Return the calls that have not ended, oldest first: the asyncio task, where there is one, and its subject."""
        return [*self._calls.open]

    @property
    def moving(self) -> bool:
        """True if an open item makes progress by itself, without another item."""
        return bool(self._calls.open)

    @abstractmethod
    def accept(self, items: list[In]) -> None:
        """Accept `items`; must return at once. The step keeps the list."""

    # --- answers, handed on at the end of the loop's turn ----------------------------------------

    def emit(self, item: Out) -> None:
        """Send `item` to the next step."""
        self._out.append(item)  # type: ignore[union-attr] # set by `join`
        self._wake()

    def emit_all(self, items: Iterable[Out]) -> None:
        """Send several items to the next step."""
        self._out.extend(items)  # type: ignore[union-attr] # set by `join`
        self._wake()

    def fail(self, failure: Failure) -> None:
        """Send `failure` to its policy."""
        self._failures.append(failure)
        self._wake()

    def ack(self, tokens: Iterable[AckToken], status: AckStatus = AckStatus.DONE) -> None:
        """Return credit to the tracker. No other code returns any."""
        self._acks.extend([Ack(record, credit, status) for record, credit in tokens])
        self._wake()

    # --- fences ---------------------------------------------------------------------------------

    def drop_fenced(self, items: list[D]) -> list[D]:
        """Return the items that may go on; those of revoked partitions only return their credit for the next owner."""
        if not self._in_flight.has_fences:
            return items
        kept: list[D] = []
        dropped: list[D] = []
        for item in items:
            (dropped if self.is_fenced(item) else kept).append(item)
        if dropped:
            self.ack(tokens_of(dropped), AckStatus.FENCED)
            self._bus.emit(DeliveriesSuppressed(len(dropped), by_partition(dropped), about(dropped)))
        return kept

    def is_fenced(self, item: Delivery | Failure) -> bool:
        """Return True if every record of an item is of a revoked partition."""
        return all(self._context.is_fenced(record) for record, _ in item.tokens)
