"""Log lines by Elastic's names, and the exceptions that lines carry."""

from __future__ import annotations

import logging

import structlog

from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events import HookRan
from drakkar_flow.observe.log import LogListener
from support.log_lines import read_lines as read


def test_lines_carry_the_names_of_elastic_when_asked(configured, tmp_path):
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


def test_exceptions_have_elastic_s_names(configured, tmp_path):
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


def test_a_hook_s_exception_is_logged_with_its_stack(configured, tmp_path):
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
