"""Keyed state in group mode: what a commit of changed keys takes, and how long records wait when a partition moves.

Two workers: the second joins the first and takes over one of two partitions, while 500 records/s come in for each. The
wait of a record is the time from its production to its result.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import NamedTuple

from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from benchmarks.bench import Counter, bootstrap, make_topic, median, process
from benchmarks.idle import idle_percent
from benchmarks.latency import consumer_of
from drakkar_flow.kernel.state_messages import Position
from drakkar_flow.model.state import StateCodec
from drakkar_flow.runtime.state_topic.topic import StateTopic
from drakkar_flow.runtime.state_topic.transactions import Change, Transaction, Transactions

MODULE = "benchmarks.workers.group_counting"
PARTITIONS = 2
KEYS = 10_000  # of each partition
MANY_KEYS = 100_000
REWRITES = 10  # each key of `MANY_KEYS` is written as often: more than the brokers have compacted
RATE = 500  # records per second and partition
CALM_S = 5.0
MOVE_S = 12.0  # a member that joins has all its partitions before
ROUNDS = 3
COMMITS = 12
SLOW_COMMITS = 4  # the first ones open connections
_BETWEEN_S = 0.2  # a transaction that begins before the brokers have ended the one before waits for it
_TIMEOUT_S = 300.0


def measure() -> dict[str, object]:
    empty, full = _commits()
    result: dict[str, object] = {
        "commit_ms": round(empty, 1),
        "commit_10000_keys_ms": round(full, 1),
        "commit_limit_ms": 60,
    }
    moves = {
        "without_state": [_move(KEYS, 1, state=False) for _ in range(ROUNDS)],
        "keys_10000": [_move(KEYS, 1) for _ in range(ROUNDS)],
        "keys_100000": [_move(MANY_KEYS, 1) for _ in range(ROUNDS)],
        "keys_100000_rewritten": [_move(MANY_KEYS, REWRITES) for _ in range(ROUNDS)],
    }
    for name, found in moves.items():
        result |= {
            f"{name}_moved_wait_s": round(median([each.moved_s for each in found]), 2),
            f"{name}_kept_wait_s": round(median([each.kept_s for each in found]), 3),
            f"{name}_calm_wait_s": round(median([each.calm_s for each in found]), 3),
        }
    result |= {"moved_limit_s": 3.0}
    for name, state in (("without_state", ""), ("state", "1")):
        env = {"BENCH_GROUP": f"bench-{uuid.uuid4().hex}", "BENCH_STATE": state}
        result[f"idle_{name}_cpu_percent"] = round(idle_percent(4, MODULE, env), 1)
    return result


# --- commits ------------------------------------------------------------------------------------


def _commits() -> tuple[float, float]:
    """Milliseconds of a transaction without a changed key, and with 10,000."""
    source = make_topic("in")
    client = {"bootstrap.servers": bootstrap()}
    topic = StateTopic(client, f"{source}.state", [source])
    topic.prepare()
    transactions = Transactions(topic, f"{source}.0")
    transactions.start()
    consumer = Consumer({**client, "group.id": source})
    codec, member = StateCodec(int), consumer.consumer_group_metadata()

    def commit(offset: int, keys: int) -> float:
        values = {
            ("stateful-count", f"user-{each}"): codec.encode(offset + each, now_ms=offset) for each in range(keys)
        }
        position = Position(group=source, flow="bench", topic_id="", offset=offset)
        changes = [Change((source, 0), position, values)]
        started = time.perf_counter()
        transactions.submit(Transaction(changes, [KafkaPartition(source, 0, offset)], member))
        outcome = transactions.outcome(60)
        if outcome is None or outcome.error:
            raise SystemExit(f"a transaction failed: {outcome}")
        took_s = time.perf_counter() - started
        time.sleep(_BETWEEN_S)
        return took_s * 1000

    found = [[commit(100 * keys + number, keys) for number in range(COMMITS)] for keys in (0, KEYS)]
    transactions.close()
    consumer.close()
    empty, full = (median(each[SLOW_COMMITS:]) for each in found)
    return empty, full


# --- a partition that moves -----------------------------------------------------------------------


class Move(NamedTuple):
    """The longest wait of a record, in seconds: of the partition that moved, of the one that stayed, and before."""

    moved_s: float
    kept_s: float
    calm_s: float


def _move(keys: int, rewrites: int, *, state: bool = True) -> Move:
    source, output = make_topic("in", PARTITIONS), make_topic("out")
    group = f"bench-{uuid.uuid4().hex[:12]}"
    env = {"BENCH_GROUP": group, "BENCH_KEYS": str(keys * PARTITIONS), "BENCH_STATE": "1" if state else ""}
    filled = keys * rewrites * PARTITIONS
    counter = Counter(output)
    with consumer_of(output) as consumer, process(MODULE, source, output, 0, env=env):
        _fill(source, filled)
        started = time.monotonic()
        while counter.count() < filled:
            time.sleep(0.1)
            if time.monotonic() - started > _TIMEOUT_S:
                raise SystemExit(f"{MODULE}: {counter.count()} of {filled} messages after {_TIMEOUT_S:g} s")
        counter.close()
        unread = filled
        while unread:
            unread -= len(consumer.consume(min(unread, 10_000), 1))
        waits = Waits(source, consumer)
        waits.run(CALM_S)
        calm_s = max(waits.longest)
        with process(MODULE, source, output, 0, env=env):
            waits.run(MOVE_S)
            kept_s, moved_s = sorted(waits.longest)
    return Move(moved_s, kept_s, calm_s)


class Waits:
    """Produces records at a steady rate to each partition, and reads their results."""

    def __init__(self, source: str, consumer: Consumer) -> None:
        self._source = source
        self._consumer = consumer
        self._producer = Producer({"bootstrap.servers": bootstrap(), "linger.ms": 0})
        self._sent = 0
        self.longest = [0.0] * PARTITIONS
        """Seconds of the longest wait in the last run, by partition."""

    def run(self, seconds: float) -> None:
        """Produce for some seconds; returns when all results have been read."""
        self.longest = [0.0] * PARTITIONS
        began, first, done = time.time(), self._sent, 0
        while time.time() - began < seconds or done < self._sent - first:
            due = first + int(min(seconds, time.time() - began) * RATE * PARTITIONS)
            while self._sent < due:
                self._send(self._sent)
                self._sent += 1
            self._producer.poll(0)
            for message in self._consumer.consume(1000, 0.002):
                found = json.loads(message.value() or b"{}")
                partition = found["id"] % PARTITIONS
                self.longest[partition] = max(self.longest[partition], time.time() - found["sent_at"])
                done += 1
            if time.time() - began > _TIMEOUT_S:
                raise SystemExit(f"{MODULE}: {done} of {self._sent - first} results after {_TIMEOUT_S:g} s")

    def _send(self, number: int) -> None:
        self._producer.produce(self._source, _value(number, time.time()), partition=number % PARTITIONS)


def _fill(source: str, total: int) -> None:
    settings = {"bootstrap.servers": bootstrap(), "linger.ms": 20, "queue.buffering.max.messages": 5_000_000}
    producer = Producer(settings)
    for number in range(total):
        producer.produce(source, _value(number, 0.0), partition=number % PARTITIONS)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()


def _value(number: int, sent_at: float) -> bytes:
    return b'{"id":%d,"name":"abcdefghijklmnopqrstuvwxyz","score":1.25,"tags":["a"],"sent_at":%.6f}' % (number, sent_at)
