"""The async step: one Bytewax operator for all work that waits.

The engine's thread hands each batch of chunks to a `Worker` on the event loop and goes on; it
returns what is finished, and asks Bytewax to be notified while anything is still open: after 1 ms
while things complete, backing off to 20 ms while nothing does.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax import operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from drakkar_flow.model.outcome import Ack, Failure
from drakkar_flow.runtime.bridge import Bridge
from drakkar_flow.runtime.calls import Calls
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.steps.proof import Proof
from drakkar_flow.runtime.steps.trial import Trial

__all__ = ["Worker", "async_step"]

_EAGER = timedelta(milliseconds=1)
_LAZY = timedelta(milliseconds=20)


class Worker(ABC):
    """The loop's half of an async step, one per lane. All methods but `take` run on the loop.

    A subclass writes `accept`, keeps `open` at the number of items it has not answered for, and
    answers through `emit`, `fail` and `ack`. It answers first and lowers `open` then: the engine's
    thread may look in between, and believes that nothing is left when it sees `open` at 0.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._calls = Calls(bridge)
        self._outbox: deque[Chunk] = deque()
        self._next: Chunk | None = None
        self._sent = 0  # written by the engine's thread only
        self._received = 0  # written by the loop's thread only
        self.open = 0
        self.step = ""  # the id of its step
        self.proof = Proof()  # of the process, where it is part of a flow
        self.trial = Trial(stop_after=0)  # likewise

    @property
    def calls(self) -> list[tuple[asyncio.Task[Any] | None, object]]:
        """What has not ended, oldest first: the asyncio task where there is one, and what it is about."""
        return [*self._calls.open]

    @property
    def moving(self) -> bool:
        """Whether something that is open goes on by itself, and waits for nobody else."""
        return bool(self._calls.open)

    @abstractmethod
    def accept(self, items: list[Any]) -> None:
        """Take `items` in; must return at once."""

    # --- answers, collected until the end of the loop's turn ------------------------------------

    def emit(self, item: Any) -> None:
        """Send `item` to the next step."""
        chunk = self._next
        if chunk is None:
            chunk = self._pending()
        chunk.items.append(item)

    def fail(self, failure: Failure) -> None:
        """Send `failure` to its policy."""
        self._pending().failures.append(failure)

    def ack(self, ack: Ack) -> None:
        """Return credit."""
        self._pending().acks.append(ack)

    def _pending(self) -> Chunk:
        if self._next is None:
            self._next = Chunk()
            self._bridge.post(self._flush)
        return self._next

    def _flush(self) -> None:
        if self._next:
            self._outbox.append(self._next)
        self._next = None

    # --- the engine's side ----------------------------------------------------------------------

    def submit(self, chunks: list[list[Any]]) -> None:
        """Hand over items from the engine's thread."""
        self._sent += 1
        self._bridge.post(self._take_in, chunks)

    def _take_in(self, chunks: list[list[Any]]) -> None:
        for items in chunks:
            self.accept(items)
        self._received += 1

    def take(self) -> list[Chunk]:
        """Give the engine's thread what is finished."""
        done = []
        while self._outbox:
            done.append(self._outbox.popleft())
        return done

    @property
    def has_answers(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._outbox)

    @property
    def idle(self) -> bool:
        """Whether nothing is open. Read before `take`, a true answer means that `take` returns the last of it."""
        return self._sent == self._received and self.open == 0 and self._next is None


class _AsyncLogic(StatefulBatchLogic[Chunk, Chunk, None]):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wake: datetime | None = None
        self._pause = _EAGER

    def on_batch(self, values: list[Chunk]) -> tuple[list[Chunk], bool]:
        work = [chunk.items for chunk in values if chunk.items]
        if work:
            self._worker.submit(work)
        passing = [Chunk(None, chunk.failures, chunk.acks) for chunk in values if chunk.failures or chunk.acks]
        return self._answer(passing), False

    def on_notify(self) -> tuple[list[Chunk], bool]:
        return self._answer([]), False

    def on_eof(self) -> tuple[list[Chunk], bool]:
        # The source ends only after the drain: what is still open now has missed its budget, keeps
        # its credit and so its offset, and is read again by the partition's next owner.
        return self._worker.take(), True

    def notify_at(self) -> datetime | None:
        return self._wake

    def snapshot(self) -> None:
        # In group mode Kafka's committed offsets are the truth: what is open is read again.
        return None

    def _answer(self, passing: list[Chunk]) -> list[Chunk]:
        idle = self._worker.idle
        done = self._worker.take()
        if idle:
            self._wake = None
            self._pause = _EAGER
        else:
            self._pause = _EAGER if done else min(self._pause * 2, _LAZY)
            self._wake = datetime.now(UTC) + self._pause
        return passing + done if passing else done


def async_step(step_id: str, up: KeyedStream[Chunk], make: Callable[[], Worker]) -> KeyedStream[Chunk]:
    """Lower asynchronous work: `make` builds the worker of a lane; failures and acks pass it by."""
    return op.stateful_batch(step_id, up, lambda _resume: _AsyncLogic(make()))
