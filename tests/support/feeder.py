"""A producer that goes on writing while a test breaks things."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

__all__ = ["Feeder"]

_TURN_S = 0.02


class Feeder:
    """Writes the numbers 0, 1, 2 ... as text, round robin over partitions, from a thread, until the block ends.

    After the block every number below `count` was acknowledged by the brokers, once.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        topic: an existing topic.
        partitions: how many it has.
        rate: numbers per second.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, rate: float) -> None:
        self.count = 0
        self._topic = topic
        self._partitions = partitions
        self._per_turn = max(1, round(rate * _TURN_S))
        # Librdkafka keeps each number until a broker has it, also over a restart of the broker.
        settings = {"enable.idempotence": True, "message.timeout.ms": 120_000, "linger.ms": 5, "log_level": 0}
        self._producer = Producer({"bootstrap.servers": bootstrap, **settings})
        self._errors: list[KafkaError] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        left = self._producer.flush(60)
        if error is None:
            assert not left, f"{left} numbers were not acknowledged"
            assert not self._errors, f"{len(self._errors)} numbers failed, the first with {self._errors[0]}"

    def _run(self) -> None:
        while not self._over.wait(_TURN_S):
            for _ in range(self._per_turn):
                partition = self.count % self._partitions
                self._producer.produce(
                    self._topic, value=str(self.count), partition=partition, on_delivery=self._reported
                )
                self.count += 1
            self._producer.poll(0)

    def _reported(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._errors.append(error)
