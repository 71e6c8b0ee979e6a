"""The clock that a test moves: pauses take no time, happen in order and are exact."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from drakkar_flow import ErrorAction, ExecutorTask, Handler, PendingContext, StreamFlow, Window
from drakkar_flow.errors import RetryAfter, SinkError
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError
from drakkar_flow.observe.events.sinks import DeliveryRetried
from drakkar_flow.testing import FlowHarness, MemorySink, failed, run_flow
from drakkar_flow.testing.clock import MOMENT_S

WORKERS = pytest.mark.parametrize("workers", [1, 2], ids=["one-worker", "two-workers"])


def waiting(times: list[float], **settings: Any) -> StreamFlow:
    """A flow whose records each pause as many seconds as they say, and note when they began and ended."""

    async def pause(seconds: float) -> float:
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(seconds)
        times.append(asyncio.get_running_loop().time())
        return seconds

    return StreamFlow("pauses").decode(float).map_async(pause, **settings).route()


def test_time_stands_until_the_test_moves_it() -> None:
    """What pauses is where it was, however long nothing happens; advance brings it to the very moment."""
    times: list[float] = []
    with FlowHarness(waiting(times)) as kit:
        kit.send_all([10, 20])
        while len(times) < 2:  # not by a wait of the kit, in which time passes
            time.sleep(0.001)
        kit.clock.advance(9.5)
        assert (kit.clock.now, times) == (9.5, [0, 0])
        kit.clock.advance(0.5)
        assert times == [0, 0, 10]
        kit.clock.advance(100)
        assert (kit.clock.now, times) == (110, [0, 0, 10, 20])
        kit.wait_acknowledged()
        assert kit.values == [10, 20]


@WORKERS
def test_waiting_jumps_over_every_pause(workers: int) -> None:
    """Hours pass in no time, and only as many as are needed."""
    times: list[float] = []
    with FlowHarness(waiting(times), config={"runtime": {"workers": workers}}, partitions=2) as kit:
        began = time.monotonic()
        kit.send_all([7200, 60])
        kit.wait_acknowledged()
        assert time.monotonic() - began < 10
        assert kit.clock.now == 7200
        assert kit.clock.jumps == [60, 7140]
        kit.send(1)
        kit.wait_acknowledged()
        assert times[-2:] == [7200, 7201]


@WORKERS
def test_a_lingering_window_takes_in_all_that_was_sent_before_the_wait(workers: int) -> None:
    """An hour's linger is over only when everything sent is in the window."""
    windows = []

    def arrange(records: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        windows.append(len(records))
        return []

    flow = StreamFlow("linger").arrange(arrange, window=Window(size=1000, linger_s=3600)).execute().collect().route()
    with FlowHarness(flow, config={"runtime": {"workers": workers}}) as kit:
        for count in (3, 50, 999):
            kit.send_all(range(count))
            kit.wait_acknowledged()
        assert windows == [3, 50, 999]
        assert kit.clock.now == pytest.approx(3 * 3600)
        kit.send_all(range(1000))
        kit.wait_acknowledged()
        assert windows[3:] == [1000]
        assert kit.clock.now == pytest.approx(3 * 3600)


def test_ten_retries_pause_as_the_back_off_says_and_take_no_time() -> None:
    """The pauses of a task's retries are the configured ones, jittered below their ceilings."""

    class Retrying(Handler):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            return [ExecutorTask(task_id="t", source_offsets=[messages[0].offset])]

        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
            return ErrorAction.RETRY

    with FlowHarness(
        Retrying(), config={"executor": {"max_retries": 10, "retry": {"initial_s": 30, "max_s": 60}}}
    ) as kit:
        kit.executor.script = lambda task: failed(task)
        kit.send("x")
        kit.wait_acknowledged()
        assert kit.executor.started == ["t"] * 11
        times = kit.executor.times
        pauses = [later - earlier for earlier, later in pairwise(times)]
        ceilings = [Backoff(initial_s=30, max_s=60).ceiling_s(attempt) for attempt in range(1, 11)]
        assert all(0 <= pause <= ceiling for pause, ceiling in zip(pauses, ceilings, strict=True))
        assert max(pauses) > 10
        assert kit.clock.now == pytest.approx(times[-1])


def test_a_sinks_retries_pause_as_its_configuration_says() -> None:
    """Each pause is the one the event tells; a sink that asks for a minute gets a minute."""
    sink = MemorySink("out", script=[SinkError("down")] * 9 + [RetryAfter(60, "busy")])
    retry = {"attempts": 11, "initial_s": 30, "max_s": 60}
    with FlowHarness(
        StreamFlow("echo").decode(str).route(),
        sinks=[sink],
        config={"sinks": {"kafka": {"out": {"topic": "t", "retry": retry}}}},
    ) as kit:
        kit.send("x")
        kit.wait_acknowledged()
        pauses = [event.delay_s for event in kit.of(DeliveryRetried)]
        assert kit.clock.jumps == pytest.approx(pauses)
        assert len(pauses) == 10
        assert pauses[-1] == 60


def test_a_timeout_comes_at_its_time() -> None:
    """map_async(timeout_s=...) gives up a call after that long, and not before."""
    times: list[float] = []
    outcome = run_flow(waiting(times, timeout_s=30), [29.9, 31])
    assert outcome.values == [29.9]
    assert [letter.error for letter in outcome.dead_letters] == ["map_async-pause took longer than 30 s"]


def test_a_thread_that_a_hook_waits_for_holds_the_clock() -> None:
    """A timeout does not strike while real work is under way."""
    go_on = threading.Event()

    async def in_thread(n: int) -> int:
        await asyncio.to_thread(go_on.wait, 20)
        return n

    with FlowHarness(StreamFlow("t").decode(int).map_async(in_thread, timeout_s=1).route()) as kit:
        kit.send(1)
        with pytest.raises(AssertionError, match="the clock stands: a hook waits for a thread or a socket"):
            kit.wait_acknowledged(timeout_s=0.3)
        assert kit.clock.now == 0
        go_on.set()
        kit.wait_acknowledged()
        assert kit.values == [1]


def test_time_goes_on_after_a_crash() -> None:
    """The next life begins when the last one ended; its pauses are its own."""
    times: list[float] = []
    with FlowHarness(waiting(times)) as kit:
        kit.send(50)
        kit.clock.advance(20)
        kit.crash()
        kit.clock.advance(5)
        kit.restart()
        kit.wait_acknowledged()
        assert times == [0, 25, 75]


def test_a_hook_that_pauses_at_the_end_does_not_hold_up_the_end() -> None:
    """Cleaning up may take an hour of the clock's time."""
    cleaned = []

    async def hang(n: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3600)
            cleaned.append(n)
        return n

    with FlowHarness(StreamFlow("t").decode(int).map_async(hang).route()) as kit:
        kit.send(1)
        kit.wait_for(lambda: "map_async-hang 1" in kit.report())
    assert cleaned == [1]


@pytest.mark.parametrize("pause_s", [MOMENT_S * 0.6, MOMENT_S, MOMENT_S * 1.9, MOMENT_S * 9])
def test_a_timer_that_checks_its_time_comes_to_an_end_however_short_it_is(pause_s: float) -> None:
    """The clock's shortest pauses take no time; a timer that waits on for the rest of one gets it."""

    async def until_due(n: int) -> int:
        loop = asyncio.get_running_loop()
        due, over = loop.time() + pause_s, asyncio.Event()

        def check() -> None:
            if loop.time() < due:
                loop.call_at(due, check)
            else:
                over.set()

        loop.call_at(due, check)
        await over.wait()
        return n

    with FlowHarness(StreamFlow("short").decode(int).map_async(until_due).route()) as kit:
        kit.wait_acknowledged(*kit.send_all([1, 2]), timeout_s=10)


def test_time_does_not_go_back() -> None:
    """A negative step is a mistake."""
    with FlowHarness(StreamFlow("t").decode(int).route()) as kit, pytest.raises(ValueError, match="does not go back"):
        kit.clock.advance(-1)
