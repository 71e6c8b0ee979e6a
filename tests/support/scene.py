"""What a failure test acts in: topics, a group, a configuration, workers, and the truth about what they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from drakkar_flow.kernel.offset_ranges import OffsetRanges
from drakkar_flow.librdkafka import destroy_in_background
from support.commits import CommitWatch
from support.feeder import Feeder
from support.kafka_io import (
    TopicLog,
    committed_as_told_to,
    create_topic,
    delete_topics,
    end_offsets,
    group_asker,
    produce,
    read_all,
)
from support.names import unique
from support.until import until
from support.worker import ROOT, Worker

__all__ = ["COMMAND", "PIPELINES", "Scene"]

PIPELINES = ROOT / "tests" / "integration" / "pipelines"
COMMAND = ("-m", "drakkar_flow.cli.main")

Overrides = Mapping[str, Mapping[str, Any]]
"""Settings laid over the scene's, by section of the configuration."""


class Scene:
    """Topics `source`, `out` (one partition, so that its order is total) and `dlq`, and one consumer group.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        directory: where configurations and outputs of the workers go.
        partitions: of the source.
    """

    def __init__(self, bootstrap: str, directory: Path, partitions: int = 4) -> None:
        self.bootstrap = bootstrap
        self.directory = directory
        self.partitions = partitions
        self.source, self.out, self.dlq = unique("source"), unique("out"), unique("dlq")
        self.group = unique("group")
        self.workers: list[Worker] = []
        self._out_log = TopicLog(bootstrap, self.out)
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._asker = group_asker(bootstrap, self.group)
        for name, count in ((self.source, partitions), (self.out, 1), (self.dlq, 1)):
            create_topic(self._admin, name, count, {"message.timestamp.type": "LogAppendTime"})

    # --- acting ---------------------------------------------------------------------------------

    def config(self, overrides: Overrides | None = None) -> Path:
        """Write a configuration for this scene, small bounds and quick rhythms, and give its file."""
        sections: dict[str, dict[str, Any]] = {
            "kafka": {
                "brokers": self.bootstrap,
                "source_topic": self.source,
                "consumer_group": self.group,
                "session_timeout_ms": 6000,
                "heartbeat_interval_ms": 500,
            },
            "executor": {"binary_path": "cat", "max_executors": 4},
            "sinks": {"kafka": {"out": {"topic": self.out}}},
            "dlq": {"topic": self.dlq},
            "runtime": {"max_in_flight_records": 50, "commit_interval_s": 0.1, "commit_max_offsets": 50},
            "metrics": {"port": 0, "host": "127.0.0.1"},
        }
        for section, values in (overrides or {}).items():
            sections.setdefault(section, {}).update(values)
        file = self.directory / f"{unique('config')}.yaml"
        file.write_text(yaml.safe_dump(sections))
        return file

    def start(
        self,
        pipeline: str = "precomputed",
        overrides: Overrides | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = COMMAND,
    ) -> Worker:
        """Start a worker by `drakkar-flow run`; `program` is what stands for the command after `python`."""
        command = (*program, "run", PIPELINES / f"{pipeline}.py", "--config")
        return self.launch(*command, self.config(overrides), environment=environment)

    def launch(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Worker:
        """Start a worker by any command line of python."""
        worker = Worker(arguments, self.directory, environment)
        self.workers.append(worker)
        return worker

    def feeding(self, rate: float = 300.0, record: Callable[[int], tuple[str, str]] | None = None) -> Feeder:
        """Something that writes numbers to the source while its block runs, or the keys and values of `record`."""
        return Feeder(self.bootstrap, self.source, self.partitions, rate, record)

    def watching(self) -> CommitWatch:
        """Something that watches the group's commits while its block runs."""
        return CommitWatch(self.bootstrap, self.group, self.source, self.out)

    def fill(self, count: int) -> None:
        """Write the numbers below `count` to the source, by the partitioner's choice."""
        produce(self.bootstrap, self.source, map(str, range(count)), keys=list(map(str, range(count))))

    def close(self) -> None:
        """End every worker and remove the topics."""
        for worker in self.workers:
            worker.close()
        delete_topics(self._admin, [self.source, self.out, self.dlq])
        self._asker.close()

    def broker_restarted(self) -> None:
        """Forget the connections to the broker's former life, on which a client may wait in vain."""
        former = [self._admin, self._asker]
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap})
        self._asker = group_asker(self.bootstrap, self.group)
        destroy_in_background(former)

    # --- the truth ------------------------------------------------------------------------------

    def committed(self) -> dict[int, int]:
        """The group's committed offset of each partition that has one."""
        return committed_as_told_to(self._asker, self.source)

    def told_finished(self) -> int:
        """How many records the group's commits say are finished, in order or beyond."""
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group})
        topic_partitions = [KafkaPartition(self.source, partition) for partition in range(self.partitions)]
        total = 0
        for item in reader.committed(topic_partitions, 10):
            if item.offset >= 0:
                out_of_order = OffsetRanges.decode(item.metadata or "", item.offset)
                total += item.offset + sum(stop - start for start, stop in out_of_order)
        reader.close()
        return total

    def until_finished(self, timeout_s: float = 60.0) -> None:
        """Wait until the group has committed the end of every partition that holds anything."""
        ends = {partition: end for partition, end in end_offsets(self.bootstrap, self.source).items() if end}
        until(lambda: self.committed() == ends, timeout_s, f"commits to reach {ends}", poll_s=0.1)

    def delivered(self) -> list[Message]:
        """Everything in the output, in order."""
        return self._out_log.read()

    def dead_letters(self) -> list[Message]:
        """Everything in the dead letter topic."""
        return read_all(self.bootstrap, self.dlq)

    def check_delivered(self, count: int) -> int:
        """Check that each number below `count` was delivered, and nothing else; gives how many came again."""
        copies = Counter(message.value() for message in self.delivered())
        wanted = {str(number).encode() for number in range(count)}
        missing = wanted - copies.keys()
        assert not missing, f"{len(missing)} of {count} numbers were lost, among them {sorted(missing)[:10]}"
        assert copies.keys() == wanted
        return copies.total() - count
