"""One small interface to the testing kit and to the real runtime on a real Kafka, so that one test runs on both."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from confluent_kafka import Producer

from drakkar_flow import StreamingRunner
from drakkar_flow.model.codec import encode
from drakkar_flow.observe.events.base import Event
from drakkar_flow.sinks.dead_letter_messages import dead_letter_messages
from drakkar_flow.testing import FlowHarness
from support.kafka_io import committed, end_offsets, read_all
from support.names import unique
from support.until import until

__all__ = ["KafkaRuntime", "KitRuntime", "Letter", "Runtime"]

_CONNECT = "__connect.errors."


class Letter(NamedTuple):
    """What a dead letter says."""

    value: Any
    stage: str
    partition: str
    offset: str
    exit_code: int | None


class Runtime(Protocol):
    """What a test does with a flow and sees of it. There is one sink, `kafka` `out`."""

    def start(self, flow: Any) -> None:
        """Begin the flow's next life, read on from what is committed."""

    def send(self, *values: bytes | str | None, key: str | None = None, partition: int = 0) -> None:
        """Write messages; also while the flow is down."""

    def settle(self) -> None:
        """Wait until everything sent is committed."""

    def until_failed(self) -> None:
        """Wait until the flow has failed."""

    def stop(self) -> str | None:
        """Drain the flow, or wait for its end by itself; returns why it failed."""

    @property
    def values(self) -> list[Any]:
        """What was delivered, in order."""

    @property
    def keys(self) -> list[str | None]:
        """The keys of what was delivered, in order."""

    @property
    def letters(self) -> list[Letter]:
        """The dead letters, in order."""

    @property
    def committed(self) -> dict[int, int]:
        """The next offset to read by partition, where that is not 0."""

    @property
    def events(self) -> list[Event]:
        """Everything that was told, all lives of the flow together."""

    def close(self) -> None:
        """End the flow, if it still runs."""


def _value(value: bytes | None) -> Any:
    """What a message holds: JSON, or else text."""
    try:
        return json.loads(value or b"null")
    except ValueError:
        return (value or b"").decode()


def _letter(value: bytes | None, headers: Any) -> Letter:
    told = {name: (text or b"").decode() for name, text in headers}
    task = json.loads(told["drakkar.task"]) if "drakkar.task" in told else {}
    stage, partition, offset = (told.get(_CONNECT + name, "") for name in ("stage", "partition", "offset"))
    shown = _value(value)
    if isinstance(shown, dict) and "original_payloads" in shown:
        shown = {name: shown[name] for name in ("sink_type", "sink_name", "error", "partition", "attempt_count")}
    return Letter(shown, stage, partition, offset, task.get("exit_code"))


class KitRuntime:
    """The testing kit, with real programs and in real time."""

    def __init__(self, settings: Mapping[str, Any], partitions: int) -> None:
        config = {**settings, "sinks": {"kafka": {"out": {"topic": "out", "retry": _RETRY}}}}
        self._settings: dict[str, Any] = {"config": config, "partitions": partitions, "real_programs": True}
        self._kit: FlowHarness | None = None

    @property
    def kit(self) -> FlowHarness:
        assert self._kit is not None
        return self._kit

    def start(self, flow: Any) -> None:
        if self._kit is None:
            self._kit = FlowHarness(flow, **self._settings)
        self._kit.restart(flow)

    def send(self, *values: bytes | str | None, key: str | None = None, partition: int = 0) -> None:
        for value in values:
            self.kit.send(value, key=key, partition=partition)

    def settle(self) -> None:
        self.kit.wait_acknowledged()

    def stop(self) -> str | None:
        self.kit.stop()
        return self.kit.failure

    def until_failed(self) -> None:
        """Wait until the flow has ended by itself."""
        self.kit.wait_for(lambda: self.kit.failure)

    @property
    def values(self) -> list[Any]:
        return [_value(encode(value)) for value in self.kit.values]

    @property
    def keys(self) -> list[str | None]:
        return [key.decode() if isinstance(key, bytes) else key for key in (each.key for each in self.kit.payloads())]

    @property
    def letters(self) -> list[Letter]:
        messages = [message for each in self.kit.dead_letters for message in dead_letter_messages(each, 0.0)]
        return [_letter(message.value, message.headers) for message in messages]

    @property
    def committed(self) -> dict[int, int]:
        return {number: offset for (_, number), offset in self.kit.committed.items() if offset}

    @property
    def events(self) -> list[Event]:
        return self.kit.events

    def close(self) -> None:
        """End the flow."""
        if self.kit.running:
            self.kit.stop()


_RETRY = {"attempts": 2, "initial_s": 0.01, "max_s": 0.01}


class KafkaRuntime:
    """A runner on a thread of this process, on topics of its own."""

    def __init__(self, bootstrap: str, source: str, out: str, dlq: str, settings: Mapping[str, Any]) -> None:
        self._bootstrap, self._source, self._out, self._dlq = bootstrap, source, out, dlq
        self._group = unique("group")
        self._settings = {
            **settings,
            "kafka": {"brokers": bootstrap, "source_topic": source, "consumer_group": self._group},
            "sinks": {"kafka": {"out": {"topic": out, "retry": _RETRY}}},
            "dlq": {"topic": dlq},
            "runtime": {"commit_interval_s": 0.05, **settings.get("runtime", {})},
            "metrics": {"enabled": False},
        }
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._runner: StreamingRunner | None = None
        self._thread: threading.Thread | None = None
        self._errors: list[BaseException] = []
        self.events: list[Event] = []

    def start(self, flow: Any) -> None:
        self._runner = StreamingRunner.from_dict(flow, self._settings, own_signals=False, own_logging=False)
        for kind in Event.__subclasses__():
            self._runner._life._bus.listen(kind, self.events.append)
        self._thread = threading.Thread(target=self._run, args=(self._runner,), name="runtime-under-test")
        self._thread.start()

    def _run(self, runner: StreamingRunner) -> None:
        try:
            runner.run()
        except BaseException as exc:  # told by the test's thread
            self._errors.append(exc)

    def send(self, *values: bytes | str | None, key: str | None = None, partition: int = 0) -> None:
        for value in values:
            self._producer.produce(self._source, value=value, key=key, partition=partition)
        assert self._producer.flush(20) == 0

    def settle(self) -> None:
        ends = {number: end for number, end in end_offsets(self._bootstrap, self._source).items() if end}

        def done() -> bool:
            assert not self._errors, self._errors
            return self.committed == ends

        until(done, 60, f"commits to reach {ends}", poll_s=0.05)

    def stop(self) -> str | None:
        assert self._runner is not None
        self._runner.shutdown()
        self._join()
        return self._runner.failure

    def until_failed(self) -> None:
        """Wait until the flow has ended by itself."""
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join(60)
            assert not self._thread.is_alive()
        assert not self._errors, self._errors

    @property
    def values(self) -> list[Any]:
        return [_value(message.value()) for message in read_all(self._bootstrap, self._out)]

    @property
    def keys(self) -> list[str | None]:
        return [key.decode() if key else None for key in (each.key() for each in read_all(self._bootstrap, self._out))]

    @property
    def letters(self) -> list[Letter]:
        return [_letter(each.value(), each.headers() or []) for each in read_all(self._bootstrap, self._dlq)]

    @property
    def committed(self) -> dict[int, int]:
        found = committed(self._bootstrap, self._group, self._source)
        return {number: offset for number, offset in found.items() if offset}

    def close(self) -> None:
        """End the flow."""
        if self._runner is not None:
            self._runner.shutdown()
        self._join()
