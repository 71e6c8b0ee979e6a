"""Chain: consecutive async steps as one Bytewax step, which hand items on directly on the event loop.

The engine's thread hands chunks in and continues. A record passes through all steps of the chain on the loop and leaves
it once: as an acknowledgement if the chain ends in the route, as an item if another kind of step follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from bytewax import operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from drakkar_flow.model.outcome import Ack, Failure
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.chunk import Chunk
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.wakeup import Bell

__all__ = ["Chain", "chain_logic", "chain_step"]

_ALWAYS_DUE = datetime(1970, 1, 1, tzinfo=UTC)
_PAUSE_S = 0.001  # short: items of another process ring no bell


class Chain:
    """Event loop half of a Bytewax step, one per shard.

    `steps` are in stream order. The results of a step go to later steps, so one pass over the steps hands everything
    on. Failures go to `failures`, the inbox of the step that applies the policies, or leave the chain beside its items.
    """

    def __init__(
        self, context: StepContext, steps: Sequence[AsyncStep[Any, Any]], failures: list[Failure] | None = None
    ) -> None:
        self.steps = steps
        self.takes_failures = failures is not None
        self._loop_thread = context.loop_thread
        self._engine = context.in_flight.engine
        self._results: Chunk[Any] = Chunk()
        self._failures = self._results.failures if failures is None else failures
        self._outbox: deque[Chunk[Any]] = deque()
        self._awake = False  # a pass is due or under way
        for step in steps:
            step.join(self._results.items, self._failures, self._results.acks, self._wake)

    # --- called by the engine ------------------------------------------------------------------

    def submit(self, chunks: list[Chunk[Any]]) -> None:
        """Hand over items and, if the chain applies the policies, failures; returns at once."""
        self._loop_thread.post(self._take_in, chunks)

    def take(self) -> list[Chunk[Any]]:
        """Return the results since the last call."""
        left = []
        while self._outbox:
            left.append(self._outbox.popleft())
        return left

    @property
    def has_results(self) -> bool:
        """True if `take` would return results."""
        return bool(self._outbox)

    # --- called on the loop --------------------------------------------------------------------

    def notice(self, acks: list[Ack]) -> None:
        """Return acknowledgements that no step makes."""
        self._results.acks.extend(acks)
        self._wake()

    def _take_in(self, chunks: list[Chunk[Any]]) -> None:
        first = self.steps[0].inbox
        for chunk in chunks:
            first.extend(chunk.items)
            self._failures.extend(chunk.failures)
        self._pass()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._loop_thread.defer(self._pass)

    def _pass(self) -> None:
        """Hand on the results of each step since the last pass."""
        self._awake = True
        try:
            for step in self.steps:
                if inbox := step.inbox:
                    items = inbox.copy()
                    inbox.clear()
                    step.accept(items)
        finally:  # a step that raises is a bug, which ends the flow: what others have answered may yet finish
            self._awake = False
            if any(step.inbox for step in self.steps):
                self._wake()
            self._flush()

    def _flush(self) -> None:
        results = self._results
        if results:
            self._outbox.append(Chunk(results.items.copy(), results.failures.copy(), results.acks.copy()))
            results.items.clear()
            results.failures.clear()
            results.acks.clear()
            self._engine.wake()
        elif self._engine.for_room:
            self._engine.wake()


class _ChainLogic(StatefulBatchLogic[Chunk[Any], Chunk[Any], None]):
    def __init__(self, make: Callable[[], Chain], in_flight: InFlight) -> None:
        self._make = make
        self._made: Chain | None = None
        self._in_flight = in_flight
        self._bell: Bell | None = None

    def on_batch(self, values: list[Chunk[Any]]) -> tuple[list[Chunk[Any]], bool]:
        chain = self._made
        if chain is None:
            chain = self._made = self._make()
        passing: list[Chunk[Any]] = []
        work: list[Chunk[Any]] = []
        for chunk in values:
            stays = [] if chain.takes_failures else chunk.failures
            if chunk.acks or stays:
                passing.append(Chunk(None, stays, chunk.acks))
            if chunk.items or (chain.takes_failures and chunk.failures):
                work.append(Chunk(chunk.items, chunk.failures if chain.takes_failures else None))
        if work:
            chain.submit(work)
        return passing + chain.take(), False

    def on_notify(self) -> tuple[list[Chunk[Any]], bool]:
        # Without a chain the key is from the recovery store, and has got no item yet. It may be of a cluster of
        # another size, which would never get one.
        if self._made is None:
            return [], True
        results = self._made.take()
        if not results and self._in_flight.source_ended:  # it does not sleep any more, and others send records
            self._sleep()
        return results, False

    def _sleep(self) -> None:
        self._bell = self._bell or self._in_flight.engine.bell()
        self._bell.wait(_PAUSE_S)

    def on_eof(self) -> tuple[list[Chunk[Any]], bool]:
        # The source ends only after the drain: records still open now have exceeded its budget, keep
        # their credit and so their offsets, and are read again by the partition's next owner.
        return [] if self._made is None else self._made.take(), True

    def notify_at(self) -> datetime | None:
        # Requested in every turn while a record is unfinished: the source sleeps between two turns, see `source`.
        return _ALWAYS_DUE if self._made is None or self._in_flight.working else None

    def snapshot(self) -> None:
        # Unfinished records are read again.
        return None


def chain_logic(make: Callable[[], Chain], in_flight: InFlight) -> StatefulBatchLogic[Chunk[Any], Chunk[Any], None]:
    """Engine half of a chain, as Bytewax calls it; `make` builds the chain for its first items."""
    return _ChainLogic(make, in_flight)


def chain_step(
    step_id: str, up: KeyedStream[Chunk[Any]], make: Callable[[], Chain], in_flight: InFlight
) -> KeyedStream[Chunk[Any]]:
    """Lower a chain: `make` builds the one of a shard."""
    return op.stateful_batch(step_id, up, lambda _resume: chain_logic(make, in_flight))
