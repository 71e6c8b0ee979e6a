"""The brake: a mistake stops the flow and costs no record; bad data does not stop it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Literal

import pytest

from drakkar_flow import (
    DrakkarConfig,
    ErrorAction,
    ExecutorTask,
    PendingContext,
    PostgresPayload,
    StreamFlow,
)
from drakkar_flow.errors import BatchFailed, SinkMisconfigured, SinkRejected
from drakkar_flow.graph.nodes import KafkaSink, SinkRef
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorKind, ExecutorError, ExecutorResult
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.metrics.prometheus import Metrics
from drakkar_flow.testing import Answer, FlowHarness, MemorySink, ScriptedExecutor, run_flow
from support.handlers import LANE, Unarranged, Unfinished, Words

BAD = "poison"


class Dead(Words):
    """A handler that makes a dead letter of every failed task."""

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        return ErrorAction.DLQ


class Harmless(Words):
    """A handler that calls every failed task harmless."""

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        return ErrorAction.SKIP


def refused(
    error: Exception, bad: Callable[[PostgresPayload], object] = lambda payload: True
) -> Callable[[list[PostgresPayload]], None]:
    """A script of a sink that refuses some payloads, each by itself, and all at once where all are bad."""

    def script(payloads: list[PostgresPayload]) -> None:
        failures = {index: error for index, payload in enumerate(payloads) if bad(payload)}
        if len(failures) == len(payloads):
            raise copy(error)  # one that is raised again and again has all their frames
        if failures:
            raise BatchFailed(failures)

    return script


def rows(route: Sequence[SinkRef] = ()) -> StreamFlow:
    """A row for each number."""
    return StreamFlow("rows").decode(int).map(lambda n: PostgresPayload(table="t", data={"n": n})).route(*route)


NO_TABLE = SinkMisconfigured('relation "t" does not exist', "create the table t")


def exit_2(task: ExecutorTask) -> int:
    """Every program ends with 2, as it does where its arguments are wrong."""
    return 2


MISTAKES: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "route": (lambda: rows([KafkaSink("out", topic="out")]), {}, "PostgresPayload"),
    "table": (
        lambda: rows(),
        {"sinks": [MemorySink("main", kind="postgres", script=refused(NO_TABLE))]},
        "create the table t",
    ),
    "decode": (lambda: StreamFlow("d").decode(dict).route(), {}, "decode"),
    "map": (lambda: StreamFlow("m").decode(int).map(lambda n: n["x"]).route(), {}, "map"),
    "arrange": (Unarranged, {"config": {"executor": {"window_size": 10}}}, "has no attribute 'split'"),
    "hook": (Unfinished, {}, "on_message_complete"),
    "skipped-task": (Words, {"executor": ScriptedExecutor(exit_2)}, "exit code 2"),
    "dead-task": (Dead, {"executor": ScriptedExecutor(exit_2)}, "exit code 2"),
    "skipped-decode": (
        lambda: StreamFlow("d").decode(dict, on_error="skip").route(),
        {},
        "decode",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("clock", ["fake", "real"])
def test_n1_a_mistake_stops_the_flow_and_costs_no_record(mistake: str, clock: Literal["fake", "real"]) -> None:
    """Nothing of what failed is committed or written, and the reason names cause, count, place and way out."""
    make, given, named = MISTAKES[mistake]
    kit = FlowHarness(make(), clock=clock, **given)
    kit.send_all(range(500))  # before the start: the fake clock would end the hold in a pause between two of them
    with kit:
        kit.wait_for(lambda: kit.failure)
        kit.finish()
        assert kit.failure is not None
        assert named in kit.failure
        assert "input:0:0" in kit.failure
        assert "dlq.stop_after: 0" in kit.failure
        assert kit.committed.get(LANE, 0) == 0
        assert kit.dead_letters == []


POISON = {
    "one in a hundred": [BAD if n % 100 == 50 else n for n in range(3000)],
    "one in ten": [BAD if n % 10 == 3 else n for n in range(3000)],
    "two in three": [n if n % 3 == 2 else BAD for n in range(3000)],
    "sixty in a row among good ones": [BAD if 1000 <= n < 1060 else n for n in range(3000)],
    "sixty in a row at the start": [BAD if n < 60 else n for n in range(3000)],
    "five hundred in a row among good ones": [BAD if 1500 <= n < 2000 else n for n in range(3000)],
    "the last one": [*range(10), BAD],
    "the only one": [BAD],
    "nothing but a few": [BAD] * 20,
}


def refusing_sink() -> MemorySink:
    """A sink that refuses the rows of bad values."""
    bad = SinkRejected('null value in column "n" violates not-null constraint')
    return MemorySink("main", kind="postgres", script=refused(bad, lambda payload: payload.data["n"] == BAD))


def as_rows() -> StreamFlow:
    """A row for each value, whatever it is."""
    return StreamFlow("rows").decode(str).map(lambda n: PostgresPayload(table="t", data={"n": n})).route()


class Poisoned(Dead):
    """A handler whose program fails for bad values."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return [ExecutorTask(task_id=f"{m.value.decode()}-{m.offset}", source_offsets=[m.offset]) for m in messages]


BAD_DATA: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "decode": lambda: (StreamFlow("d").decode(int).route(), {}),
    "map": lambda: (StreamFlow("m").decode(str).map(int).route(), {}),
    "sink": lambda: (as_rows(), {"sinks": [refusing_sink()]}),
    "task": lambda: (Poisoned(), {"executor": ScriptedExecutor(lambda task: int(task.task_id.startswith(BAD)))}),
}


@pytest.mark.parametrize("share", POISON)
@pytest.mark.parametrize("where", BAD_DATA)
def test_n1_bad_data_does_not_stop_the_flow(where: str, share: str) -> None:
    """Every bad record is a dead letter, every other one is delivered, all are committed."""
    flow, given = BAD_DATA[where]()
    outcome = run_flow(flow, POISON[share], config=DrakkarConfig(executor={"max_retries": 0}), **given)
    assert outcome.failure is None
    assert len(outcome.dead_letters) == POISON[share].count(BAD)
    assert len(outcome.values) == len(POISON[share]) - POISON[share].count(BAD)
    assert outcome.committed == {LANE: len(POISON[share])}


def test_n1_a_table_that_goes_away_later_stops_the_flow_and_costs_no_record() -> None:
    """What no record is to blame for needs no start: ten failures in a row are enough."""
    gone: list[bool] = []
    sink = MemorySink("main", kind="postgres", script=refused(NO_TABLE, lambda _: bool(gone)))
    with FlowHarness(rows(), sinks=[sink]) as kit:
        kit.send_all(range(100))
        kit.wait_acknowledged()
        gone.append(True)
        kit.send_all(range(100, 300))
        kit.wait_for(lambda: kit.failure)
        kit.finish()
        assert (kit.committed, len(kit.values), kit.dead_letters) == ({LANE: 100}, 100, [])


def test_n1_a_column_that_only_bad_rows_name_does_not_stop_the_flow() -> None:
    """Rows that are written in between refute that the table is wrong."""
    bad = refused(NO_TABLE, lambda payload: payload.data["n"] % 10 == 3)
    outcome = run_flow(rows(), range(300), sinks=[MemorySink("main", kind="postgres", script=bad, max_batch=5)])
    assert (outcome.failure, len(outcome.dead_letters), outcome.committed) == (None, 30, {LANE: 300})


def test_n1_a_table_that_is_missing_for_every_other_row_does_not_stop_the_flow() -> None:
    """Rows that are written in between refute it too where each has a write of its own, all in one turn."""
    bad = refused(NO_TABLE, lambda payload: payload.data["n"] % 2)
    sink = MemorySink("main", kind="postgres", script=bad, max_batch=1, max_in_flight=100)
    outcome = run_flow(rows(), range(100), sinks=[sink])
    assert (outcome.failure, len(outcome.dead_letters), outcome.committed) == (None, 50, {LANE: 100})


def test_n1_nearly_all_records_over_a_window_stop_a_flow_that_works_for_a_few() -> None:
    """max_ratio: 96 of 100 records fail by one cause."""
    values = [n if n % 25 == 0 else BAD for n in range(5000)]
    with FlowHarness(StreamFlow("d").decode(int).route()) as kit:
        kit.send_all(values)
        reason = kit.wait_for(lambda: kit.failure)
        kit.finish()
        committed, dead = kit.committed.get(LANE, 0), len(kit.dead_letters)
    assert committed < 5000
    held, before = held_and_before(reason)
    assert (before, held > 0) == (dead, True)


def test_n1_failures_that_were_let_go_before_are_not_said_to_be_held() -> None:
    """Five were dead letters when no other one came for a while; then the run went on."""
    mistake, config = rows([KafkaSink("out", topic="out")]), DrakkarConfig(dlq={"hold_s": 0.3})
    with FlowHarness(mistake, clock="real", config=config) as kit:
        kit.send_all(range(5))
        kit.wait_for(lambda: len(kit.dead_letters) == 5)
        kit.send_all(range(100))
        reason = kit.wait_for(lambda: kit.failure)
        kit.finish()
        dead = len(kit.dead_letters)
    held, before = held_and_before(reason)
    assert (before, held > 0) == (dead, True)


def held_and_before(reason: str | None) -> tuple[int, int]:
    """Return how many failures the reason calls held, and how many it says were settled before."""
    (found,) = re.findall(
        r"failed (\d+) times with one cause, the last (\d+) times from .*: "
        r"the last (\d+) are neither committed nor dead letters, the (\d+) before are dead or skipped",
        reason or "",
    )
    count, last, held, before = map(int, found)
    assert (last, held + before) == (held, count)
    return held, before


def test_n1_the_ratio_turned_off_stops_nothing() -> None:
    """max_ratio: 0, with the same records."""
    values = [n if n % 25 == 0 else BAD for n in range(5000)]
    outcome = run_flow(StreamFlow("d").decode(int).route(), values, config=DrakkarConfig(dlq={"max_ratio": 0}))
    assert (outcome.failure, outcome.committed) == (None, {LANE: 5000})


def test_n1_the_brake_can_be_turned_off() -> None:
    """dlq.stop_after: 0 makes a dead letter of everything, at once."""
    outcome = run_flow(MISTAKES["decode"][0](), range(500), config=DrakkarConfig(dlq={"stop_after": 0}))
    assert (outcome.failure, len(outcome.dead_letters), outcome.committed) == (None, 500, {LANE: 500})


def test_n1_an_outage_of_a_sink_is_not_a_mistake() -> None:
    """What becomes of its payloads is up to the circuit breaker."""
    sink = MemorySink("main", kind="postgres", script=refused(OSError("connection refused")))
    outcome = run_flow(rows(), range(2500), sinks=[sink])
    assert (outcome.failure, len(outcome.dead_letters)) == (None, 2500)


@pytest.mark.parametrize("handler", [Unarranged, Unfinished])
def test_n1_the_reason_of_a_hook_names_the_exception_and_the_users_line(handler: type[Words]) -> None:
    """Whoever reads that one line knows where to look."""
    windows = {"executor": {"window_size": 10}}
    with FlowHarness(handler(), config=windows, executor=ScriptedExecutor(lambda task: Answer())) as kit:
        kit.send_all(range(500))
        reason = kit.wait_for(lambda: kit.failure)
    assert reason is not None
    file = re.escape(inspect.getfile(handler))
    assert re.search(rf"\((AttributeError|KeyError) at {file}:\d+\); fix (arrange|the hook)", reason)


def test_n1_the_reason_of_a_program_that_can_not_be_started_says_what_to_install() -> None:
    """Nobody can run by hand what is not there."""
    gone = ScriptedExecutor(lambda task: Answer(kind="launch_failure"))
    with FlowHarness(Dead(), executor=gone) as kit:
        kit.send_all(range(500))
        reason = kit.wait_for(lambda: kit.failure)
    assert reason is not None
    assert "; install the program, or correct the task's binary_path or executor, then start again" in reason


def test_n1_a_refusal_of_a_target_names_the_key_of_its_sink() -> None:
    """Sinks write `*` for their name, which only the flow knows."""
    refusal = SinkMisconfigured('relation "t" does not exist', "create it in sinks.postgres.*.dsn")
    with FlowHarness(rows(), sinks=[MemorySink("main", kind="postgres", script=refused(refusal))]) as kit:
        kit.send_all(range(500))
        assert "create it in sinks.postgres.main.dsn" in str(kit.wait_for(lambda: kit.failure))


@pytest.mark.parametrize(("kind", "stops"), [("launch_failure", True), ("nonzero_exit", False)])
def test_n1_on_error_may_call_an_exit_harmless_but_not_a_program_that_is_missing(kind: ErrorKind, stops: bool) -> None:
    """SKIP of on_error does not count, except where no program was run at all."""
    executor = ScriptedExecutor(lambda task: Answer(kind=kind, exit_code=1))
    with FlowHarness(Harmless(), executor=executor) as kit:
        kit.send_all(range(500))
        if stops:
            kit.wait_for(lambda: kit.failure)
            kit.finish()
            assert kit.committed == {}
        else:
            kit.wait_acknowledged()
            assert kit.committed == {LANE: 500}


def test_n1_a_program_that_is_missing_stops_the_flow_though_another_one_works() -> None:
    """Programs are told apart."""

    class Two(Dead):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            return [self.task(m.offset, ("here", "gone")[m.offset % 2]) for m in messages]

        def task(self, offset: int, program: str) -> ExecutorTask:
            return ExecutorTask(task_id=f"{offset}", source_offsets=[offset], binary_path=program)

    gone = Answer(kind="launch_failure")
    executor = ScriptedExecutor(lambda task: gone if task.binary_path == "gone" else "")
    with FlowHarness(Two(), executor=executor) as kit:
        kit.send_all(range(200))
        kit.wait_for(lambda: kit.failure)
        kit.finish()
        assert kit.dead_letters == []
        assert kit.committed.get(LANE, 0) <= 1


@pytest.mark.parametrize("wrong", ["raises", "returns"])
def test_n1_a_mistake_in_the_hook_for_one_program_stops_the_flow_though_it_works_for_another(wrong: str) -> None:
    """What `on_task_complete` makes of other programs' output proves nothing."""

    class Two(Words):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            return [self.task(m.offset, ("gzip", "sha256sum")[m.offset % 2]) for m in messages]

        def task(self, offset: int, program: str) -> ExecutorTask:
            return ExecutorTask(task_id=f"{offset}", source_offsets=[offset], binary_path=program)

        async def on_task_complete(self, result: ExecutorResult) -> Any:
            if result.task.binary_path == "gzip":
                return await super().on_task_complete(result)
            return 7 if wrong == "returns" else result.stdout["digest"]  # type: ignore[index]  # the mistake

    with FlowHarness(Two(), executor=ScriptedExecutor(lambda task: "ok"), clock="real") as kit:
        kit.send_all(range(1000))
        kit.wait_for(lambda: kit.failure)
        kit.finish()
        assert kit.dead_letters == []
        assert kit.committed.get(LANE, 0) <= 1


def test_n1_restarts_cost_no_record_either() -> None:
    """A supervisor that starts the flow again and again does not eat the topic."""
    with FlowHarness(MISTAKES["decode"][0]()) as kit:
        kit.send_all(range(300))
        for _ in range(4):
            kit.wait_for(lambda: kit.failure)
            kit.crash()
            kit.restart()
        kit.wait_for(lambda: kit.failure)
        assert (kit.committed, kit.dead_letters) == ({}, [])
        kit.crash()
        kit.restart(StreamFlow("d").decode(int).route())
        kit.wait_acknowledged()
        assert (kit.committed, kit.dead_letters, len(kit.values)) == ({LANE: 300}, [], 300)


def test_n1_a_stop_lets_go_of_what_is_held_back() -> None:
    """A few failures that may be a mistake are dead letters when the flow is told to stop."""
    with FlowHarness(MISTAKES["decode"][0]()) as kit:
        kit.send_all(range(5))
        kit.wait_for(lambda: len(kit.failures) == 5)
        kit.stop()
        assert (len(kit.dead_letters), kit.committed, kit.failure) == (5, {LANE: 5}, None)


@pytest.mark.parametrize("drain_s", [0, 10])
def test_n1_a_revoke_leaves_what_is_held_back_to_the_next_owner(drain_s: int) -> None:
    """Nobody waits for it: it is neither written nor committed here."""
    with FlowHarness(MISTAKES["decode"][0](), clock="real", config={"dlq": {"hold_s": 60}}) as kit:
        kit.send_all(range(5))
        kit.wait_for(lambda: len(kit.failures) == 5)
        left = kit.revoke(drain_s=drain_s)
        assert (left, kit.dead_letters, kit.committed) == (5, [], {})
        kit.assign()
        kit.wait_acknowledged()
        assert (len(kit.dead_letters), kit.committed) == (5, {LANE: 5})


def test_n17_the_metrics_count_records_and_letters_for_what_they_are() -> None:
    """Two failed tasks of a record are two letters and one failed record."""

    class Twice(Dead):
        async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
            both = [(message.offset, number) for message in messages for number in (1, 2)]
            return [ExecutorTask(task_id=f"{offset}.{number}", source_offsets=[offset]) for offset, number in both]

    bus, metrics = Bus(), Metrics()
    metrics.listen(bus)
    with FlowHarness(Twice(), executor=ScriptedExecutor(exit_2)) as kit:
        kit.send_all(range(11))
        kit.wait_acknowledged()
        for event in kit.events:
            bus.emit(event)
    value = metrics.registry.get_sample_value
    stage = {"kind": "task", "stage": "collect-on_task_complete"}
    assert value("drakkar_records_failed_total", stage) == 11
    assert value("drakkar_sink_dlq_messages_total") == 22
    assert value("drakkar_records_finished_total", {"status": "dead"}) == 11
