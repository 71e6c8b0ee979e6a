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
    """Calls a sink at most as often at once as it allows, and never waits without limit.

    A write that takes longer than `timeout_s` (None: the sink keeps its time itself) is cancelled and fails. A write
    that has still not returned `grace_s` later is left behind. Its place stays taken until it ends, so that the sink's
    order and its bound hold. A batch that finds no place in `timeout_s` fails as well.
    """

    def __init__(self, sink: Sink, max_in_flight: int, timeout_s: float | None, grace_s: float = _GRACE_S) -> None:
        self._sink = sink
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._open: dict[asyncio.Task[Any], list[Delivery]] = {}

    @property
    def open(self) -> list[tuple[asyncio.Task[Any], list[Delivery]]]:
        """Return the writes that have not ended, oldest first, each with its batch; those left behind are included."""
        return list(self._open.items())

    async def write(self, batch: list[Delivery]) -> None:
        """Write a batch.

        Raises:
            SinkError: the write took too long; the batch may have been written anyway.
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
                    f"the write was not done within {self._timeout_s} s and ignores its cancellation"
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
            write.exception()  # of a write that was left behind: no caller waits for it any more
