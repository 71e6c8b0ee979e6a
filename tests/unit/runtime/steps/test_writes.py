"""Writes that take too long: they are cancelled, and those who don't heed that are left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drakkar_flow.errors import SinkError
from drakkar_flow.runtime.steps.writes import Writes

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Stubborn:
    """A sink whose first write returns when the test says so; it swallows cancellations where it is told to."""

    def __init__(self, *, swallows: bool) -> None:
        self.may_end = asyncio.Event()
        self.swallows = swallows
        self.cancelled = asyncio.Event()
        self.called = asyncio.Event()
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def write_batch(self, _batch: Any) -> None:
        """Return at once, but for the first time."""
        self.calls += 1
        self.called.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            while self.calls == 1 and not self.may_end.is_set():
                await self._wait()
        finally:
            self.at_once -= 1

    async def _wait(self) -> None:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            if not self.swallows:
                raise


async def test_a_write_that_does_not_return_is_cancelled_and_fails() -> None:
    """The next one works."""
    sink = Stubborn(swallows=False)
    writes = Writes(sink, 1, timeout_s=0.01)
    with pytest.raises(SinkError, match=r"was not done within 0\.01 s"):
        await writes.write([])
    assert sink.cancelled.is_set()
    await writes.write([])
    assert sink.calls == 2


async def test_a_write_that_heeds_no_cancellation_is_left_behind_and_keeps_its_place() -> None:
    """Who finds no place fails in time and does not call the sink; when the write ends, there is place again."""
    sink = Stubborn(swallows=True)
    writes = Writes(sink, 1, timeout_s=0.01, grace_s=0.01)
    with pytest.raises(SinkError, match="ignores its cancellation"):
        await writes.write([])
    with pytest.raises(SinkError, match="an earlier write"):
        await writes.write([])
    assert sink.calls == 1
    sink.may_end.set()
    await writes.write([])
    assert (sink.calls, sink.most_at_once) == (2, 1)


async def test_a_write_left_behind_does_not_hold_up_those_that_have_place() -> None:
    """With two places one goes on."""
    sink = Stubborn(swallows=True)
    writes = Writes(sink, 2, timeout_s=0.01, grace_s=0.01)
    with pytest.raises(SinkError):
        await writes.write([])
    await writes.write([])
    await writes.write([])
    assert (sink.calls, sink.most_at_once) == (3, 2)
    sink.may_end.set()


async def test_a_write_that_ends_well_while_it_is_cancelled_was_written() -> None:
    """What the sink says holds: its payloads are not written twice."""
    sink = Stubborn(swallows=True)
    writes = Writes(sink, 1, timeout_s=0.01)
    writing = asyncio.ensure_future(writes.write([]))
    await sink.cancelled.wait()
    sink.may_end.set()
    await writing
    assert sink.calls == 1


async def test_without_a_limit_a_write_may_take_as_long_as_it_likes() -> None:
    """For sinks that keep their time themselves."""
    sink = Stubborn(swallows=False)
    writing = asyncio.ensure_future(Writes(sink, 1, timeout_s=None).write([]))
    await sink.called.wait()
    sink.may_end.set()
    await writing


async def test_a_sink_that_cancels_itself_fails() -> None:
    """A CancelledError out of nowhere is a failure like any other."""

    class Odd(Stubborn):
        async def write_batch(self, _batch: Any) -> None:
            raise asyncio.CancelledError

    with pytest.raises(SinkError, match="cancelled"):
        await Writes(Odd(swallows=False), 1, timeout_s=None).write([])
