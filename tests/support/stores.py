"""Recovery stores as Bytewax writes them: a tiny dataflow with a track sink, run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from drakkar_flow.kernel.store_identity import StoredTopic, StoreIdentity

PROGRAM = '''
import sys
import time
from datetime import timedelta
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax import operators as op
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.kernel.partition_row import PartitionRow, decode_rows, encode_rows
from drakkar_flow.kernel.slots import slot_of, slots_of_process

directory, flow, hold, *rounds = sys.argv[1:]


class Source(DynamicSource, StatelessSourcePartition):
    """Each round is an epoch; with `hold` it says so and goes on for ever with the last one."""

    def build(self, step_id, worker_index, worker_count):
        self.rounds = list(rounds)
        return self

    def next_batch(self):
        if not self.rounds and not hold:
            raise StopIteration
        if not self.rounds:
            print("holding", flush=True)
            time.sleep(0.2)  # an epoch, as short as a real one can be
        last = self.rounds.pop(0) if self.rounds else rounds[-1]
        return [(slot_of((topic, int(number))), (topic, int(number), int(offset)))
                for topic, number, offset in (each.split(":") for each in last.split(","))]

    def next_awake(self):
        return None

    def close(self): ...


class Part(StatefulSinkPartition):
    def __init__(self, state):
        self.rows = decode_rows(state) if state else {}

    def write_batch(self, values):
        for topic, number, offset in values:
            state = {("count", "anna"): b"%d" % offset, ("count", "ben"): b"\\xff"}
            self.rows[topic, number] = PartitionRow(offset, OffsetRanges([(offset + 5, offset + 7)]), state)

    def snapshot(self):
        return encode_rows(self.rows)


class Track(FixedPartitionedSink):
    def list_parts(self):
        return slots_of_process(0, 1)

    def build_part(self, step_id, for_part, resume_state):
        return Part(resume_state)

    def part_fn(self, key):
        return int(key.removeprefix("slot-"))


dataflow = Dataflow(flow)
op.output("track", op.input("in", dataflow, Source()), Track())
cli_main(dataflow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(Path(directory)))
'''


def identity(**given: object) -> StoreIdentity:
    """The identity of the tests' flow, with other values where given."""
    values = {
        "flow": "job",
        "group": "workers",
        "cluster_id": "cluster-1",
        "topics": {"in": StoredTopic("topic-1")},
        "schema": {"count": "int"},
    }
    return StoreIdentity(**{**values, **given})  # type: ignore[arg-type]


def run_dataflow(directory: Path, rounds: Iterable[str], flow: str = "job") -> None:
    """Run a dataflow on an existing store: each round `topic:partition:offset,...` is written in an epoch."""
    subprocess.run([sys.executable, "-c", PROGRAM, directory, flow, "", *rounds], check=True, timeout=60)


def start_dataflow(directory: Path, rounds: Iterable[str], flow: str = "job") -> subprocess.Popen[str]:
    """Start one that goes on with the last round until it is killed, and wait until it runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, directory, flow, "hold", *rounds], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process
