"""The arrange step's housekeeping: timers and queues it no longer needs are gone."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow.model.record import Record
from drakkar_flow.runtime.steps.arrange import ArrangeStep
from support.steps import Alone, context_of

pytestmark = pytest.mark.anyio
LANE = ("in", 0)


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


def worker(seen: list[list[int]], size: int, linger_s: float) -> ArrangeStep:
    """A step that notes its windows."""

    def arrange(records: list[Record], _pending: Any) -> list[Any]:
        seen.append([record.offset for record in records])
        return []

    context = context_of()
    step = ArrangeStep(context, "s", arrange, size, linger_s, keep_messages=False)
    Alone(step, context)
    return step


def records(*offsets: int) -> list[Record]:
    """Records of one partition."""
    return [Record(*LANE, offset) for offset in offsets]


async def test_a_window_that_filled_up_takes_its_timer_along() -> None:
    """The next window waits its own linger from its own first record."""
    seen: list[list[int]] = []
    arranging = worker(seen, 2, 600.0)
    arranging.accept(records(0))
    first = arranging._queues[LANE].timer
    assert first is not None
    arranging.accept(records(1, 2))
    second = arranging._queues[LANE].timer
    assert second is not None
    assert (first.cancelled(), second.cancelled(), first is second) == (True, False, False)
    assert first.when() <= second.when()
    assert seen == [[0, 1]]
    second.cancel()


async def test_a_second_record_does_not_prolong_the_linger() -> None:
    """The window waits from its first record."""
    arranging = worker([], 3, 600.0)
    arranging.accept(records(0))
    timer = arranging._queues[LANE].timer
    arranging.accept(records(1))
    assert arranging._queues[LANE].timer is timer
    assert timer is not None
    assert not timer.cancelled()
    timer.cancel()


@pytest.mark.parametrize("linger_s", [0.0, 600.0])
async def test_nothing_is_kept_of_a_partition_that_has_no_records(linger_s: float) -> None:
    """Queues come and go with their records."""
    seen: list[list[int]] = []
    arranging = worker(seen, 3, linger_s)
    arranging.accept(records(0, 1))
    if linger_s:
        timer = arranging._queues[LANE].timer
        assert timer is not None
        arranging._queues[LANE].due_at = 0.0  # its time is over
        timer._run()  # as the loop does when it is due
        timer.cancel()
    assert seen == [[0, 1]]
    assert arranging._queues == {}
