"""State across partitions: two processes apart, as a cluster, and as one that exchanges records; the wire alone."""

from __future__ import annotations

import pickle
import socket
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.bench import Counter, fill, make_topic, median, process
from drakkar_flow.kernel.columns import pack, payloads_of, records_of
from drakkar_flow.model.outcome import Ack
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.across.home import Away, slim

RECORDS = 400_000
ROUNDS = 3
PROCESSES = 2
MODULE = "benchmarks.workers.exchange_style"
_LOOK_S = 0.05
_TIMEOUT_S = 300
_CHUNK = 500  # records that a process sends to another in one message
_WIRE_CHUNKS = 200


@dataclass
class Run:
    """Messages per second, and CPU of all processes per message in microseconds, between 10 % and 90 %."""

    rate: float
    cpu_us: float


def measure() -> dict[str, object]:
    whole, halves = make_topic("in"), [make_topic("in") for _ in range(PROCESSES)]
    fill(whole, RECORDS)
    for half in halves:
        fill(half, RECORDS // PROCESSES)
    runs: dict[str, list[Run]] = {"apart": [], "cluster": [], "exchange": []}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(ROUNDS):
            store = str(Path(directory) / uuid.uuid4().hex[:8])
            apart = [(half, {"BENCH_STORE": f"{store}-{number}"}) for number, half in enumerate(halves)]
            runs["apart"].append(_run(apart))
            runs["cluster"].append(_run(_cluster(whole, f"{store}-cluster")))
            runs["exchange"].append(_run(_cluster(whole, f"{store}-exchange", BENCH_ACROSS="1")))
    pairs = list(zip(runs["apart"], runs["cluster"], runs["exchange"], strict=True))
    return {
        "records": RECORDS,
        "processes": PROCESSES,
        **{f"{name}_per_s": round(median([run.rate for run in found])) for name, found in runs.items()},
        **{f"{name}_cpu_us": round(median([run.cpu_us for run in found]), 1) for name, found in runs.items()},
        "cluster_ratio": round(median([cluster.rate / apart.rate for apart, cluster, _ in pairs]), 2),
        "cluster_limit": 0.9,
        "exchange_ratio": round(median([exchange.rate / cluster.rate for _, cluster, exchange in pairs]), 2),
        "exchange_cpu_us_added": round(median([exchange.cpu_us - cluster.cpu_us for _, cluster, exchange in pairs]), 1),
        "wire_cpu_us": round(median([_wire() for _ in range(ROUNDS)]), 2),
        "wire_limit_us": 6,
    }


def _cluster(source: str, store: str, **env: str) -> list[tuple[str, dict[str, str]]]:
    places = ";".join(_addresses())
    shared = {"BENCH_STORE": store, "BENCH_ADDRESSES": places, **env}
    return [(source, {**shared, "BENCH_PROCESS": str(number)}) for number in range(PROCESSES)]


def _addresses() -> list[str]:
    with ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(PROCESSES)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


def _run(started: list[tuple[str, dict[str, str]]]) -> Run:
    """Run processes until their output topic has all messages."""
    output = make_topic("out")
    counter = Counter(output)
    marks: list[tuple[float, int, float]] = [(time.perf_counter(), 0, 0.0)]
    with ExitStack() as held:
        children = [
            psutil.Process(held.enter_context(process(MODULE, source, output, 0, env=env)).pid)
            for source, env in started
        ]
        while marks[-1][1] < RECORDS:
            time.sleep(_LOOK_S)
            cpu = sum(sum(child.cpu_times()[:2]) for child in children)
            marks.append((time.perf_counter(), counter.count(), cpu))
            if marks[-1][0] - marks[0][0] > _TIMEOUT_S:
                raise SystemExit(f"{MODULE}: {marks[-1][1]} of {RECORDS} messages after {_TIMEOUT_S} s")
    counter.close()
    low = next(mark for mark in marks if mark[1] >= RECORDS * 0.1)
    high = next(mark for mark in marks if mark[1] >= RECORDS * 0.9)
    count = high[1] - low[1]
    return Run(count / (high[0] - low[0]), (high[2] - low[2]) / count * 1e6)


class _Payload(msgspec.Struct):
    id: int
    name: str
    score: float
    tags: list[str]


def _wire() -> float:
    """CPU per record of 100 bytes on its way to another process and home, both sides together, in microseconds."""
    chunks = [[_record(number * _CHUNK + each) for each in range(_CHUNK)] for number in range(_WIRE_CHUNKS)]
    away = Away()
    started = time.process_time()
    for records in chunks:
        message = pack(records)
        away.add(records)
        arrived: Any = pickle.loads(pickle.dumps(message))
        guests = records_of(arrived)
        for guest, payload in zip(guests, payloads_of(arrived) or [], strict=True):
            guest.payload = payload
        returned = pickle.loads(pickle.dumps(slim([Ack(guest, guest.credit) for guest in guests])))
        away.returned(returned)
    return (time.process_time() - started) / (_CHUNK * _WIRE_CHUNKS) * 1e6


def _record(number: int) -> Record[_Payload]:
    payload = _Payload(number, "abcdefghijklmnopqrstuvwxyz", 1.25, ["a", "b"])
    value = b'{"id":%d,"name":"abcdefghijklmnopqrstuvwxyz","score":1.25,"tags":["a","b"],"sent_at":0.0}' % number
    key, partition = b"%d" % number, number // 100 % 4
    return Record("in", partition, number, value, key, payload=payload, shard=7, state_key=str(number))
