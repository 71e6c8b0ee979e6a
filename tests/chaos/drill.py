"""A drill: a flow in fixed mode is killed, stopped and hindered, and the truth is compared after each end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos.truths import COUNTING, Sent, Sents, Truth, numbers_of, pipeline_of
from drakkar_flow.kernel.partition_row import PartitionRow
from drakkar_flow.runtime.recovery.reading import read_rows
from support.cluster import start_cluster, until_all_run
from support.feeder import Feeder
from support.kafka_io import TopicLog, produce
from support.scene import Scene
from support.until import until
from support.worker import Worker

__all__ = ["MEETING_S", "Drill", "Rows", "amount"]

MEETING_S = 6.0
"""How long processes wait for one that was killed before they had met, and will not come."""

Rows = dict[tuple[str, int], PartitionRow]
"""Stored rows by topic and partition."""


def amount(name: str, short: int) -> int:
    """How many records, kills or stops: few in a normal run, more by CHAOS_RECORDS and the like."""
    return int(os.environ.get(f"CHAOS_{name}") or short)


class Drill:
    """One flow, its topic, and its store.

    `_copies` has, by output, how often it was delivered when a row on disk first said so: what is finished in a row is
    delivered, in the state, and never repeated.

    Args:
        scene: its topics are those of the flow.
        records: how many are written now; `write` and `feeding` write more.
        store: directory of the store; below the scene's by default.
        truth: the flow, and what it must do.
        cluster: settings of the cluster's processes.
        kafka: further settings of this section.

    `recovery` has further settings of the store for the next start.
    """

    is_final = True
    """False if a process may be left that delivers what a row calls finished."""

    def __init__(
        self,
        scene: Scene,
        records: int = 0,
        store: Path | None = None,
        truth: Truth = COUNTING,
        cluster: Mapping[str, Any] | None = None,
        kafka: Mapping[str, Any] | None = None,
    ) -> None:
        self.truth = truth
        self.timeline: list[str] = []
        self.repeated = 0
        self.kills = 0
        self.store = store or scene.directory / "store"
        self.recovery: dict[str, Any] = {}
        self._scene = scene
        self._cluster = cluster or {}
        self._kafka = kafka
        self._begins: dict[int, int] = {}
        self._log: dict[int, dict[int, Sent]] = {}
        self._source_log = TopicLog(scene.bootstrap, scene.source)
        self._learned = 0
        self._copies: dict[bytes, int] = {}
        self._fed: Feeder | None = None
        self._written = 0
        self.write(records)

    @property
    def records(self) -> int:
        """How many were written."""
        return self._written if self._fed is None else self._fed.count

    def write(self, records: int) -> None:
        """Write more records."""
        if records:
            numbers = range(self._written, self._written + records)
            keys, values = zip(*map(self.truth.record, numbers), strict=True)
            produce(self._scene.bootstrap, self._scene.source, values, keys)
            self._written += records
            self._learn()

    def feeding(self, rate: float = 300.0) -> Feeder:
        """Something that writes records while its block runs."""
        self._fed = self._scene.feeding(rate, self.truth.record)
        return self._fed

    # --- acting ---------------------------------------------------------------------------------

    def start(
        self, count: int = 1, programs: Mapping[int, Sequence[str | Path]] | None = None, start_timeout_s: float = 60
    ) -> list[Worker]:
        """Start the flow with a short snapshot interval, in several processes as a cluster.

        `programs` has, by process, what stands for the command after `python`. Processes wait `start_timeout_s` for
        each other: shorter where one of them will not come.
        """
        recovery = {"dir": str(self.store), "snapshot_interval_s": 0.2, **self.recovery}
        runtime = {"max_in_flight_records": 400, "recovery": recovery}
        flow = pipeline_of(self.truth)
        cluster = {**self._cluster, "start_timeout_s": start_timeout_s}
        workers = start_cluster(
            self._scene, flow, count, runtime, programs, sections={"kafka": self._kafka or {}}, **cluster
        )
        self.note(f"started {', '.join(str(worker.pid) for worker in workers)}")
        return workers

    def kill_at_random(self, workers: list[Worker], chance: random.Random) -> None:
        """Kill one of the processes at any moment: of the start, of the first work, or behind new commits.

        The others end. A process may have ended before, because another one came too late: that is no kill.
        """
        killed = chance.choice(workers)
        self._until_random_moment(killed, chance)
        if killed.exit_code is None:
            self._kill([killed])
        self.until_ended(workers, killed)

    def kill_all(self, workers: list[Worker], chance: random.Random) -> None:
        """Kill all of a cluster at any moment."""
        self._until_random_moment(chance.choice(workers), chance)
        self._kill(workers)
        self.check()

    def kill_at_point(self, workers: list[Worker], killed: Worker) -> bool:
        """Wait until a process has killed itself; returns False if another one gave up before it came to its point."""
        code = killed.wait(120)
        self.note(f"{killed.pid} ended with {code}")
        self.until_ended(workers, killed)
        return code == -signal.SIGKILL

    def until_ended(self, workers: list[Worker], killed: Worker) -> None:
        """Wait until the processes have ended that can't go on without the killed one, and check."""
        for worker in workers:
            if worker is not killed:
                assert worker.wait(120) in (0, 1), worker.stderr
                assert "Traceback" not in worker.stderr
        self.check()

    def stop(self, workers: list[Worker], told: Worker | None = None) -> None:
        """Stop it as an operator does: a word to one process is a word to all."""
        (told or workers[0]).send(signal.SIGTERM)
        for worker in workers:
            assert worker.wait(120) == 0, worker.stderr
        self.note(f"stopped {(told or workers[0]).pid}, and with it all")
        self.check()

    def finish(self, workers: list[Worker], timeout_s: float = 600.0) -> None:
        """Wait until the group has committed everything, and stop."""
        until_all_run(workers)
        self._scene.until_finished(timeout_s)
        self.stop(workers)

    # --- the truth ------------------------------------------------------------------------------

    def check(self) -> None:
        """Compare the commits, the stored rows, the outputs and the state; also while the flow runs."""
        rows = self.rows_after(self._scene.committed())
        copies = Counter(message.value() for message in self._scene.delivered())
        if self._fed is not None:
            self._learn()
        for output, count in self._copies.items() if self.is_final else ():
            assert copies[output] == count, f"{output!r} was finished in a row, and delivered again"
        all_finished: list[Sents] = []
        for (_, partition), row in rows.items():
            finished = {
                offset: sent
                for offset, sent in self._log.get(partition, {}).items()
                if (offset < row.offset or offset in row.finished)
                and (offset >= self._begins.get(partition, 0) or copies[sent.value])
            }
            wanted = self.truth.delivered(partition, finished, row.state)
            lost = [output for output in wanted if not copies[output]]
            assert not lost, f"finished in a row of partition {partition}, but not delivered: {lost[:5]}"
            self.truth.check(finished, row.state)
            self._copies |= {output: copies[output] for output in wanted}
            all_finished.append(finished)
        self.check_whole(all_finished)
        self.repeated = copies.total() - len(copies)
        self.note(f"{len(self._copies)} final outputs, {copies.total()} delivered, {self.repeated} repeated")

    def check_whole(self, finished: list[Sents]) -> None:
        """Check what is not kept by partition, given the finished records of each."""

    def deleted(self, begins: Mapping[int, int]) -> None:
        """Let records before these offsets be missing, unless they were delivered: they are deleted."""
        self._begins = dict(begins)

    def made_anew(self) -> None:
        """Forget the records: their topic is gone."""
        self._source_log = TopicLog(self._scene.bootstrap, self._scene.source)
        self._learned = 0
        self._log.clear()
        self._copies.clear()

    def totals(self) -> Counter[bytes | str | int]:
        """The counts by key of all partitions, of the flow `counting`."""
        found: Counter[bytes | str | int] = Counter()
        for row in self.rows().values():
            found += numbers_of(row.state, "stateful-count")
        return found

    def forget(self) -> None:
        """Let what rows said before be delivered again: the store is not the one that said so."""
        self._copies.clear()

    def finished(self, test: str, faults: str) -> tuple[object, ...]:
        """Check the end, and return the row for the table: nothing is lost, and each record counts once."""
        self.check()
        rows = self.rows()
        for partition, sents in self._log.items():
            row = rows[self._scene.source, partition]
            assert row.offset > max(sents), f"partition {partition} ends at {row.offset}, not after {max(sents)}"
        if self.truth.repeats_alike:
            assert {message.value() for message in self._scene.delivered()} == self._copies.keys()
        return (test, faults, f"{self.records:,}", 0, f"{self.repeated:,}", "exact")

    def rows(self) -> Rows:
        """The rows on disk."""
        if not (self.store / "identity.json").exists():
            return {}
        return {at: stored.row for at, stored in read_rows(self.store, self.truth.name).rows.items()}

    def rows_after(self, committed: Mapping[int, int]) -> Rows:
        """The rows; no commit is ahead of them."""
        rows = self.rows()
        positions = {partition: row.offset for (_, partition), row in rows.items()}
        for partition, offset in committed.items():
            assert offset <= positions.get(partition, 0), f"the commit of {partition} is ahead of its row"
        return rows

    def note(self, what: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(f"{time.strftime('%H:%M:%S')} {what}")
        print(self.timeline[-1])

    def _until_random_moment(self, worker: Worker, chance: random.Random) -> None:
        """Wait for a moment of a worker's start, of its first work, or behind new commits."""
        moment = chance.choice(["start", "work", "commits"])
        if moment == "start":
            time.sleep(chance.uniform(0.2, 3.0))
        else:
            before = sum(self._scene.committed().values())
            until(lambda: worker.exit_code is not None or worker.lines("partitions_assigned"), 300, "a process to read")
            if moment == "commits" and before < self.records:
                self._until_committed(before, worker)
            time.sleep(chance.uniform(0.0, 0.6))

    def _until_committed(self, before: int, worker: Worker) -> None:
        """Wait until the commits are together beyond what they were, or the worker has ended."""
        committed = self._scene.committed
        until(lambda: worker.exit_code is not None or sum(committed().values()) > before, 300, "new commits")

    def _kill(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.kill()
        self.kills += 1
        self.note(f"kill {self.kills}: {', '.join(str(worker.pid) for worker in workers)}")

    def _learn(self) -> None:
        """Read what was written, by partition and offset."""
        messages = self._source_log.read(timeout_s=60)
        for message in messages[self._learned :]:
            key, value = message.key(), message.value()
            assert isinstance(key, bytes)
            assert isinstance(value, bytes)
            self._log.setdefault(message.partition() or 0, {})[message.offset() or 0] = Sent(key, value)
        self._learned = len(messages)
