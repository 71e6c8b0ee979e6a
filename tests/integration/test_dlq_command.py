"""`drakkar-flow dlq` on a real broker: a record is replayed once, whatever letters it has, and errors are one line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import AdminClient

from drakkar_flow.model.outcome import Failure, FailureKind
from drakkar_flow.model.record import Record
from drakkar_flow.sinks.dlq import DeadLetterQueue
from drakkar_flow.sinks.kafka.payload import KafkaPayload
from support.kafka_io import Kafka, MakeTopic, delete_topics, headers_of, produce, read_all

pytestmark = pytest.mark.integration

VALUES = [f"v{number}" for number in range(6)]


class Letters:
    """A source topic with six records in partition 1, its dead letter topic, and the command."""

    def __init__(self, bootstrap: str, make_topic: MakeTopic, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.source, self.dlq = make_topic(2), make_topic(2)
        produce(bootstrap, self.source, VALUES, keys=[f"k{value}" for value in VALUES], partition=1)
        self.config = directory / "drakkar.yaml"
        kafka = {"brokers": bootstrap, "source_topic": self.source}
        self.config.write_text(yaml.safe_dump({"kafka": kafka, "dlq": {"topic": self.dlq}}))

    def write(self, *failures: Failure) -> None:
        """Write letters as a worker does."""

        async def written() -> None:
            queue = DeadLetterQueue(self.dlq, self.bootstrap)
            await queue.connect()
            await queue.write(failures)
            await queue.close()

        asyncio.run(written())

    def failure(self, offset: int, error: str = "no date", kind: FailureKind = FailureKind.DECODE) -> Failure:
        """A failure of a record of the source."""
        value = f"v{offset}".encode()
        record = Record(self.source, 1, offset, value, b"k" + value, headers=[("own", b"1")])
        failed = Failure(kind=kind, stage="decode", error=error, tokens=((record, 1),), exception_class="x.DecodeError")
        if kind is FailureKind.SINK:
            failed.stage, failed.payload = "sink-kafka-out", KafkaPayload(data=value)
        return failed

    def run(self, *arguments: str, config: Sequence[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a subcommand."""
        given = ["--config", str(self.config)] if config is None else config
        command = [sys.executable, "-m", "drakkar_flow.cli.main", "dlq", arguments[0], *given, *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)

    def sent(self) -> list[tuple[str, int, dict[str, bytes]]]:
        """What came to the source behind the six: value, partition and headers."""
        found = [message for message in read_all(self.bootstrap, self.source) if message.headers()]
        return [((message.value() or b"").decode(), message.partition() or 0, headers_of(message)) for message in found]


@pytest.fixture
def letters(kafka: Kafka, make_topic: MakeTopic, tmp_path: Path) -> Letters:
    """A source and its dead letters."""
    return Letters(kafka.bootstrap, make_topic, tmp_path)


def test_n7_a_record_with_several_letters_is_replayed_once(letters: Letters) -> None:
    """By its origin, to its partition, with its own headers and where it was; the letters of all are done then."""
    letters.write(letters.failure(1, "first task"), letters.failure(1, "second task"), letters.failure(2))
    done = letters.run("replay")
    assert (done.returncode, done.stdout) == (0, f"2 records replayed, 0 failed; 3 dead letters in {letters.dlq}\n")
    sent = letters.sent()
    assert sorted((value, partition) for value, partition, _ in sent) == [("v1", 1), ("v2", 1)]
    headers = next(headers for value, _, headers in sent if value == "v1")
    assert headers.pop("drakkar.replay.letter").startswith(letters.dlq.encode())
    origin = f"{letters.source}:1:1".encode()
    assert headers == {"own": b"1", "drakkar.replay.origin": origin, "drakkar.replay.count": b"1"}
    again = letters.run("replay")
    assert (again.returncode, len(letters.sent())) == (0, 2)
    assert "0 records replayed, 0 failed, 2 replayed before" in again.stdout
    letters.write(letters.failure(1, "a third task, told late"))
    assert "0 records replayed" in letters.run("replay").stdout
    assert letters.run("replay", "--again", f"{letters.source}:1:2").returncode == 0
    assert len(letters.sent()) == 3


def test_n7_letters_are_selected_and_the_others_stay(letters: Letters) -> None:
    """By place, reason, step, time and number; what was replayed out of order is remembered too."""
    letters.write(*(letters.failure(offset, f"reason {offset}") for offset in range(5)))
    assert "1 records would be replayed" in letters.run("replay", "--dry-run", "--reason", "REASON [3]$").stdout
    assert "0 records" in letters.run("replay", "--dry-run", "--reason", "reason (").stdout
    assert "0 records" in letters.run("replay", "--dry-run", "--stage", "collect").stdout
    assert "0 records" in letters.run("replay", "--dry-run", "--until", "1h").stdout
    assert "5 records" in letters.run("replay", "--dry-run", "--since", "1h", "--stage", "dec").stdout
    assert "2 records" in letters.run("replay", "--dry-run", "--limit", "2").stdout
    assert letters.sent() == []
    assert "1 records replayed" in letters.run("replay", f"{letters.source}:1:3").stdout
    assert "4 records replayed, 0 failed, 1 replayed before" in letters.run("replay", "--rate", "100").stdout
    assert sorted(value for value, _, _ in letters.sent()) == VALUES[:5]


def test_n7_a_delivery_is_replayed_by_its_record_and_says_so_when_that_is_gone(letters: Letters) -> None:
    """Its letter holds a payload: the record is read where it stands."""
    gone = letters.failure(99, "down", FailureKind.SINK)
    letters.write(letters.failure(4, "down", FailureKind.SINK), gone)
    done = letters.run("replay")
    assert done.returncode == 1
    assert f"failed: {letters.source}:1:99: neither the dead letter nor" in done.stderr
    assert "1 records replayed, 1 failed" in done.stdout
    sent = [message for message in read_all(letters.bootstrap, letters.source) if message.value() == b"v4"]
    assert [message.key() for message in sent] == [b"kv4", b"kv4"]
    once_more = letters.run("replay")
    assert (once_more.returncode, "0 records replayed, 1 failed, 1 replayed before" in once_more.stdout) == (1, True)


def test_n7_letters_are_listed_and_shown(letters: Letters) -> None:
    """A line or a JSON object for each, and one of them whole."""
    letters.write(letters.failure(1), letters.failure(2, "other"))
    listed = letters.run("list", "--reason", "no date")
    assert f"{letters.source}:1:1  decode  DecodeError: no date" in listed.stdout
    (found,) = [json.loads(line) for line in letters.run("list", "--json", "--reason", "other").stdout.splitlines()]
    assert (found["record"], found["stage"], found["replayed"]) == (f"{letters.source}:1:2", "decode", False)
    shown = letters.run("show", found["letter"])
    assert (shown.returncode, "  value: v2\n" in shown.stdout, "  own: 1\n" in shown.stdout) == (0, True, True)
    assert letters.run("show", "0:77").returncode == 1


def test_n7_the_next_failure_of_a_replayed_record_keeps_its_first_place(letters: Letters) -> None:
    """In letters of records and of deliveries."""
    history = [("drakkar.replay.origin", b"in:0:5"), ("drakkar.replay.count", b"2")]
    for kind in (FailureKind.DECODE, FailureKind.SINK):
        failure = letters.failure(1, kind=kind)
        failure.tokens[0][0].headers = history
        letters.write(failure)
    listed = letters.run("list").stdout
    assert listed.count("first in:0:5, replayed 2 times") == 2


@pytest.mark.parametrize("command", ["list", "replay", "show 0:1"])
def test_n7_what_is_wrong_is_one_line_and_exit_code_2(letters: Letters, command: str) -> None:
    """A missing topic, brokers that don't answer, ids and times that are none."""
    name, *ids = command.split()
    missing = letters.run(name, "--topic", "no-such-topic", *ids)
    assert missing.returncode == 2
    assert missing.stderr.startswith("drakkar-flow dlq: topic 'no-such-topic' does not exist")
    away = letters.run(name, "--set", "kafka.brokers=localhost:1", *ids)
    assert away.returncode == 2
    assert away.stderr.startswith("drakkar-flow dlq: no broker answers at localhost:1: ")
    wrong = letters.run(name, "5")
    assert wrong.returncode == 2
    assert "invalid id '5'" in wrong.stderr
    for told in (missing, away, wrong):
        assert told.stderr.count("\n") == 1, told.stderr
        assert told.stdout == ""


@pytest.mark.parametrize("command", ["list", "show", "replay"])
def test_n7_an_id_that_names_no_letter_is_named_and_the_others_count(letters: Letters, command: str) -> None:
    """It may be a misprint: exit code 1."""
    letters.write(letters.failure(1))
    done = letters.run(command, "1:1", "9:99")
    assert done.returncode == 1
    assert "no such dead letter" in done.stderr
    assert "9:99" in done.stderr
    found = "1 records replayed, 1 failed" if command == "replay" else f"{letters.source}:1:1"
    assert found in done.stdout


def test_n7_a_source_topic_that_is_gone_is_not_made_anew(letters: Letters) -> None:
    """Nor is anything else lost: the letter can be replayed when it is back."""
    letters.write(letters.failure(1))
    delete_topics(AdminClient({"bootstrap.servers": letters.bootstrap}), [letters.source])
    done = letters.run("replay")
    assert done.returncode == 1
    assert "no longer exists" in done.stderr


@pytest.mark.parametrize("flow", ["pipeline.py", "pipeline.py:flow"])
def test_n7_the_flow_is_the_first_argument_as_for_every_command(letters: Letters, flow: str) -> None:
    """Its settings are those beside it; ids follow."""
    letters.config.rename(letters.config.with_name("pipeline.yaml"))
    script = letters.config.with_name("pipeline.py")
    script.write_text("from drakkar_flow import StreamFlow\nflow = StreamFlow('orders').route()\n")
    letters.write(letters.failure(1), letters.failure(2))
    path = str(script.with_name(flow))
    for command, *ids in (("list", "1:2"), ("show", f"{letters.source}:1:2"), ("replay", "--dry-run", "1:2")):
        done = letters.run(command, path, *ids, config=())
        assert done.returncode == 0, done.stderr
        assert f"{letters.source}:1:2" in done.stdout
        assert f"{letters.source}:1:1" not in done.stdout
    without = letters.run("show", path, config=())
    assert (without.returncode, "no dead letter is named: write partition:offset" in without.stderr) == (2, True)
    gone = letters.run("list", "gone.py", config=())
    assert (gone.returncode, "gone.py: file not found" in gone.stderr) == (2, True)
