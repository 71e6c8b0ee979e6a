"""Writes: calls of one sink's `write_batch`, each with a deadline."""

from __future__ import annotations

import asyncio
from typing import Any

from drakkar_flow.errors import SinkError, SinkNotConnected
from drakkar_flow.kinds.sink import Sink
from drakkar_flow.model.outcome import Delivery
from drakkar_flow.runtime.hook_calls import eager_task

__all__ = ["Writes"]

_GRACE_S = 5.0


class Writes:
    """Calls a sink, never more often at once than it allows, and never waits for it for ever.

    A write that takes longer than `timeout_s` (None: it keeps its time itself) is cancelled and fails. One
    that has still not returned `grace_s` later is left behind: its place stays taken until it ends, so that
    the sink's order and its bound hold, and who finds no place in `timeout_s` fails as well.
    """

    def __init__(self, sink: Sink, max_in_flight: int, timeout_s: float | None, grace_s: float = _GRACE_S) -> None:
        self._sink = sink
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._open: dict[asyncio.Task[Any], list[Delivery]] = {}

    @property
    def open(self) -> list[tuple[asyncio.Task[Any], list[Delivery]]]:
        """The writes that have not ended, oldest first, those that were left behind too, each with its batch."""
        return list(self._open.items())

    async def write(self, batch: list[Delivery]) -> None:
        """Write a batch.

        Raises:
            SinkError: it took too long; it may have been written all the same.
            Exception: what the sink raised.
        """
        await self._place()
        write = eager_task(self._call(batch), asyncio.get_running_loop())
        if not write.done():
            self._open[write] = batch
            write.add_done_callback(self._ended)
            await asyncio.wait({write}, timeout=self._timeout_s)
        late = not write.done()
        if late:
            write.cancel()
            await asyncio.wait({write}, timeout=self._grace_s)
            if not write.done():
                raise SinkNotConnected(
                    f"the write was not done within {self._timeout_s} s and does not heed its cancellation"
                )
        if write.cancelled():
            if late:
                raise SinkNotConnected(f"the write was not done within {self._timeout_s} s")
            raise SinkError("the write was cancelled")
        write.result()

    async def _call(self, batch: list[Delivery]) -> None:
        try:
            await self._sink.write_batch(batch)
        except (SystemExit, KeyboardInterrupt) as exc:  # of a payload's own serializer; asyncio would end the loop
            raise RuntimeError(f"{type(exc).__name__} was raised while a payload was encoded") from exc

    async def _place(self) -> None:
        while len(self._open) >= self._max_in_flight:
            done, _ = await asyncio.wait(self._open, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise SinkNotConnected("an earlier write, though cancelled, has not returned")

    def _ended(self, write: asyncio.Task[Any]) -> None:
        self._open.pop(write, None)
        if not write.cancelled():
            write.exception()  # of one that was left behind, which nobody asks for any more
