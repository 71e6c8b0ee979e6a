"""How many acknowledgements the tracker takes per second; prints JSON."""

from __future__ import annotations

import random
import timeit

from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.acknowledgement.credit import split
from drakkar_flow.runtime.acknowledgement.tracker import Tracker

RECORDS = 100_000
BATCH = 1_000


def acknowledgements(shares: int) -> list[Ack]:
    """The acknowledgements of one partition in order, each record's credit in `shares` parts."""
    records = [Record("input", 0, offset, value=b"x" * 100, previous=offset - 1) for offset in range(RECORDS)]
    return [Ack(record, credit) for record in records for credit in split(record.credit, shares)]


def acks_per_second(acks: list[Ack]) -> float:
    """The best of five runs over all acknowledgements in batches."""
    batches = [acks[start : start + BATCH] for start in range(0, len(acks), BATCH)]

    def run() -> None:
        tracker = Tracker()
        for batch in batches:
            tracker.settle(batch)
        assert tracker.position(("input", 0)) == RECORDS

    return len(acks) / min(timeit.repeat(run, number=1, repeat=5))


def measure() -> dict[str, object]:
    """Measure in order and shuffled, with whole and with divided credit."""
    result: dict[str, object] = {}
    for shares in (1, 4):
        acks = acknowledgements(shares)
        result[f"in_order_{shares}_shares_acks_per_s"] = round(acks_per_second(acks))
        random.Random(1).shuffle(acks)
        result[f"shuffled_{shares}_shares_acks_per_s"] = round(acks_per_second(acks))
    return result
