"""The routing of keys, compared with what Bytewax does: another Bytewax must fail here first."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.routing import home_key, worker_of
from support.cluster import addresses

_KEYS = [*map(str, range(40)), "", "ü", "slot-07", "a key that is longer than eight bytes"]
_PROGRAM = """
import json, sys
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

process, addresses, keys = int(sys.argv[1]), sys.argv[2].split(";"), json.loads(sys.argv[3])
got = set()

class Part(StatelessSourcePartition):
    given = False
    def next_batch(self):
        if self.given:
            raise StopIteration
        self.given = True
        return [(key, process) for key in keys]

class Keys(DynamicSource):
    def build(self, step_id, worker_index, worker_count):
        assert (worker_index, worker_count) == (process, len(addresses))
        return Part()

class Pass(StatefulBatchLogic):
    def on_batch(self, values): return values, False
    def on_eof(self): return [], True
    def snapshot(self): return None

class Got(StatelessSinkPartition):
    def write_batch(self, items): got.update(key for key, _ in items)

class Gather(DynamicSink):
    def build(self, *place): return Got()

flow = Dataflow("routing")
op.output("out", op.stateful_batch("route", op.input("in", flow, Keys()), lambda _: Pass()), Gather())
cli_main(flow, process_id=process, addresses=addresses)
print(json.dumps(sorted(got)))
"""


@pytest.mark.parametrize("processes", [2, 3])
def test_keys_go_where_bytewax_sends_them(processes: int) -> None:
    """In a real cluster, from each process to each."""
    places = ";".join(addresses(processes))
    command = [sys.executable, "-c", _PROGRAM]
    running = [
        subprocess.Popen([*command, str(process), places, json.dumps(_KEYS)], stdout=subprocess.PIPE)
        for process in range(processes)
    ]
    for process, each in enumerate(running):
        out, _ = each.communicate(timeout=60)
        assert json.loads(out.splitlines()[-1]) == sorted(key for key in _KEYS if worker_of(key, processes) == process)


@given(st.integers(1, 64), st.data())
def test_a_home_key_is_routed_home(workers: int, data: st.DataObject) -> None:
    """For every process of every cluster."""
    worker = data.draw(st.integers(0, workers - 1))
    assert worker_of(home_key(worker, workers), workers) == worker


def test_there_is_no_home_for_a_worker_that_does_not_exist() -> None:
    """The index ends before the count."""
    with pytest.raises(ValueError, match="worker 2 of 2: the index must be from 0 to 1"):
        home_key(2, 2)
