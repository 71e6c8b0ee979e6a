"""A drill with state across partitions: a cluster is killed and stopped, and the truth is compared after each end."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from drakkar_flow.kernel.partition_row import StateKey
from drakkar_flow.model.state import StateCodec, key_of
from drakkar_flow.runtime.recovery.files import Progress
from drakkar_flow.runtime.recovery.reading import StoredRow, StoreRows, read_rows
from support.cluster import start_cluster
from support.kafka_io import produce, read_all
from support.scene import Scene
from support.worker import Worker

__all__ = ["AcrossDrill"]

KEYS = 37
FLOW = "counting-across"
PIPELINE = str(Path(__file__).parent / "pipelines" / "counting_across")
_COUNTS = StateCodec(int)


class AcrossDrill:
    """One flow, its topic, and its store.

    `finished` has, by partition and offset, the records that a row on disk called finished, with the copies of their
    outputs then: what is finished in a row is delivered, counted in the state, and never repeated.

    The flow counts by a key that all partitions have.
    """

    def __init__(self, scene: Scene, records: int) -> None:
        self.records = records
        self.timeline: list[str] = []
        self._scene = scene
        self._store = scene.directory / "store"
        produce(scene.bootstrap, scene.source, map(str, range(records)), [str(n % KEYS) for n in range(records)])
        self._key: dict[tuple[int, int], bytes] = {}
        self._number: dict[tuple[int, int], bytes] = {}
        for message in read_all(scene.bootstrap, scene.source, records):
            at = (message.partition() or 0, message.offset() or 0)
            value = message.value()
            assert isinstance(value, bytes)
            self._key[at], self._number[at] = b"%d" % (int(value) % KEYS), value
        self._finished: dict[tuple[int, int], int] = {}
        self.repeated = 0

    def start_cluster(self, count: int) -> list[Worker]:
        """Start the flow in several processes, in one without a cluster."""
        runtime = {"max_in_flight_records": 400}
        workers = start_cluster(self._scene, PIPELINE, count, runtime, start_timeout_s=60)
        self._note(f"started {', '.join(str(worker.pid) for worker in workers)}")
        return workers

    def kill_one_at_random(self, workers: list[Worker], chance: random.Random) -> None:
        """Kill one of a cluster at any moment: the others end, also while they start."""
        time.sleep(chance.uniform(0.2, 5.0))
        killed = chance.choice(workers)
        killed.kill()
        self._note(f"killed {killed.pid}")
        for worker in workers:
            if worker is not killed:
                assert worker.wait(120) == 1, worker.stderr
        self.check()

    def kill_all_at_random(self, workers: list[Worker], chance: random.Random) -> None:
        """Kill all of a cluster at once."""
        time.sleep(chance.uniform(0.5, 5.0))
        for worker in workers:
            worker.kill()
        self._note(f"killed {', '.join(str(worker.pid) for worker in workers)}")
        self.check()

    def stop_all(self, workers: list[Worker], told: Worker) -> None:
        """Stop a cluster by telling one of its processes."""
        told.send(signal.SIGTERM)
        for worker in workers:
            assert worker.wait(120) == 0, worker.stderr
        self._note(f"stopped {told.pid}, and with it all")
        self.check()

    def until_finished(self, worker: Worker) -> None:
        """Wait until the group has committed everything."""
        worker.until_running()
        self._scene.until_finished(120.0)

    def check(self) -> None:
        """Compare the rows on disk with the outputs, the state and the commits."""
        rows = self._rows()
        copies = Counter(message.value() for message in self._scene.delivered())
        positions = {at[1]: stored.row.offset for at, stored in rows.items()}
        for partition, offset in self._scene.committed().items():
            assert offset <= positions.get(partition, 0), f"the commit of {partition} is ahead of its row"
        for before, count in self._finished.items():
            assert copies[self._number[before]] == count, f"{before} was finished in a row, and delivered again"
        total: Counter[bytes] = Counter()
        for (_, partition), stored in rows.items():
            finished = {
                offset: at
                for at in self._key
                if at[0] == partition and ((offset := at[1]) < stored.row.offset or offset in stored.row.finished)
            }
            lost = [at for at in finished.values() if not copies[self._number[at]]]
            assert not lost, f"finished in a row, but not delivered: {lost[:5]}"
            counted = Counter(self._key[at] for at in finished.values())
            assert _counts(stored.row.state) == Counter(), f"state of {partition}"
            total += counted
            self._finished |= {at: copies[self._number[at]] for at in finished.values()}
        assert self.totals() == total, "the rows of state and those of positions are not of one instant"
        self.repeated = copies.total() - len(copies)
        self._note(f"{len(self._finished)} finished, {copies.total()} delivered, {self.repeated} repeated")

    def finished(self, test: str, faults: str) -> tuple[object, ...]:
        """Check the end, and return the row for the table: nothing is lost, and each record counts once."""
        repeated = self._scene.check_delivered(self.records)
        assert self.totals() == self.expected()
        return (test, faults, f"{self.records:,}", 0, f"{repeated:,}", "exact")

    def totals(self) -> Counter[bytes]:
        """Counts by key, of all partitions together."""
        return sum(map(_counts, self._read().states), Counter[bytes]())

    def expected(self) -> Counter[bytes]:
        """What they have to be."""
        return Counter(self._key.values())

    def _rows(self) -> dict[tuple[str, int], StoredRow]:
        return self._read().rows

    def _read(self) -> StoreRows:
        if (self._store / "identity.json").exists():
            return read_rows(self._store, FLOW)
        return StoreRows(Progress(0, 1), 0, {})

    def _note(self, what: str) -> None:
        self.timeline.append(f"{time.strftime('%H:%M:%S')} {what}")
        print(self.timeline[-1])


def _counts(state: Mapping[StateKey, bytes]) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for (_, key), value in state.items():
        name = key_of(key)
        found[name if isinstance(name, bytes) else str(name).encode()] = _COUNTS.decode(value)
    return found
