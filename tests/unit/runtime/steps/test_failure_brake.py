"""The failure brake: what comes after the stop."""

from __future__ import annotations

import asyncio
import time

import pytest

from drakkar_flow.kernel.brake import Brake
from drakkar_flow.model.outcome import Blame, Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.control import Control
from drakkar_flow.runtime.flight import Flight
from drakkar_flow.runtime.steps.brake import FailureBrake
from support.loop import LoopBridge

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


def failure(record: Record) -> Failure:
    """A failure that no record is to blame for."""
    holds = ((record, record.credit),)
    return Failure(kind=FailureKind.ROUTING, stage="route", error="no sink", holds=holds, blame=Blame.FLOW)


async def test_nobody_waits_for_what_fails_after_the_stop() -> None:
    """A revoke during the drain: such failures keep their credit like those before the stop."""
    records = [Record("in", 0, offset) for offset in range(2)]
    flight, control = Flight(2, 1000), Control(10.0)
    flight.add((records[0].lane, 0), records)
    brake = FailureBrake(LoopBridge(), flight, control, Brake(1, 0.0, 1000), hold_s=0.02)
    settled: list[Failure] = []
    assert brake.admit([failure(records[0])], settled.extend) == []
    deadline = time.monotonic() + 20
    while control.failure is None:
        assert time.monotonic() < deadline, "the brake did not stop the flow"
        await asyncio.sleep(0.005)
    assert brake.admit([failure(records[1])], settled.extend) == []
    assert (control.held, flight.room, settled) == (2, 2, [])
