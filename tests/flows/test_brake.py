"""The brake: a mistake stops the flow and costs no record; bad data does not stop it."""

from __future__ import annotations

import pytest

from drakkar_flow import (
    CollectResult,
    DrakkarConfig,
    ErrorAction,
    ExecutorTask,
    Handler,
    KafkaPayload,
    PostgresPayload,
    StreamFlow,
)
from drakkar_flow.errors import BatchFailed, SinkMisconfigured, SinkRejected
from drakkar_flow.graph.nodes import KafkaSink
from drakkar_flow.observe.events import RecordsFailed
from drakkar_flow.testing import FlowHarness, MemorySink, ScriptedExecutor, run_flow

LANE = ("input", 0)
BAD = "poison"


def number(record):
    """Decode a record; what is no number fails."""
    return int(record.value)


class Words(Handler):
    """A task and a payload for each record."""

    async def arrange(self, messages, pending):
        return [ExecutorTask(task_id=str(m.offset), source_offsets=[m.offset], binary_path="count") for m in messages]

    async def on_task_complete(self, result):
        return CollectResult(kafka=[KafkaPayload(data=result.task.task_id)])


class Unarranged(Words):
    """A handler that can't make tasks."""

    async def arrange(self, messages, pending):
        raise AttributeError("'NoneType' object has no attribute 'split'")


class Unfinished(Words):
    """A handler one of whose hooks always raises, while the others work."""

    async def on_message_complete(self, group):
        raise KeyError("no such key")


class Dead(Words):
    """A handler that makes a dead letter of every failed task."""

    async def on_error(self, task, error):
        return ErrorAction.DLQ


class Harmless(Words):
    """A handler that calls every failed task harmless."""

    async def on_error(self, task, error):
        return ErrorAction.SKIP


def refused(error: Exception, bad=lambda payload: True):
    """A script of a sink that refuses some payloads, each by itself."""

    def script(payloads):
        failures = {index: error for index, payload in enumerate(payloads) if bad(payload)}
        if failures:
            raise BatchFailed(failures)

    return script


def rows(route=()) -> StreamFlow:
    """A row for each number."""
    return StreamFlow("rows").decode(int).map(lambda n: PostgresPayload(table="t", data={"n": n})).route(*route)


NO_TABLE = SinkMisconfigured('relation "t" does not exist', "create the table t")


def exit_2(task):
    """Every program ends with 2, as it does where its arguments are wrong."""
    return 2


MISTAKES = {
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
def test_n1_a_mistake_stops_the_flow_and_costs_no_record(mistake, clock):
    """Nothing of what failed is committed or written, and the reason names cause, count, place and way out."""
    make, given, named = MISTAKES[mistake]
    with FlowHarness(make(), clock=clock, **given) as kit:
        kit.send_all(range(500))
        kit.wait_for(lambda: kit.failure)
        kit.finish()
        assert named in kit.failure
        assert "input:0:0" in kit.failure
        assert "dlq.stop_after: 0" in kit.failure
        assert kit.committed.get(LANE, 0) == 0
        assert kit.dead_letters == []
