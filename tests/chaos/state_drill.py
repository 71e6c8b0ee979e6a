"""A drill with the state topic: members of a group are killed, stopped and suspended, and the truth is compared."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Mapping

from confluent_kafka import KafkaException

from chaos.drill import Drill, Rows
from chaos.truths import pipeline_of
from drakkar_flow.runtime.state_topic.reading import read_state
from support.scene import Scene
from support.until import until
from support.worker import Worker

__all__ = ["StateDrill"]


class StateDrill(Drill):
    """A group of any number of members that counts; its state topic has the rows.

    Args:
        scene: its topics are those of the flow.
        records: how many are written now; `write` and `feeding` write more.
        members: settings of the kafka section of each member; `{}` in a text is the member's number.
    """

    def __init__(self, scene: Scene, records: int = 0, members: Mapping[str, str] | None = None) -> None:
        super().__init__(scene, records)
        self._settings = members or {}
        self._members = 0

    def join(self) -> Worker:
        """Start one more member."""
        self._members += 1
        kafka = {key: value.format(self._members) for key, value in self._settings.items()}
        runtime = {"commit_interval_s": 0.1, "max_in_flight_records": 400}
        worker = self._scene.start(pipeline_of(self.truth), {"runtime": runtime, "kafka": kafka})
        self.note(f"started {worker.pid}")
        return worker

    def kill_one(self, members: list[Worker], chance: random.Random, before: int) -> None:
        """Kill one at any moment: while the group meets or restores, or when its commits are more than `before`."""
        if chance.random() < 0.4:
            time.sleep(chance.uniform(0.2, 4.0))
        else:
            until(lambda: sum(self._scene.committed().values()) > before, 120, "the group to go on")
            time.sleep(chance.uniform(0.0, 0.6))
        self._kill([members.pop(chance.randrange(len(members)))])
        self.check()

    def leave(self, worker: Worker) -> None:
        """Stop a member as an operator does."""
        worker.until_running()
        assert worker.terminate() == 0, worker.stderr
        self.note(f"stopped {worker.pid}")
        self.check()

    def suspend(self, worker: Worker, seconds: float) -> None:
        """Stop a process for longer than its session: it wakes as a member that has lost its partitions."""
        self.is_final = False  # it delivers what it had in flight
        worker.send(signal.SIGSTOP)
        self.note(f"suspended {worker.pid}")
        time.sleep(seconds)
        worker.send(signal.SIGCONT)
        self.note(f"continued {worker.pid}")

    def stop(self, workers: list[Worker], told: Worker | None = None) -> None:
        """Stop the members, one after the other."""
        for worker in workers:
            self.leave(worker)

    def rows(self) -> Rows:
        """The rows in the state topic."""
        topic = f"{self._scene.group}.{self.truth.name}.state"
        try:
            return dict(read_state({"bootstrap.servers": self._scene.bootstrap}, "drill", topic))
        except KafkaException:
            return {}  # no worker has started yet

    def rows_after(self, committed: Mapping[int, int]) -> Rows:
        """Wait for a transaction whose offsets are committed, and whose messages are not all readable yet."""
        rows: Rows = {}

        def include() -> bool:
            rows.update(self.rows())
            return all(
                (row := rows.get((self._scene.source, partition))) is not None and offset <= row.offset
                for partition, offset in committed.items()
            )

        until(include, 30.0, f"positions to reach the commits {committed}")
        return rows
