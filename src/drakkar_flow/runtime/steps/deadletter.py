"""Dead letter step: settles every failure that does not stop the flow, by a dead letter or a skip."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from drakkar_flow.errors import BatchFailed
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.outcome import AckStatus, Failure
from drakkar_flow.observe.events.sinks import DeadLetterFailed, DeadLettersWritten
from drakkar_flow.runtime.failures import about, by_partition, describe
from drakkar_flow.runtime.steps.brake import FailureBrake
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.step import AsyncStep, tokens_of
from drakkar_flow.sinks.dead_letter_messages import dead_letter_count

__all__ = ["DeadLetterStep", "DeadLetterWriter"]

_BATCH = 500


class DeadLetterWriter(Protocol):
    """Writer of dead letters."""

    async def connect(self) -> None:
        """Open the connection that `write` needs.

        Raises: StartupError: the topic or the brokers are not usable, with a fix.
        """
        ...

    async def close(self) -> None:
        """Flush and close; safe to call twice."""
        ...

    async def write(self, failures: Sequence[Failure]) -> None:
        """Write all of `failures`; returns when the broker has acknowledged them.

        Raises:
            BatchFailed: some failures, by index, were not written; the others are durable.
            Exception: nothing is known to be durable.
        """
        ...


class DeadLetterStep(AsyncStep[Failure, Any]):
    """Acknowledges a failure's records once its dead letter is written, or at once if they are skipped.

    Failures that the `brake` suspects to be a mistake wait there. They are not settled at all when they are one.

    Dead letters that can't be written are tried again without limit, with back-off: their offsets stay and the intake
    fills up, visibly. A dead letter that is always refused delays its own offset only. With `drop` dead letters are
    given up after one try.
    """

    def __init__(
        self,
        context: StepContext,
        writer: DeadLetterWriter,
        backoff: Backoff,
        brake: FailureBrake | None = None,
        *,
        drop: bool,
    ) -> None:
        super().__init__(context, "dlq")
        self._brake = brake
        self._writer = writer
        self._backoff = backoff
        self._drop = drop
        self._waiting: deque[Failure] = deque()
        self._busy = False

    def accept(self, items: list[Failure]) -> None:
        """Settle failures, except those that the brake holds back."""
        self.open += len(items)
        for failure in items:
            if failure.tokens:
                self._in_flight.charge(failure.tokens[0][0], len(failure.stacktrace) + len(failure.error))
        self._skip_or_queue(items if self._brake is None else self._brake.admit(items, self._skip_or_queue))

    def _skip_or_queue(self, items: list[Failure]) -> None:
        """Return the credit of skipped records; queue dead letters, which are written one batch at a time."""
        skipped = self._unfenced([failure for failure in items if failure.skipped])
        if skipped:
            self._return(skipped, AckStatus.SKIPPED)
        self._waiting.extend(failure for failure in items if not failure.skipped)
        self._pump()

    def _pump(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            self._calls.run(self._write_waiting(), self._written, self._waiting)

    def _written(self) -> None:
        self._busy = False
        self._pump()

    async def _write_waiting(self) -> None:
        """Write queued dead letters; failed ones are tried again together with new ones."""
        attempt = 0
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            failed = await self._write(self._unfenced(batch))
            if failed:
                attempt += 1
                self._waiting.extendleft(reversed(failed))
                await asyncio.sleep(self._backoff.delay_s(attempt, random.random))
            else:
                attempt = 0

    async def _write(self, batch: list[Failure]) -> list[Failure]:
        """Write once; returns the dead letters to try again."""
        failed: list[Failure] = []
        try:
            if batch:
                await self._writer.write(batch)
        except BatchFailed as exc:
            failed = [failure for index, failure in enumerate(batch) if index in exc.failures]
            self._report(failed, exc)
        except Exception as exc:
            failed = batch
            self._report(failed, exc)
        again = set(map(id, failed))
        written = [failure for failure in batch if id(failure) not in again]
        if written:
            self._bus.emit(DeadLettersWritten(sum(map(dead_letter_count, written)), about(written)))
            self._return(written, AckStatus.DEAD)
        if self._drop:
            self._return(failed, AckStatus.DEAD)
            return []
        return failed

    def _report(self, failed: list[Failure], error: Exception) -> None:
        self._bus.emit(DeadLetterFailed(len(failed), describe(error), self._drop, by_partition(failed), about(failed)))

    def _unfenced(self, batch: list[Failure]) -> list[Failure]:
        kept = self.drop_fenced(batch)
        self.open -= len(batch) - len(kept)
        return kept

    def _return(self, batch: list[Failure], status: AckStatus) -> None:
        self.ack(tokens_of(batch), status)
        self.open -= len(batch)
