"""Writer thread between the event loop and a Kafka producer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import anyio.to_thread

from drakkar_flow.errors import SinkError, SinkNotConnected
from drakkar_flow.sinks.kafka.client import KafkaClient, Outgoing

__all__ = ["KafkaWriter"]

MAX_WAITING = 64
"""Batches that wait for the thread; further writers wait in the event loop."""
MERGE_MESSAGES = 2000
"""Messages that are sent together, about; twice as many cost a sixth more CPU."""
IDLE_POLL_S = 2.0
"""Seconds between two polls of the client's errors and log lines by an idle thread."""

_logger = logging.getLogger("drakkar_flow.kafka")


class Batch(NamedTuple):
    messages: list[Outgoing]
    done: asyncio.Future[dict[int, SinkError]]


class KafkaWriter:
    """Writes batches of messages to one topic; one thread owns the producer.

    The thread takes every waiting batch, sends them together, waits for all acknowledgements and wakes the event loop
    once: per-message callbacks across threads cost several times the CPU of the messages themselves. Batches are sent
    in the order of the `write` calls.

    Args:
        where: the place of the settings in errors, e.g. `sinks.kafka.results`.
        topic: the topic of all messages.
        config: librdkafka's properties, from `producer_config`.
    """

    def __init__(self, where: str, topic: str, config: Mapping[str, Any]) -> None:
        self._where = where
        self._topic = topic
        self._config = config
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def connect(self) -> None:
        """Connect to the brokers, find the topic, start the thread; does nothing when connected.

        Raises:
            StartupError: the brokers can't be reached (exit code 1), the topic is missing or the
                properties are wrong (2).
        """
        if self._thread is not None:
            return
        client = KafkaClient(self._where, self._topic, self._config)
        await anyio.to_thread.run_sync(client.connect, abandon_on_cancel=True)
        self._loop = asyncio.get_running_loop()
        self._waiting = queue.SimpleQueue()
        # A daemon, so that a process that aborts does not wait for a broker that is gone.
        self._thread = threading.Thread(
            target=self._run, args=(client, self._waiting, self._loop), name=f"kafka-writer:{self._topic}", daemon=True
        )
        self._thread.start()

    async def write(self, messages: list[Outgoing]) -> dict[int, SinkError]:
        """Write messages in order; returns the failures by index once every message is acknowledged or failed.

        The writer keeps `messages` and adds keys to them. A cancelled call may still write them.

        Raises:
            SinkNotConnected: before `connect`, or after `close`.
        """
        async with self._room:
            if self._thread is None or self._loop is None:
                raise SinkNotConnected(f"{self._where} is not connected; connect() comes first")
            if not messages:
                return {}
            done: asyncio.Future[dict[int, SinkError]] = self._loop.create_future()
            self._waiting.put(Batch(messages, done))
            return await done

    async def close(self) -> None:
        """Write waiting messages, within the delivery timeout, and end the thread; safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            await anyio.to_thread.run_sync(thread.join, abandon_on_cancel=True)

    def _run(
        self, client: KafkaClient, waiting: queue.SimpleQueue[Batch | None], loop: asyncio.AbstractEventLoop
    ) -> None:
        while True:
            try:
                first = waiting.get(timeout=IDLE_POLL_S)
            except queue.Empty:
                client.poll()
                continue
            batches, closing = merge(first, waiting)
            if batches:
                outcomes = send(client, batches)
                with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits any more
                    loop.call_soon_threadsafe(_resolve, batches, outcomes)
            if closing:
                client.close()
                return


def merge(first: Batch | None, waiting: queue.SimpleQueue[Batch | None]) -> tuple[list[Batch], bool]:
    """Return the waiting batches after `first`; the flag is True if the end was reached."""
    batches: list[Batch] = []
    count = 0
    current = first
    while current is not None:
        batches.append(current)
        count += len(current.messages)
        if count >= MERGE_MESSAGES:
            return batches, False
        try:
            current = waiting.get_nowait()
        except queue.Empty:
            return batches, False
    return batches, True


def send(client: KafkaClient, batches: list[Batch]) -> list[dict[int, SinkError]]:
    """Send batches together and return the failures of each."""
    messages = batches[0].messages if len(batches) == 1 else [each for batch in batches for each in batch.messages]
    try:
        failed = client.send(messages)
    except Exception as error:
        _logger.exception("producer_failed", extra={"expect": "its messages are tried again"})
        failed = {index: SinkError(f"sending failed: {error!r}") for index in range(len(messages))}
    outcomes = []
    start = 0
    for batch in batches:
        stop = start + len(batch.messages)
        outcomes.append(
            {index - start: failed[index] for index in range(start, stop) if index in failed} if failed else {}
        )
        start = stop
    return outcomes


def _resolve(batches: list[Batch], outcomes: list[dict[int, SinkError]]) -> None:
    for batch, outcome in zip(batches, outcomes, strict=True):
        if not batch.done.done():
            batch.done.set_result(outcome)
