"""A producer that goes on writing while a test breaks things."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message, Producer

from drakkar_flow.librdkafka import destroy_in_background

__all__ = ["Feeder"]

_TURN_S = 0.02


class Feeder:
    """Writes the numbers 0, 1, 2 ... as text, round robin over partitions, from a thread, until the block ends.

    After the block every number below `count` was acknowledged by the brokers; once, unless `broker_restarted` was
    called: what was not acknowledged then is written again.

    Args:
        bootstrap: the value of `bootstrap.servers`.
        topic: an existing topic.
        partitions: how many it has.
        rate: numbers per second.
        record: key and value for a number, in place of the number alone; the key decides the partition.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        rate: float,
        record: Callable[[int], tuple[str, str]] | None = None,
    ) -> None:
        self.count = 0
        self._record = record
        self._topic = topic
        self._partitions = partitions
        self._per_turn = max(1, round(rate * _TURN_S))
        self._settings: dict[str, str | int | bool] = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "message.timeout.ms": 120_000,
            "linger.ms": 5,
            "topic.metadata.refresh.interval.ms": 1000,  # partitions may be added
            "log_level": 0,
        }
        self._producer = Producer(self._settings)
        self._life = 0
        self._open: set[int] = set()
        self._errors: list[KafkaError] = []
        self._restarted = threading.Event()
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

    def broker_restarted(self) -> None:
        """Go on with a new producer.

        The only broker of a cluster may answer, while it shuts down, that there are none; librdkafka 2.16 then forgets
        it and never asks `bootstrap.servers` again.
        """
        self._restarted.set()

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_TURN_S)
            if self._restarted.is_set():
                self._restarted.clear()
                self._renew()
            for _ in range(self._per_turn):
                self._write(self.count)
                self.count += 1
            self._producer.poll(0)

    def _renew(self) -> None:
        self._producer.poll(0)
        self._life += 1
        self._producer.purge()
        self._producer.flush(1)  # the reports of what was purged, which count no more
        former = [self._producer]
        self._producer = Producer(self._settings)
        destroy_in_background(former)
        for number in sorted(self._open):
            self._write(number)

    def _write(self, number: int) -> None:
        self._open.add(number)
        reported = partial(self._reported, self._life, number)
        if self._record is None:
            where = number % self._partitions
            self._producer.produce(self._topic, value=str(number), partition=where, on_delivery=reported)
        else:
            key, value = self._record(number)
            self._producer.produce(self._topic, value=value, key=key, on_delivery=reported)

    def _reported(self, life: int, number: int, error: KafkaError | None, _message: Message) -> None:
        if life == self._life:
            self._open.discard(number)
            if error is not None:
                self._errors.append(error)
