"""Log lines by Elastic's names, and the exceptions that lines carry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import structlog

from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorTask
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.base import Event
from drakkar_flow.observe.events.context import EventContext
from drakkar_flow.observe.events.hooks import HookRan
from drakkar_flow.observe.events.tasks import TaskFailed
from drakkar_flow.observe.log.listener import LogListener
from drakkar_flow.observe.log.setup import LoggingHandle
from support.log_lines import read_lines as read


def test_lines_carry_the_names_of_elastic_when_asked(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """Who and what by ECS's names; what it has no name for as labels, but lists and objects beside them."""
    configured(output=str(tmp_path / "log"), fields="ecs", consumer_group="g", service_version="1.2")
    structlog.get_logger().error("told", partition=3, offset=7, count=2, many=[1, 2])
    (line,) = read(tmp_path / "log")
    assert list(line)[:4] == ["@timestamp", "log.level", "message", "ecs.version"]
    del line["@timestamp"]
    assert line == {
        "log.level": "error",
        "message": "told",
        "ecs.version": "8.17.0",
        "event.action": "told",
        "service.name": "drakkar",
        "service.version": "1.2",
        "service.node.name": "w-1",
        "labels.consumer_group": "g",
        "drakkar.count": 2,
        "kafka.partition": 3,
        "kafka.offset": 7,
        "drakkar.many": [1, 2],
    }


ECS_8_17 = {
    "@timestamp": str,
    "ecs.version": str,
    "error.message": str,
    "error.stack_trace": str,
    "error.type": str,
    "event.action": str,
    "event.duration": int,
    "event.reason": str,
    "log.level": str,
    "log.logger": str,
    "message": str,
    "process.executable": str,
    "process.exit_code": int,
    "process.pid": int,
    "service.name": str,
    "service.node.name": str,
    "service.version": str,
}
"""Fields of the published reference, ECS 8.17.0, generated/csv/fields.csv, and what they hold (keywords are texts)."""
OURS = {"labels": str, "kafka": str | int, "drakkar": object}
"""`labels` is ECS's place for keywords; `kafka` and `drakkar` are namespaces that it does not use."""


def test_every_line_has_names_and_types_of_elastic_s_reference(
    configured: Callable[..., LoggingHandle], tmp_path: Path, one_of_each: list[Event]
) -> None:
    """Whatever is told, a field is ECS's own with its type, or in a namespace that is not ECS's."""
    configured(output=str(tmp_path / "log"), fields="ecs", level="DEBUG", service_version="1.2", cluster_name="c")
    bus = Bus()
    LogListener(structlog.get_logger()).listen(bus)
    error = ValueError("x")
    for event in [*one_of_each, HookRan("arrange", 0.1, "x", error)]:
        bus.emit(event)
    logging.getLogger("some.client").error("gone", exc_info=error)
    used = set()
    for line in read(tmp_path / "log"):
        assert line["ecs.version"] == "8.17.0"
        for name, value in line.items():
            kind = ECS_8_17.get(name) or OURS[name.partition(".")[0]]
            assert isinstance(value, kind), (name, value)
            used.add(name)
    assert ECS_8_17.keys() <= used


def test_a_failed_task_has_elastic_s_names(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """Program, process, exit code and duration, which is in nanoseconds."""
    configured(output=str(tmp_path / "log"), fields="ecs")
    task = ExecutorTask(task_id="t-1", source_offsets=[7])
    error = ExecutorError(task=task, exit_code=3, pid=4711, duration_seconds=1.5, command=["/bin/rg"], stderr="no")
    bus = Bus()
    LogListener(structlog.get_logger()).listen(bus)
    bus.emit(TaskFailed(error, EventContext.of([Record(topic="in", partition=3, offset=7)]), b"k"))
    (line,) = read(tmp_path / "log")
    expected = {
        "process.executable": "/bin/rg",
        "process.pid": 4711,
        "process.exit_code": 3,
        "event.duration": 1_500_000_000,
        "error.message": "exit code 3",
        "labels.task_id": "t-1",
        "kafka.topic": "in",
        "kafka.partition": 3,
        "kafka.offset": 7,
        "kafka.key": "k",
        "drakkar.stderr": "no",
        "drakkar.attempt": 1,
    }
    assert expected.items() <= line.items()


def test_exceptions_have_elastic_s_names(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """Type, text and stack, however the exception was given."""
    configured(output=str(tmp_path / "log"), fields="ecs")
    try:
        raise KeyError("a")
    except KeyError as exc:
        logging.getLogger("some.client").exception("gone")
        structlog.get_logger().error("gone", exc_info=exc)
    for line in read(tmp_path / "log"):
        assert (line["error.type"], line["error.message"]) == ("KeyError", "'a'")
        assert line["error.stack_trace"].startswith("Traceback")


def test_a_hook_s_exception_is_logged_with_its_stack(configured: Callable[..., LoggingHandle], tmp_path: Path) -> None:
    """Only where there is one."""
    configured(output=str(tmp_path / "log"))
    bus = Bus()
    LogListener(structlog.get_logger()).listen(bus)
    try:
        raise ValueError("inside")
    except ValueError as exc:
        bus.emit(HookRan("arrange", 0.1, str(exc), exc))
    bus.emit(HookRan("arrange", 0.1, "no tasks"))
    first, second = read(tmp_path / "log")
    assert "test_a_hook_s_exception_is_logged" in first["exception"]
    assert "ValueError: inside" in first["exception"]
    assert "exception" not in second
