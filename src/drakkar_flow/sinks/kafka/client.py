"""Kafka producer for one topic that reports exactly the failed messages; synchronous, for one thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from drakkar_flow.errors import Problem, SinkError, SinkMisconfigured, SinkRejected, StartupError
from drakkar_flow.kernel.bisection import Bisection
from drakkar_flow.kernel.kafka_errors import Severity, is_tls_refusal, is_token_failure, report, severity_of
from drakkar_flow.kernel.redaction import MASK, is_sensitive
from drakkar_flow.librdkafka import destroy_in_background

__all__ = ["KafkaClient", "Outgoing", "TooLarge", "portions", "producer_config"]

Outgoing = dict[str, Any]
"""Message with the names of confluent-kafka's `produce`: `value` and `key` always, `headers`, `partition` and
`timestamp` only when they are set. The client adds more keys."""

CONNECT_TIMEOUT_S = 10.0
_SLICE_S = 1.0
PURGE_TIMEOUT_S = 5.0
_PROPAGATION_S = 10.0
FLUSH_GRACE_S = 10.0
"""Seconds after delivery_timeout_s in which a flush may still run: librdkafka checks for expired messages once a
second."""
MAX_PORTION = 5000
"""Messages handed to librdkafka before their acknowledgements are awaited."""
QUEUE_KBYTES = 64 * 1024
"""Limit of librdkafka's queue; a portion takes at most half of it."""

_SINGLE = frozenset({"headers", "partition", "timestamp"})
"""Keys that produce_batch ignores or refuses: such messages go through produce, one by one."""
# librdkafka's own errors are public, though their names begin with an underscore.
_SPENT = frozenset({KafkaError._STATE, KafkaError._MSG_TIMED_OUT})  # noqa: SLF001
"""Errors after which, as after fatal ones, a producer is replaced."""
_TOO_LARGE = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError._QUEUE_FULL}  # noqa: SLF001
)
_TOGETHER = frozenset(
    {
        *(KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD),
        *(KafkaError.INVALID_MSG, KafkaError.INVALID_TIMESTAMP, KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        *(KafkaError.POLICY_VIOLATION, KafkaError.INVALID_REQUEST, KafkaError.UNKNOWN),
    }
)
"""Errors with which a broker refuses all messages of a request, though one of them is the reason."""
_MISCONFIGURED = frozenset(
    {
        *(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.TOPIC_EXCEPTION),  # noqa: SLF001
        *(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED),
        *(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.INVALID_REQUIRED_ACKS),
    }
)
"""Errors about the topic and our rights, whatever the message."""
_LOGIN = frozenset(
    {
        *(KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED),  # noqa: SLF001
        *(KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.ILLEGAL_SASL_STATE),
    }
)
_REJECTED = _TOGETHER - {KafkaError.UNKNOWN} | frozenset(
    {
        KafkaError._INVALID_ARG,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
_logger = logging.getLogger("drakkar_flow.kafka")


class TooLarge(SinkRejected):
    """Raised for a message that is larger than the client or the broker allows."""


def producer_config(
    brokers: str, client_config: Mapping[str, Any], *, linger_ms: float = 2.0, delivery_timeout_s: float = 30.0
) -> dict[str, Any]:
    """Make librdkafka's properties: `client_config` over our defaults, under the properties of the guarantees.

    >>> producer_config("b:9092", {"compression.type": "lz4"}, delivery_timeout_s=5)["message.timeout.ms"]
    5000
    """
    defaults = {
        "client.id": "drakkar-flow",
        "log_level": 2,  # failures are reported by SinkErrors; librdkafka repeats itself twenty times a second
        "enable.idempotence": True,
        "linger.ms": linger_ms,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": QUEUE_KBYTES,
        # a topic that is deleted is reported as unknown before its messages time out, which says nothing of it
        "topic.metadata.propagation.max.ms": int(min(_PROPAGATION_S, delivery_timeout_s / 3) * 1000),
    }
    fixed = {
        "bootstrap.servers": brokers,
        "message.timeout.ms": int(delivery_timeout_s * 1000),
        "delivery.report.only.error": True,
    }
    return defaults | dict(client_config) | fixed


def portions(messages: Sequence[Outgoing], max_count: int, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut messages into runs of at most `max_count` and `max_bytes` (key and value), at least one each.

    >>> list(portions([{"value": b"12", "key": None}] * 5, max_count=10, max_bytes=4))
    [(0, 2), (2, 4), (4, 5)]
    """
    lengths = [len(message["value"] or b"") + len(message["key"] or b"") for message in messages]
    if 0 < len(messages) <= max_count and sum(lengths) <= max_bytes:
        yield 0, len(messages)
        return
    start = size = 0
    for index, length in enumerate(lengths):
        if index > start and (index - start >= max_count or size + length > max_bytes):
            yield start, index
            start, size = index, 0
        size += length
    if start < len(messages):
        yield start, len(messages)


class KafkaClient:
    """Sends portions of messages and waits for the brokers' answer to each.

    The absence of an error report proves success, for these reasons:

    - Every message carries a callback that is called only if it failed (`delivery.report.only.error`).
    - Reports are served by `flush` alone, and `flush` returns 0 only when librdkafka has served the report of every
      message.
    - So after `flush() == 0` a message without an error report was acknowledged as `acks` demands (all in-sync replicas
      by default).

    librdkafka ends every message within `message.timeout.ms`, acknowledged or failed. If a flush runs out of time
    anyway, the remaining messages are purged, which reports them as failed. If even then reports are missing, or the
    producer met a fatal error, the outcome is unknown: the whole portion counts as failed and the producer is replaced.
    Success is never assumed.

    A message that timed out also replaces the producer. When the last broker of a cluster shuts down in good order, it
    may answer that there are no brokers. librdkafka (2.16) then forgets all brokers and never asks `bootstrap.servers`
    again; only a new producer finds the brokers that came back.

    The callbacks are one fixed set, by position in the portion: a portion ends before the next one begins, and a
    producer that was given up is never polled again.

    Args:
        where: the place of the settings in errors, e.g. `sinks.kafka.results`.
        topic: the topic of all messages.
        config: librdkafka's properties, from `producer_config`.
        make: makes the producer; tests pass their own.
    """

    def __init__(
        self, where: str, topic: str, config: Mapping[str, Any], make: Callable[..., Producer] = Producer
    ) -> None:
        self.where = where
        self.topic = topic
        self._config = dict(config)
        self._delivery_timeout_s = int(config["message.timeout.ms"]) / 1000
        self._make = make
        self._producer: Producer | None = None
        self._given_up: list[Producer] = []
        self._slots: list[Callable[[KafkaError, Any], None]] = []
        self._errors: dict[int, SinkError] = {}
        self._together: set[int] = set()
        self._sending: Sequence[Outgoing] = []
        self._last_error = ""
        self._refuses_login = False
        self._refuses_tls = False

    def connect(self) -> None:
        """Make the producer and check that the topic exists.

        Blocks up to 10 s, or the delivery timeout if shorter.

        Raises:
            StartupError: the brokers can't be reached (exit code 1), the topic is missing or the
                properties are wrong (2).
        """
        if not self._config["bootstrap.servers"]:
            raise self._startup_error("brokers", "no brokers are given", "set kafka.brokers", exit_code=2)
        if str(self._config.get("acks", self._config.get("request.required.acks", "all"))) == "0":
            remedy = "leave acks out, or set it to all or 1"
            raise self._startup_error("client_config", "with acks=0 no broker acknowledges anything", remedy, 2)
        if (callback := self._config.get("oauth_cb")) is not None:
            callback.check(self._config.get("sasl.oauthbearer.config", ""))
        try:
            producer = self._open()
        except (KafkaException, TypeError, ValueError) as error:
            remedy = "see librdkafka's CONFIGURATION.md for the properties"
            raise self._startup_error("client_config", self._shown(report(error)), remedy, exit_code=2) from None
        try:
            self._check_topic(producer, min(CONNECT_TIMEOUT_S, self._delivery_timeout_s))
        except BaseException:
            self.close()
            raise

    def send(self, messages: Sequence[Outgoing]) -> dict[int, SinkError]:
        """Send messages in order and wait until each is acknowledged or failed; returns the failures by index.

        A cause that is a SinkRejected is final. Blocks up to the delivery timeout, for each portion.
        """
        failed: dict[int, SinkError] = {}
        max_count = min(MAX_PORTION, int(self._config["queue.buffering.max.messages"]))
        max_bytes = int(self._config["queue.buffering.max.kbytes"]) * 1024 // 2
        for start, stop in portions(messages, max_count, max_bytes):
            failed |= {start + index: error for index, error in self._send_apart(messages[start:stop]).items()}
        return failed

    def poll(self) -> None:
        """Serve librdkafka's errors and log lines, which wait for a poll; does not block."""
        try:
            if self._producer is not None:
                self._producer.poll(0)
        except KafkaException as error:
            self._give_up(report(error))

    def close(self) -> None:
        """Close the producer; messages it still holds were reported as failed."""
        self._producer = None
        self._destroy_replaced()

    def _open(self) -> Producer:
        self._producer = self._make(self._config | {"error_cb": self._on_error}, logger=_logger)
        return self._producer

    def _check_topic(self, producer: Producer, timeout_s: float) -> None:
        error = self._metadata(producer, timeout_s)
        if error is None or error.code() == KafkaError.LEADER_NOT_AVAILABLE:
            return
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            remedy = "create it: drakkar-flow topics create FLOW; or correct the name"
            raise self._startup_error("topic", f"topic {self.topic!r} does not exist", remedy, 2)
        what = f"topic {self.topic!r} can't be used: {report(error)}"
        raise self._startup_error("topic", what, exit_code=2)

    def _metadata(self, producer: Producer, timeout_s: float) -> KafkaError | None:
        """Return the brokers' metadata of the topic; asks in slices, so that a refused login ends the wait."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            try:
                found = producer.list_topics(self.topic, timeout=max(0.1, min(_SLICE_S, left)))
                error: KafkaError | None = found.topics[self.topic].error
                return error
            except KafkaException as failure:
                self.poll()
                brokers, words = self._config["bootstrap.servers"], self._shown(self._last_error or report(failure))
                if self._refuses_login:
                    what = f"the brokers at {brokers} refuse the login: {words}"
                    raise self._startup_error("security", what, "check mechanism, user and password", 2) from failure
                if self._refuses_tls:
                    what = f"no TLS connection to the brokers at {brokers}: {words}"
                    raise self._startup_error("security", what, exit_code=2) from failure
                if left <= _SLICE_S:
                    what = f"the brokers at {brokers} do not answer: {words}"
                    raise self._startup_error("brokers", what, "start them, or fix the address") from failure

    def _shown(self, text: str) -> str:
        """Return a text of the client without the secrets of its properties."""
        for name, value in self._config.items():
            if value and is_sensitive(name):
                text = text.replace(str(value), MASK)
        return text

    def _startup_error(self, key: str, what: str, remedy: str = "", exit_code: int = 1) -> StartupError:
        return StartupError([Problem(f"{self.where}.{key}", what, remedy)], exit_code=exit_code)

    def _send_apart(self, messages: Sequence[Outgoing]) -> dict[int, SinkError]:
        """Send one portion; a portion refused as a whole is sent again in parts until the bad message is found."""
        failed = self._send(messages)
        if len(messages) == 1 or not self._together:
            return failed
        search = Bisection(sorted(self._together))
        while trial := search.trial:
            errors = {trial[position]: error for position, error in self._send([messages[i] for i in trial]).items()}
            together = [trial[position] for position in sorted(self._together)]
            for index in trial:
                failed.pop(index, None)
            failed |= errors
            search.bad(together) if together else search.good()
        return failed

    def _send(self, messages: Sequence[Outgoing]) -> dict[int, SinkError]:
        """Send one portion: it starts and ends with an empty librdkafka queue."""
        errors = self._errors = {}
        self._together = set()
        self._sending = messages
        self._last_error = ""
        self._destroy_replaced()
        left, reason = len(messages), "the producer failed"
        try:
            producer = self._producer or self._open()
            self._enqueue(producer, messages)
            left = producer.flush(self._delivery_timeout_s + FLUSH_GRACE_S)
            if left:
                reason = f"{left} messages were neither acknowledged nor refused in time"
                producer.purge()
                left = producer.flush(PURGE_TIMEOUT_S)
                self._give_up(reason)
        except KafkaException as error:
            self._give_up(reason := report(error))
        if left:
            return {index: SinkError(f"the outcome is unknown: {reason}") for index in range(len(messages))}
        return errors

    def _enqueue(self, producer: Producer, messages: Sequence[Outgoing]) -> None:
        while len(self._slots) < len(messages):
            self._slots.append(partial(self._on_report, len(self._slots)))
        for message, slot in zip(messages, self._slots, strict=False):
            message["callback"] = slot
        start = 0
        for together, run in groupby(map(_SINGLE.isdisjoint, messages)):
            stop = start + sum(1 for _ in run)
            if together:
                self._enqueue_together(producer, list(messages[start:stop]), start)
            else:
                for index in range(start, stop):
                    self._enqueue_one(producer, messages[index], index)
            start = stop

    def _enqueue_together(self, producer: Producer, batch: list[Outgoing], start: int) -> None:
        if producer.produce_batch(self.topic, batch) < len(batch):
            for index, message in enumerate(batch, start):
                if (error := message.pop("_error", None)) is not None:
                    self._on_report(index, error, None)

    def _enqueue_one(self, producer: Producer, message: Outgoing, index: int) -> None:
        try:
            producer.produce(self.topic, **message)
        except KafkaException as error:
            self._on_report(index, error.args[0], None)
        except BufferError as error:
            self._errors[index] = TooLarge(f"{error}; see queue.buffering.max.kbytes")
        except Exception as error:  # any objection of the client to its parts
            self._errors[index] = SinkRejected(f"the message can't be produced: {error}")

    def _on_report(self, index: int, error: KafkaError | None, _message: Any) -> None:
        if error is None:
            return
        if error.code() in _TOGETHER:
            self._together.add(index)
        if severity_of(error) is Severity.FATAL or error.code() in _SPENT:
            self._give_up(report(error))
        self._errors[index] = self._as_sink_error(error, chosen="partition" in self._sending[index])

    def _as_sink_error(self, error: KafkaError, *, chosen: bool) -> SinkError:
        text = f"topic {self.topic}: {report(error)}"
        if error.code() in _TOO_LARGE:
            return TooLarge(f"{text}; see message.max.bytes of the topic and of the client")
        lost = error.code() == KafkaError._UNKNOWN_PARTITION and not chosen  # noqa: SLF001 - the topic is gone
        if error.code() in _MISCONFIGURED or lost:
            return SinkMisconfigured(text, f"create the topic, or allow this client to write to {self.topic}")
        if error.code() in _REJECTED:
            return SinkRejected(text)
        return SinkError(f"{text}; last error of the client: {self._last_error}" if self._last_error else text)

    def _on_error(self, error: KafkaError) -> None:
        if error.name() != "_ALL_BROKERS_DOWN" or not self._last_error:  # which gives no cause
            self._last_error = report(error)
        refused = error.code() in _LOGIN and not is_token_failure(error)
        self._refuses_login = self._refuses_login or refused
        self._refuses_tls = self._refuses_tls or is_tls_refusal(error)

    def _give_up(self, reason: str) -> None:
        """Let the next portion begin with a new producer."""
        if self._producer is not None:
            expect = "unacknowledged messages are tried again with a new producer"
            _logger.error("producer_given_up", extra={"where": self.where, "reason": reason, "expect": expect})
            self._given_up.append(self._producer)
            self._producer = None

    def _destroy_replaced(self) -> None:
        """Destroy the producers that were given up, now that no call uses them."""
        if self._given_up:
            destroy_in_background(self._given_up)
            self._given_up = []
