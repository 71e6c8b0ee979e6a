"""A drill with the state topic: members of a group are killed and stopped, and the truth is compared after each end."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

from confluent_kafka import KafkaException

from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.model.state import StateCodec, key_of
from drakkar_flow.runtime.state_topic.reading import read_state
from support.kafka_io import produce, read_all
from support.scene import Scene
from support.until import until
from support.worker import Worker

__all__ = ["StateDrill"]

KEYS = 37
PIPELINE = Path(__file__).parent / "pipelines" / "counting"
_COUNTS = StateCodec(int)


class StateDrill:
    """One flow, its topic, and its state topic; any number of workers.

    `finished` has, by partition and offset, the records that a stored position called finished, with the copies of
    their outputs then: what is finished in a row is delivered, counted in the state, and never repeated.
    """

    _is_final = True
    """True if no process is left that could deliver what a row calls finished."""

    def __init__(self, scene: Scene, records: int, **kafka: object) -> None:
        self.records = records
        self.timeline: list[str] = []
        self._scene = scene
        self._kafka = kafka
        self._members = 0
        produce(scene.bootstrap, scene.source, map(str, range(records)), [str(n % KEYS) for n in range(records)])
        self._key: dict[tuple[int, int], bytes] = {}
        self._number: dict[tuple[int, int], bytes] = {}
        self._read_source()
        self._finished: dict[tuple[int, int], int] = {}
        self.repeated = 0

    def _read_source(self) -> None:
        for message in read_all(self._scene.bootstrap, self._scene.source, self.records):
            at = (message.partition() or 0, message.offset() or 0)
            key, value = message.key(), message.value()
            assert isinstance(key, bytes)
            assert isinstance(value, bytes)
            self._key[at], self._number[at] = key, value

    def until_finished(self, worker: Worker) -> None:
        """Wait until the group has committed everything."""
        worker.until_running()
        self._scene.until_finished(120.0)

    def stop(self, worker: Worker) -> None:
        """Stop it as an operator does."""
        worker.until_running()
        assert worker.terminate() == 0, worker.stderr
        self._note(f"stopped {worker.pid}")
        self.check()

    def check(self) -> None:
        """Compare the stored rows with the outputs, the state and the commits."""
        committed = self._scene.committed()  # in this order: other members may go on meanwhile
        rows = self._rows_after(committed)
        copies = Counter(message.value() for message in self._scene.delivered())
        for before, count in self._finished.items() if self._is_final else ():
            assert copies[self._number[before]] == count, f"{before} was finished in a row, and delivered again"
        for (_, partition), stored in rows.items():
            finished = {
                offset: at
                for at in self._key
                if at[0] == partition and ((offset := at[1]) < stored.offset or offset in stored.finished)
            }
            lost = [at for at in finished.values() if not copies[self._number[at]]]
            assert not lost, f"finished in a row, but not delivered: {lost[:5]}"
            counted = Counter(self._key[at] for at in finished.values())
            assert _counts(stored) == counted, f"state of partition {partition}"
            self._finished |= {at: copies[self._number[at]] for at in finished.values()}
        self.repeated = copies.total() - len(copies)
        self._note(f"{len(self._finished)} finished, {copies.total()} delivered, {self.repeated} repeated")

    def finished(self, test: str, faults: str) -> tuple[object, ...]:
        """Check the end, and return the row for the table: nothing is lost, and each record counts once."""
        repeated = self._scene.check_delivered(self.records)
        assert self.totals() == self.expected()
        return (test, faults, f"{self.records:,}", 0, f"{repeated:,}", "exact")

    def totals(self) -> Counter[bytes]:
        """Counts by key, of all partitions together."""
        return sum((_counts(stored) for stored in self._rows().values()), Counter[bytes]())

    def expected(self) -> Counter[bytes]:
        """What they have to be."""
        return Counter(self._key.values())

    def _note(self, what: str) -> None:
        self.timeline.append(f"{time.strftime('%H:%M:%S')} {what}")
        print(self.timeline[-1])

    def start(self) -> Worker:
        """Start one more member of the group."""
        self._members += 1
        kafka = {
            key: value.format(self._members) if isinstance(value, str) else value for key, value in self._kafka.items()
        }
        runtime = {"commit_interval_s": 0.1, "max_in_flight_records": 400}
        worker = self._scene.start(str(PIPELINE), {"runtime": runtime, "kafka": kafka})
        self._note(f"started {worker.pid}")
        return worker

    def wait(self, seconds: float) -> None:
        """Let the members work until a random moment."""
        time.sleep(seconds)

    def suspend(self, worker: Worker, seconds: float) -> None:
        """Stop a process for longer than its session: it wakes as a member that has lost its partitions."""
        self._is_final = False  # it delivers what it had in flight
        worker.send(signal.SIGSTOP)
        self._note(f"suspended {worker.pid}")
        time.sleep(seconds)
        worker.send(signal.SIGCONT)
        self._note(f"continued {worker.pid}")

    def produce(self, count: int) -> None:
        """Write more records."""
        numbers = range(self.records, self.records + count)
        produce(self._scene.bootstrap, self._scene.source, map(str, numbers), [str(n % KEYS) for n in numbers])
        self.records += count
        self._read_source()

    def _rows_after(self, committed: dict[int, int]) -> dict[tuple[str, int], PartitionRow]:
        """Wait for a transaction whose offsets are committed, and whose messages are not all readable yet."""
        rows: dict[tuple[str, int], PartitionRow] = {}

        def include() -> bool:
            rows.update(self._rows())
            return all(
                (row := rows.get((self._scene.source, partition))) is not None and offset <= row.offset
                for partition, offset in committed.items()
            )

        until(include, 30.0, f"positions to reach the commits {committed}")
        return rows

    def _rows(self) -> dict[tuple[str, int], PartitionRow]:
        try:
            return read_state(
                {"bootstrap.servers": self._scene.bootstrap}, "drill", f"{self._scene.group}.counting.state"
            )
        except KafkaException:
            return {}  # no worker has started yet


def _counts(stored: PartitionRow) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for (_, key), value in stored.state.items():
        name = key_of(key)
        assert isinstance(name, bytes)
        found[name] = _COUNTS.decode(value)
    return found
