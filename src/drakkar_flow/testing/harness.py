"""Test harness: a flow that a test feeds, observes, crashes and restarts, without Kafka and without real waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from drakkar_flow.cache.cache import WorkerCache
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.entrypoint import listeners_of, stream_of
from drakkar_flow.executor.base import Executor
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.partition_row import decode_shard
from drakkar_flow.kernel.shards import shard_at
from drakkar_flow.model.outcome import Failure
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.model.state import UserKey
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.listeners import Listener
from drakkar_flow.testing.ack_log import AckLog, Sent
from drakkar_flow.testing.clock import FakeClock
from drakkar_flow.testing.executor import ScriptedExecutor
from drakkar_flow.testing.log import MemoryLog
from drakkar_flow.testing.outcome import Outcome
from drakkar_flow.testing.parts_of import cache_in_memory, executor_of, sinks_of
from drakkar_flow.testing.run import FlowRun
from drakkar_flow.testing.sinks import MemoryDeadLetters, MemorySink
from drakkar_flow.testing.state import FinalState

__all__ = ["FlowHarness"]

T = TypeVar("T")
E = TypeVar("E", bound=Event)

_WAIT_S = 20.0
_TOLD = 50  # of each list in a report: its end shows the error


class FlowHarness:
    """Runs a flow or a handler as a worker does, with Kafka, the programs, the sinks and the clock in memory.

    The block begins with a running flow and ends it.

    - `config` is a DrakkarConfig or a mapping of the same form as the YAML file.
    - Sinks that the flow or the configuration names are made; a flow without any gets `kafka-out`.
    - `executor` is a ScriptedExecutor unless another one is given.
    - `topic` is the first one that the flow reads, else `input`.
    - With `clock="fake"` retries, lingers, timeouts and other pauses on the event loop run on `kit.clock`, which jumps
      to the next timer while the test waits and nothing else can happen.
    - With `clock="real"` the pauses between retries are 1 ms long.
    - `real_programs` runs the programs of the configuration, in real time.
    - `listeners` receive the events of each run (`drakkar_flow.events`), after those that `dataflow` got. All events of
      a run are handled when it has ended.

    >>> with FlowHarness(StreamFlow("double").decode(int).map(lambda n: n * 2).route()) as kit:
    ...     message = kit.send(21)
    ...     kit.wait_acknowledged(message)
    ...     kit.values, kit.committed, message.status.value
    ([42], {('input', 0): 1}, 'done')
    """

    def __init__(
        self,
        flow: Any,
        *,
        config: DrakkarConfig | Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        sinks: Iterable[MemorySink] = (),
        dead_letters: MemoryDeadLetters | None = None,
        partitions: int = 1,
        topic: str = "",
        clock: Literal["fake", "real"] = "fake",
        real_programs: bool = False,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.flow = stream_of(flow)
        self._listeners = [*listeners_of(flow), *listeners]
        self.config = config if isinstance(config, DrakkarConfig) else from_mapping(config or {})
        self.dead_letter_topic = dead_letters or MemoryDeadLetters()
        self._given_sinks = list(sinks)
        self._known_sinks: dict[str, MemorySink] = {}
        self.sinks = sinks_of(self.flow, self.config, self._given_sinks, self._known_sinks)
        self.log = MemoryLog(partitions=partitions, topic=topic or _topic_of(self.flow))
        self.sent: list[Sent] = []
        self._executor = executor_of(self.flow, self.config, executor)
        self._real_programs = real_programs
        self._clock = FakeClock() if clock == "fake" and not real_programs else None
        self._receipts = AckLog()
        self._past: list[Event] = []
        self._run: FlowRun | None = None
        self._failure: str | None = None
        self._cache = cache_in_memory(self.config, self._clock)

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._failure = self._run.failure
            self._end(kind, exc, trace)

    # --- input ----------------------------------------------------------------------------------

    def send(
        self,
        value: Any,
        *,
        key: bytes | str | None = None,
        partition: int | None = None,
        topic: str = "",
        headers: Mapping[str, bytes | str] | Iterable[tuple[str, bytes]] | None = None,
        timestamp: int = -1,
    ) -> Sent:
        """Write one message to the topic, as a producer would; also while the flow is down.

        Bytes are sent as they are, text as UTF-8, None as a tombstone, anything else as JSON. Messages without a
        `partition` go to the partitions in turn, whatever their key. `timestamp` is in ms since the epoch.
        """
        details: dict[str, Any] = {
            "key": key.encode() if isinstance(key, str) else key,
            "timestamp": timestamp,
            "headers": _headers(headers),
            "is_tombstone": value is None,
        }
        body = b"" if value is None else value
        write = self.log.append if self._run is None else self._run.reader.send
        record = write(body, topic=topic, partition=partition, **details)
        sent = Sent(record.topic, record.partition, record.offset, self._receipts)
        self.sent.append(sent)
        return sent

    def send_all(self, values: Iterable[Any], **details: Any) -> list[Sent]:
        """Send several messages, each as `send` does."""
        return [self.send(value, **details) for value in values]

    # --- waiting --------------------------------------------------------------------------------

    def wait_acknowledged(self, *messages: Sent, timeout_s: float = _WAIT_S) -> None:
        """Wait until messages are acknowledged, by default all that were sent to an assigned partition.

        A message is acknowledged when each of its results is delivered, skipped on purpose or a dead letter. Without
        arguments all messages are also committed.

        Raises:
            AssertionError: after `timeout_s` real seconds, or when the flow has ended; lists the unfinished work.
        """
        run = self._present
        wanted = messages or [message for message in self.sent if message.topic_partition in run.reader.assigned]

        def all_safe() -> bool:
            committed = bool(messages) or self.log.all_committed(run.reader.assigned)
            return committed and all(message.acknowledged for message in wanted)

        try:
            run.wait_until(all_safe, timeout_s)
        except AssertionError as exc:
            labels = ", ".join(message.label for message in wanted if not message.acknowledged) or "none"
            raise AssertionError(f"not acknowledged: {labels}; {exc}") from None

    def wait_for(self, condition: Callable[[], T], timeout_s: float = _WAIT_S) -> T:
        """Wait until `condition` returns a true value, and return it. The condition is checked after every event.

        Raises:
            AssertionError: after `timeout_s` real seconds, or when the flow has ended; lists the unfinished work.
        """
        return self._present.wait_until(condition, timeout_s)

    # --- results --------------------------------------------------------------------------------

    @property
    def deliveries(self) -> dict[str, list[Any]]:
        """Payloads written, in order, by the id of the sink (`kafka-results`)."""
        return {sink_id: list(sink.payloads) for sink_id, sink in self.sinks.items()}

    def payloads(self, kind: str = "kafka", name: str = "", *, key: bytes | str | None = None) -> list[Any]:
        """Return the payloads written to one sink, with `key` those of that key; see Outcome.payloads."""
        return self.outcome().payloads(kind, name, key=key)

    @property
    def values(self) -> list[Any]:
        """Data of every payload, sink by sink, in the order each sink wrote them."""
        return self.outcome().values

    @property
    def committed(self) -> dict[TopicPartition, int]:
        """Next offset to read, by (topic, partition)."""
        return dict(self.log.committed)

    def state(self, key: UserKey, *, step: str = "", partition: int | None = None) -> Any:
        """Return the final value of a key, as the type of its step; None if it has none.

        While the flow runs, values of finished records count; while it is down, committed ones.

        `step` may stay empty if one step has state; state of a handler has the step "handler".

        Raises:
            AssertionError: the step is unknown, or several steps or partitions match.
        """
        return self._final_state().value(key, step, partition)

    def _final_state(self) -> FinalState:
        if self._run is not None:
            stored = self._run.final_state()
        else:
            stored = {topic_partition: row.state for topic_partition, row in self.log.rows.items()}
            stored |= {shard_at(shard): decode_shard(row) for shard, row in self.log.shards.items()}
        return FinalState(self.flow, stored, time.time() if self._clock is None else self._clock.time())

    @property
    def dead_letters(self) -> list[Failure]:
        """Failures written to the dead letter topic."""
        return list(self.dead_letter_topic.letters)

    @property
    def events(self) -> list[Event]:
        """All events of the bus, of all runs of the flow."""
        return [*self._past, *(self._run.events if self._run is not None else ())]

    def letters(
        self, *, kind: str = "", stage: str = "", error: str = "", message: Sent | None = None
    ) -> list[Failure]:
        """Return the dead letters of a kind, of a step, with a part of the error, or of a message that was sent."""
        return self.outcome().letters(kind=kind, stage=stage, error=error, message=message)

    def of(self, kind: type[E], /, **fields: Any) -> list[E]:
        """Return the events of one type, in order; with `fields` those whose fields have these values."""
        return self.outcome().of(kind, **fields)

    def check(self, **expected: Any) -> None:
        """Compare the results with an expectation in the form of `expect:` in a YAML case; see Outcome.check.

        Raises:
            AssertionError: the results differ; lists every difference.
        """
        self.outcome().check(**expected)

    @property
    def failures(self) -> list[RecordsFailed]:
        """Failures in the steps: kind, step, partition, error, and the first record's label."""
        return self.of(RecordsFailed)

    @property
    def failure(self) -> str | None:
        """Reason why the flow stopped by itself, None if it did not."""
        return self._run.failure if self._run is not None else self._failure

    @property
    def running(self) -> bool:
        """True if a run of the flow has begun that was neither stopped nor crashed; it may have ended by itself."""
        return self._run is not None

    @property
    def executor(self) -> ScriptedExecutor:
        """Scripted executor: the given one, or the one that was made instead."""
        assert isinstance(self._executor, ScriptedExecutor), (
            "the flow has no scripted executor: it executes no task, or runs with the given executor"
        )
        return self._executor

    @property
    def clock(self) -> FakeClock:
        """Clock of the flow."""
        assert self._clock is not None, "the kit has no clock: it was made with clock='real'"
        return self._clock

    @property
    def cache(self) -> WorkerCache:
        """Cache of the flow: in memory, on the kit's clock, and kept between runs, but for the scope MEMORY."""
        assert self._cache is not None, "the flow has no cache: its configuration says cache.enabled: false"
        return self._cache

    def outcome(self) -> Outcome:
        """Return all results in one value, as `run_flow` does."""
        state = self._final_state().plain()
        return Outcome(self.deliveries, self.committed, self.dead_letters, self.events, self.failure, state)

    def report(self) -> str:
        """Return messages sent, their results, and unfinished work: for the report of a failed test."""
        lines = _listed("sent", (f"{message.label} {message.status or 'open'}" for message in self.sent))
        for sink_id, payloads in self.deliveries.items():
            lines += _listed(f"delivered to {sink_id}", payloads)
        lines += _listed("dead letters", (f"{each.kind} in {each.stage}: {each.error}" for each in self.dead_letters))
        lines.append(f"committed: {self.committed}")
        if self._run is not None:
            lines.append(self._run.report())
        return "\n".join(lines + _listed("events", self.events))

    # --- runs of the flow -------------------------------------------------------------------------

    def revoke(self, *partitions: int, topic: str = "", drain_s: float = 0.0) -> int:
        """Take partitions away, by default all; returns the number of records unfinished after `drain_s` seconds.

        Their records in flight are neither delivered nor committed any more.
        """
        self._check_revocable()
        return self._present.revoke(self._topic_partitions(partitions, topic), drain_s)

    def assign(self, *partitions: int, topic: str = "") -> None:
        """Give partitions back, by default all: they are read from their committed offsets."""
        self._present.reader.assign(self._topic_partitions(partitions, topic))

    def lose(self, *partitions: int, topic: str = "") -> None:
        """Lose partitions to another member without notice, by default all, as after a long silence.

        None of their records is delivered or committed any more; `on_revoke` is called.
        """
        self._check_revocable()
        self._present.reader.lose(self._topic_partitions(partitions, topic))

    def hold_commits(self) -> None:
        """Hold commits back until `let_commits_go` or the partition leaves; a crash repeats records finished since."""
        self.log.hold_commits()

    def let_commits_go(self) -> None:
        """Make the commits that were held back."""
        if self._run is not None:
            self._run.reader.let_commits_go()
        else:
            self.log.let_commits_go()

    def finish(self, timeout_s: float = _WAIT_S) -> Outcome:
        """End the input, wait until the flow has ended by itself, and return its outcome.

        Raises:
            AssertionError: the flow has not ended after `timeout_s` real seconds, or it broke; lists unfinished work.
        """
        run = self._present
        run.reader.end()
        self._failure = run.finish(timeout_s).failure
        self._end(None, None, None)
        return self.outcome()

    def stop(self, timeout_s: float = _WAIT_S) -> None:
        """Drain the flow as SIGTERM does, and wait for its end; `restart` begins the next run.

        Raises:
            AssertionError: the flow has not ended after `timeout_s` real seconds, or it broke.
        """
        run = self._present
        run.stop()
        self._failure = run.finish(timeout_s).failure
        self._end(None, None, None)

    def crash(self) -> None:
        """Kill the flow as SIGKILL does: records in flight and held commits are lost; `restart` begins the next run.

        Sinks keep earlier deliveries.
        """
        run = self._present
        self._failure = run.failure
        run.crash()
        self.log.forget_held()
        self._receipts.forget_uncommitted(self.log)
        self._end(None, None, None)

    def restart(self, flow: Any = None, *, hold_commits: bool = False) -> None:
        """Begin a new run of the flow, which reads on from the committed offsets; stops the flow first if it runs.

        With `flow` the next run is another version of it. With `hold_commits` commits are held back from its start:
        later may be too late, because the records that are read again are committed at once.
        """
        if self._run is not None:
            self.stop()
        if hold_commits:
            self.hold_commits()
        if flow is not None:
            self.flow = stream_of(flow)
        run = FlowRun(
            self.flow,
            sinks=self._given_sinks,
            known_sinks=self._known_sinks,
            executor=self._executor,
            dead_letters=self.dead_letter_topic,
            config=self.config,
            open_end=True,
            clock=self._clock,
            log=self.log,
            ack_log=self._receipts,
            real_programs=self._real_programs,
            listeners=self._listeners,
            cache=self._begin_cache(),
        )
        run.__enter__()
        self.sinks = {sink_id: sink for sink_id, sink in self.sinks.items() if sink.payloads} | run.sinks
        self._run, self._failure = run, None

    def _begin_cache(self) -> WorkerCache | None:
        if self._cache is not None:
            self._cache.forget_run()
        return self._cache

    def _check_revocable(self) -> None:
        if self.flow.across is not None:
            raise AssertionError("with state across partitions a flow keeps its partitions until it ends")

    @property
    def _present(self) -> FlowRun:
        if self._run is None:
            raise AssertionError("the flow is down: it was stopped or it crashed; call restart()")
        return self._run

    def _end(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        run, self._run = self._present, None
        try:
            run.__exit__(kind, exc, trace)
        finally:
            self._past += run.events

    def _topic_partitions(self, partitions: Iterable[int], topic: str) -> list[TopicPartition]:
        topic_partitions = [
            topic_partition for topic_partition in self.log.records if topic in ("", topic_partition[0])
        ]
        wanted = set(partitions) or {number for _, number in topic_partitions}
        return [topic_partition for topic_partition in topic_partitions if topic_partition[1] in wanted]


def _topic_of(flow: StreamFlow) -> str:
    return next((topic for topic in flow.source.topics if not topic.startswith("^")), "input")


def _listed(title: str, items: Iterable[object]) -> list[str]:
    lines = [f"  {item}" for item in items]
    left = len(lines) - _TOLD
    return [f"{title}: {len(lines)}", *([f"  ... {left} before these"] if left > 0 else []), *lines[-_TOLD:]]


def _headers(given: Any) -> list[tuple[str, bytes]] | None:
    if given is None:
        return None
    pairs = given.items() if isinstance(given, Mapping) else given
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]
