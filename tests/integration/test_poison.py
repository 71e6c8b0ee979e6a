"""R6: what can't be processed becomes a dead letter, exactly once each, and never stops the rest."""

from __future__ import annotations

from collections import Counter

import pytest
from confluent_kafka import Producer

from support.kafka_io import end_offsets, headers_of, produce, read_all
from support.names import unique
from support.scene import Scene

pytestmark = pytest.mark.integration

RECORDS = 2000
LARGE = 990_000  # with its overhead just below what clients and brokers take by default


def _dead_values(scene: Scene) -> Counter[bytes | None]:
    return Counter(message.value() for message in read_all(scene.bootstrap, scene.dlq))


@pytest.mark.parametrize("percent", [1, 10, 100])
def test_undecodable_records_are_counted_exactly(scene: Scene, percent: int) -> None:
    """Each poisoned record is one dead letter with its origin, all others are delivered once, all is committed."""
    poisoned = {number for number in range(RECORDS) if number % (100 // percent) == 0}
    values = [f"poison {number}" if number in poisoned else str(number) for number in range(RECORDS)]
    produce(scene.bootstrap, scene.source, values, keys=list(map(str, range(RECORDS))))
    worker = scene.start("decoding", {"dlq": {"stop_after": 10 if percent < 100 else 0}})
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert _dead_values(scene) == Counter(f"poison {number}".encode() for number in poisoned)
    good = Counter(str(number).encode() for number in range(RECORDS) if number not in poisoned)
    assert Counter(message.value() for message in scene.delivered()) == good
    first = read_all(scene.bootstrap, scene.dlq)[0]
    headers = dict(first.headers() or [])
    assert headers["__connect.errors.topic"] == scene.source.encode()
    assert headers["__connect.errors.stage"] == b"decode"


def test_a_hook_that_raises_costs_only_its_own_records(scene: Scene) -> None:
    """Every tenth record's hook raises: these are dead letters, the others are delivered once."""
    scene.fill(RECORDS)
    worker = scene.start("raising")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert _dead_values(scene) == Counter(str(number).encode() for number in range(0, RECORDS, 10))
    assert len(scene.delivered()) == RECORDS - RECORDS // 10


def test_an_arrange_that_raises_fails_its_window_and_no_other(scene: Scene) -> None:
    """A window with poison in it is dead as a whole; every record is delivered or dead, never both or neither."""
    values = ["poison" if number % 500 == 250 else str(number) for number in range(1, RECORDS)]
    produce(scene.bootstrap, scene.source, values, partition=0)
    worker = scene.start("raising", {"executor": {"window_size": 10}})
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    dead = _dead_values(scene)
    delivered = Counter(message.value() for message in scene.delivered())
    assert dead + delivered == Counter(value.encode() for value in values)
    assert dead[b"poison"] == 4
    assert sum(1 for value in dead if value != b"poison" and int(value or 0) % 10) <= 4 * 9


def test_unusual_records_come_out_as_they_went_in(scene: Scene) -> None:
    """1 MB, empty values, binary keys, no keys, headers that repeat: bytes are bytes."""
    headers: list[tuple[str, str | bytes | None]] = [("a", b"1"), ("a", b"\x00\xff"), ("empty", b"")]
    producer = Producer({"bootstrap.servers": scene.bootstrap})
    producer.produce(scene.source, value=b"x" * LARGE, key=b"large", partition=0)
    producer.produce(scene.source, value=b"", key=b"\x00\xff\xfe", partition=0)
    producer.produce(scene.source, value=b"no key", partition=0)
    producer.produce(scene.source, value=b"with headers", key=b"h", headers=headers, partition=0)
    assert producer.flush(20) == 0
    worker = scene.start("verbatim")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert [(message.key(), message.value(), message.headers()) for message in scene.delivered()] == [
        (b"large", b"x" * LARGE, None),
        (b"\x00\xff\xfe", b"", None),
        (None, b"no key", None),
        (b"h", b"with headers", headers),
    ]
    assert not _dead_values(scene)


def test_a_tombstone_passes_and_is_committed(scene: Scene) -> None:
    """A record without a value goes through the flow like any other."""
    produce(scene.bootstrap, scene.source, [None, "after"], keys=["gone", "k"], partition=0)
    worker = scene.start("verbatim")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert [message.key() for message in scene.delivered()] == [b"gone", b"k"]


def test_an_output_that_the_broker_refuses_is_a_dead_letter(scene: Scene) -> None:
    """A result that is too large for its topic is not tried for ever: its letter is cut, its neighbours go out."""
    produce(scene.bootstrap, scene.source, ["before", "x" * LARGE, "after"], keys=["k", "double", "k"], partition=0)
    worker = scene.start("verbatim")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert [message.value() for message in scene.delivered()] == [b"before", b"after"]
    (letter,) = read_all(scene.bootstrap, scene.dlq)
    assert int(headers_of(letter)["drakkar.truncated"]) > LARGE


def _in_transactions(scene: Scene, *, aborted: bool) -> None:
    """Ten transactions of ten numbers in partition 0, with one that is aborted after each."""
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": unique("tx")})
    producer.init_transactions(20)
    for start in range(0, 100, 10):
        producer.begin_transaction()
        for number in range(start, start + 10):
            producer.produce(scene.source, value=str(number), partition=0)
        producer.commit_transaction(20)
        if aborted:
            producer.begin_transaction()
            producer.produce(scene.source, value="never", partition=0)
            producer.flush(20)
            producer.abort_transaction(20)


@pytest.mark.parametrize("aborted", [False, True], ids=["committed", "aborted"])
def test_gaps_of_transactions_are_stepped_over(scene: Scene, aborted: bool) -> None:
    """Markers and aborted records leave holes in the offsets: the commit passes them, to the last record."""
    _in_transactions(scene, aborted=aborted)
    produce(scene.bootstrap, scene.source, ["100"], partition=0)
    worker = scene.start("precomputed")
    scene.until_finished()
    assert worker.terminate() == 0, worker.stderr
    assert scene.check_delivered(101) == 0
    assert end_offsets(scene.bootstrap, scene.source)[0] == (131 if aborted else 111)


def test_a_transaction_at_the_end_leaves_no_lag(scene: Scene) -> None:
    """The marker of the last transaction is not a record, but monitoring counts it unless it is committed."""
    _in_transactions(scene, aborted=True)
    worker = scene.start("precomputed")
    worker.until(lambda: scene.committed().get(0, 0) > 100, "it committed the last record")
    scene.until_finished(timeout_s=5)


@pytest.mark.parametrize("before", [[], ["1", "2", "3"]], ids=["only", "records"])
def test_g11_aborted_transactions_that_end_a_partition_leave_no_lag(scene: Scene, before: list[str]) -> None:
    """One after the other, while the worker runs; an open one neither, for its records can't be read."""
    produce(scene.bootstrap, scene.source, before, partition=0)
    worker = scene.start("precomputed")
    worker.until(lambda: worker.metric("drakkar_consumer_lag") == 0, "it read everything")
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": unique("tx")})
    producer.init_transactions(20)
    end = len(before)
    for _ in range(3):
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(scene.source, value="never", partition=0)
        producer.flush(20)
        producer.abort_transaction(20)
        end += 11
        worker.until(lambda: scene.committed().get(0) == end, "it passed over them")  # noqa: B023 - called at once
        worker.until(lambda: worker.metric("drakkar_consumer_lag") == 0, "no lag")
    assert end_offsets(scene.bootstrap, scene.source)[0] == end
    produce(scene.bootstrap, scene.source, ["4"], partition=0)
    worker.until(lambda: scene.committed().get(0) == end + 1, "it read on")
    assert worker.terminate() == 0, worker.stderr
    assert [message.value() for message in scene.delivered()] == [value.encode() for value in [*before, "4"]]
