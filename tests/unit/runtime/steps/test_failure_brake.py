"""The failure brake: what comes after the stop."""

from __future__ import annotations

import asyncio
import time

import pytest

from drakkar_flow.kernel.brake import Brake
from drakkar_flow.model.outcome import Blame, Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.steps.brake import FailureBrake
from drakkar_flow.runtime.stop_signal import StopSignal
from support.loop import SameThreadLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


def failure(record: Record) -> Failure:
    """A failure that no record is to blame for."""
    tokens = ((record, record.credit),)
    return Failure(kind=FailureKind.ROUTING, stage="route", error="no sink", tokens=tokens, blame=Blame.FLOW)


async def test_nobody_waits_for_what_fails_after_the_stop() -> None:
    """A revoke during the drain: such failures keep their credit like those before the stop."""
    records = [Record("in", 0, offset) for offset in range(2)]
    in_flight, control = InFlight(2, 1000), StopSignal(10.0)
    in_flight.add((records[0].topic_partition, 0), records)
    brake = FailureBrake(SameThreadLoop(), in_flight, control, Brake(1, 0.0, 1000), hold_s=0.02)
    settled: list[Failure] = []
    assert brake.admit([failure(records[0])], settled.extend) == []
    deadline = time.monotonic() + 20
    while control.failure is None:
        assert time.monotonic() < deadline, "the brake did not stop the flow"
        await asyncio.sleep(0.005)
    assert brake.admit([failure(records[1])], settled.extend) == []
    assert (control.held, in_flight.room, settled) == (2, 2, [])
