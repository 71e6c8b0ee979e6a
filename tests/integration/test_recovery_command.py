"""`drakkar-flow recovery init` and `check` with real brokers: identity, starts, members, topics created again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from drakkar_flow.cli.main import main
from drakkar_flow.runtime.recovery.store import read_identity
from support.kafka_io import produce
from support.names import unique
from support.stores import run_dataflow
from support.until import until

pytestmark = pytest.mark.integration

FLOW = """\
from drakkar_flow import *

flow = dataflow(StreamFlow("job", source=KafkaSource("{topic}")).route(KafkaSink("out")))
"""
SETTINGS = """\
kafka: {{brokers: "{brokers}", consumer_group: {group}}}
sinks: {{kafka: {{out: {{topic: out}}}}}}
runtime: {{recovery: {{}}}}
"""


class Job:
    """A flow with a store in an empty working directory."""

    def __init__(self, brokers: str, topic: str) -> None:
        self.brokers, self.topic, self.group = brokers, topic, unique("group")
        Path("job.py").write_text(FLOW.format(topic=topic))
        Path("job.yaml").write_text(SETTINGS.format(brokers=brokers, group=self.group))
        self.store = Path("recovery/job")

    def run(self, *arguments: str) -> int:
        """Run `recovery ARGUMENTS job.py`; gives its exit code."""
        with pytest.raises(SystemExit) as caught:
            main(["recovery", *arguments, "job.py"])
        return int(caught.value.code or 0)

    def commit(self, offset: int, metadata: str) -> None:
        """Commit an offset of partition 0 for the group, as another client."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": self.group})
        consumer.commit(offsets=[TopicPartition(self.topic, 0, offset, metadata)], asynchronous=False)
        consumer.close()


@pytest.fixture
def job(kafka: object, make_topic: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A flow, a topic of 20 records in one partition, and its store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "job", raising=False)
    brokers: str = kafka.bootstrap  # type: ignore[attr-defined]
    made = Job(brokers, make_topic(partitions=1))
    produce(brokers, made.topic, [str(number).encode() for number in range(20)])
    assert made.run("init") == 0
    return made


def test_init_writes_the_identity_of_the_brokers(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """Cluster, group and topic id; a second one changes nothing."""
    found = read_identity(job.store)
    assert found is not None
    assert (found.flow, found.group) == ("job", job.group)
    assert found.cluster_id
    assert found.topics[job.topic].id
    assert job.run("init") == 0
    assert job.run("check") == 0
    assert read_identity(job.store) == found
    assert "recovery/job: ok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("offset", "metadata", "warning"),
    [
        (5, "d2:", ""),
        (15, "d2:", "the store is older than the committed offset 15; 5 offsets are read again"),
        (5, "", "another client committed offset 5; the store's position 10 is used"),
    ],
)
def test_check_compares_positions_and_commits(
    job: Job, capsys: pytest.CaptureFixture[str], offset: int, metadata: str, warning: str
) -> None:
    """The store's position wins; each disagreement is a line."""
    run_dataflow(job.store, [f"{job.topic}:0:10"])
    job.commit(offset, metadata)
    capsys.readouterr()
    assert job.run("check") == 0
    out = capsys.readouterr().out
    assert warning in out
    assert ("warning" in out) == bool(warning)


def test_check_warns_of_a_topic_that_was_created_again(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """By its id."""
    run_dataflow(job.store, [f"{job.topic}:0:10"])
    admin = AdminClient({"bootstrap.servers": job.brokers})
    admin.delete_topics([job.topic])[job.topic].result(30)
    until(lambda: job.topic not in admin.list_topics(timeout=10).topics)
    admin.create_topics([NewTopic(job.topic, 1)])[job.topic].result(30)
    until(lambda: job.topic in admin.list_topics(timeout=10).topics)
    assert job.run("check") == 0
    assert f"topic {job.topic!r} was created again; reads from its beginning 0" in capsys.readouterr().out


def test_check_refuses_while_the_group_has_members(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """The brokers would refuse commits."""
    member = Consumer({"bootstrap.servers": job.brokers, "group.id": job.group, "client.id": "other"})
    try:
        member.subscribe([job.topic])
        until(lambda: member.poll(0.1) is None and bool(member.assignment()))
        assert job.run("check") == 1
    finally:
        member.close()
    assert f"{job.group!r} has active members: other" in capsys.readouterr().err


def test_a_store_of_another_cluster_is_refused(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """With both ids."""
    path = job.store / "identity.json"
    found = read_identity(job.store)
    assert found is not None
    path.write_text(path.read_text().replace(found.cluster_id, "another-cluster"))
    assert job.run("check") == 1
    assert "another Kafka cluster 'another-cluster' in the store" in capsys.readouterr().err


def test_no_broker_is_reported(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 1."""
    Path("job.yaml").write_text(SETTINGS.format(brokers="127.0.0.1:1", group=job.group))
    assert job.run("check") == 1
    assert "do not answer" in capsys.readouterr().err
