"""Keyed state against Quix Streams 3: a count per key, its rate, and the counts after kills. Optional.

python3.12 -m venv quix && quix/bin/pip install "quixstreams==3.28.1"
BENCH_QUIX_PYTHON=quix/bin/python make bench ARGS=quix
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from benchmarks.bench import PARTITIONS, Counter, bootstrap, fill, make_topic, median, process, watch
from drakkar_flow.model.state import StateCodec, key_of
from drakkar_flow.runtime.recovery.reading import read_rows

RECORDS = 300_000
KEYS = 100_000
ROUNDS = 3
KILLS = 20
KILL_KEYS = 1_000
FEED_PER_S = 3_000
_PAUSES_S = (0.2, 3.0)  # of a life, from its first result to its kill
_SEED = 7
_TIMEOUT_S = 300.0

Counts = dict[int, int]


class Contender(NamedTuple):
    """A process under test, and its settings."""

    module: str
    python: str
    env: Mapping[str, str]
    has_store: bool = False


def contenders(python: str) -> dict[str, Contender]:
    """Ours and the peer's, by guarantee; each commits or takes a snapshot each second."""
    theirs = "benchmarks.workers.quix_counting"
    return {
        "ours": Contender("benchmarks.workers.counting", sys.executable, {}, has_store=True),
        "quix_at_least_once": Contender(theirs, python, {"BENCH_GUARANTEE": "at-least-once"}),
        "quix_exactly_once": Contender(theirs, python, {"BENCH_GUARANTEE": "exactly-once"}),
    }


def measure() -> dict[str, object]:
    python = os.environ.get("BENCH_QUIX_PYTHON")
    if not python:
        return {"skipped": "set BENCH_QUIX_PYTHON to a Python that has quixstreams 3"}
    found = contenders(python)
    result = {"records": RECORDS, "keys": KEYS, **_rates(found), "kills": KILLS}
    for name, contender in found.items():
        result |= {f"{name}_{key}": value for key, value in _killed(contender).items()}
    return result


def _rates(found: Mapping[str, Contender]) -> dict[str, object]:
    """Results per second, in turn."""
    source = make_topic("in")
    fill(source, RECORDS, KEYS)
    rates: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, contender in found.items():
            with _state(contender, KEYS) as env:
                rates[name].append(watch(contender.module, source, RECORDS, python=contender.python, env=env).rate)
    ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates["quix_at_least_once"], strict=True)]
    return {
        **{f"{name}_per_s": round(median(values)) for name, values in rates.items()},
        "ratio": round(median(ratios), 1),
        "limit": 2.0,
    }


@contextmanager
def _state(contender: Contender, keys: int) -> Iterator[dict[str, str]]:
    """A group and a directory for the state, as environment."""
    with tempfile.TemporaryDirectory() as directory:
        group = f"bench-{uuid.uuid4().hex[:12]}"
        yield {**contender.env, "BENCH_GROUP": group, "BENCH_STORE": directory, "BENCH_KEYS": str(keys)}


# --- kills --------------------------------------------------------------------------------------


def _killed(contender: Contender) -> dict[str, object]:
    """Kill a process `KILLS` times while records are written, let it finish, and compare its counts with the truth."""
    source, output = make_topic("in"), make_topic("out")
    chance = random.Random(_SEED)  # the same pauses for everyone
    counter, feeder = Counter(output), Feeder(source)
    with _state(contender, KILL_KEYS) as env, feeder:
        for _ in range(KILLS):
            before = counter.count()
            with process(contender.module, source, output, 0, python=contender.python, env=env) as child:
                _wait(lambda before=before: counter.count() > before, contender)  # type: ignore[misc]
                time.sleep(chance.uniform(*_PAUSES_S))
                child.kill()
        truth = feeder.stop()
        with process(contender.module, source, output, 0, python=contender.python, env=env):
            _wait(lambda: _is_finished(source, env["BENCH_GROUP"]), contender)
        _wait(lambda: _is_readable(output), contender)
        counter.close()
        found = {"last output": _last_outputs(output)}
        if contender.has_store:
            found["state"] = _stored(Path(env["BENCH_STORE"]))
    return {"kill_records": sum(truth.values()), **{name: _verdict(truth, counts) for name, counts in found.items()}}


def _verdict(truth: Counts, found: Counts) -> str:
    wrong = [key for key in truth if found.get(key, 0) != truth[key]]
    off = sum(found.get(key, 0) - truth[key] for key in wrong)
    return f"{len(wrong)} of {len(truth)} keys wrong, total {sum(found.values())}" + (f" ({off:+})" if wrong else "")


class Feeder:
    """Writes records at a fixed rate until it is stopped."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._stopping = threading.Event()
        self._truth: Counts = dict.fromkeys(range(KILL_KEYS), 0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Counts:
        """Stop, and return how many records each key has; safe to call twice."""
        self._stopping.set()
        self._thread.join()
        return self._truth

    def _run(self) -> None:
        producer = Producer({"bootstrap.servers": bootstrap(), "linger.ms": 20})
        number, began_at = 0, time.monotonic()
        while not self._stopping.wait(0.02):
            while number < (time.monotonic() - began_at) * FEED_PER_S:
                key = number % KILL_KEYS
                value = (
                    b'{"id":%d,"name":"abcdefghijklmnopqrstuvwxyz","score":1.25,"tags":["a"],"sent_at":0.0}' % number
                )
                producer.produce(self._topic, value, b"%d" % key)
                self._truth[key] += 1
                number += 1
            producer.poll(0)
        producer.flush()


def _wait(condition: Callable[[], bool], contender: Contender) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{contender.module}: no progress within {_TIMEOUT_S:g} s")
        time.sleep(0.02)


def _is_finished(source: str, group: str) -> bool:
    """True if the group has committed everything."""
    consumer = Consumer({"bootstrap.servers": bootstrap(), "group.id": group})
    try:
        partitions = [KafkaPartition(source, number) for number in range(PARTITIONS)]
        ends = {each.partition: consumer.get_watermark_offsets(each, timeout=10)[1] for each in partitions}
        committed = {each.partition: each.offset for each in consumer.committed(partitions, timeout=10)}
        return all(committed[number] >= end for number, end in ends.items())
    finally:
        consumer.close()


def _is_readable(output: str) -> bool:
    """True if no transaction of a killed process is open: readers of committed results stop before it."""
    consumer, counter = Consumer({"bootstrap.servers": bootstrap(), "group.id": "bench-read"}), Counter(output)
    try:
        partitions = [KafkaPartition(output, number) for number in range(PARTITIONS)]
        readable = sum(consumer.get_watermark_offsets(each, timeout=10)[1] for each in partitions)
        return readable == counter.count()
    finally:
        consumer.close()
        counter.close()


def _last_outputs(output: str) -> Counts:
    """The count in the last result of each key, in committed transactions if there are any."""
    settings = {"group.id": "bench-read", "isolation.level": "read_committed", "enable.partition.eof": True}
    consumer = Consumer({"bootstrap.servers": bootstrap(), **settings})
    counts: Counts = {}
    try:
        consumer.assign([KafkaPartition(output, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        left = PARTITIONS
        while left:
            for message in consumer.consume(1000, 1.0):
                if message.error() is not None:
                    left -= 1
                    continue
                result = json.loads(message.value() or b"")
                counts[result["id"] % KILL_KEYS] = result["count"]
        return counts
    finally:
        consumer.close()


def _stored(directory: Path) -> Counts:
    """The counts in the recovery store."""
    codec = StateCodec(int)
    counts: Counts = {}
    for stored in read_rows(directory, "counting").rows.values():
        for (_, key), value in stored.row.state.items():
            name = key_of(key)
            assert isinstance(name, int)
            counts[name] = counts.get(name, 0) + codec.decode(value)
    return counts
