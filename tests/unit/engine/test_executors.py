"""From the configuration and the flow to an executor."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from drakkar_flow import (
    ErrorAction,
    ExecutorError,
    ExecutorTask,
    Limits,
    Persistent,
    StreamFlow,
    Subprocess,
)
from drakkar_flow.config.sections.executor import ExecutorConfig
from drakkar_flow.config.sections.limits import LimitsConfig
from drakkar_flow.engine.executors import executor_config, make_executor
from drakkar_flow.errors import ConfigError, FlowArgumentError
from drakkar_flow.executor.oneshot import OneshotExecutor
from drakkar_flow.executor.persistent.pool import PersistentExecutor
from drakkar_flow.graph.nodes import Execute
from drakkar_flow.observe.bus import Bus
from drakkar_flow.testing import FlowHarness

CONFIGURED = ExecutorConfig(
    binary_path="cat", max_executors=7, persistent={"args": ["-u"], "recycle_after_requests": 9, "protocol": "lines"}
)


def test_without_a_word_in_the_flow_the_configuration_holds() -> None:
    """An execute step that names nothing changes nothing."""
    assert executor_config(CONFIGURED, Execute()) == CONFIGURED
    assert executor_config(CONFIGURED, None) == CONFIGURED


def test_what_the_flow_says_of_processes_is_laid_over_it() -> None:
    """Only what is given."""
    config = executor_config(CONFIGURED, Execute(program=Subprocess("wc", timeout_s=3)))
    assert (config.mode, config.binary_path, config.max_executors) == ("oneshot", "wc", 7)
    assert config.task_timeout_seconds == 3


def test_a_flow_may_ask_for_children_whatever_the_configured_mode() -> None:
    """Its arguments and settings stand before the configured ones, the rest stays."""
    program = Persistent("jq", ["-c", "."], children=2, timeout_s=3, settings={"close_grace_s": 0.5})
    config = executor_config(CONFIGURED, Execute(program=program))
    assert (config.mode, config.binary_path, config.task_timeout_seconds) == ("persistent", "jq", 3)
    children = config.persistent
    assert (children.args, children.children, children.close_grace_s) == (["-c", "."], 2, 0.5)
    assert (children.protocol, children.recycle_after_requests) == ("lines", 9)


def test_what_the_flow_gives_wrongly_is_told_by_its_key() -> None:
    """All of it at once, before anything starts."""
    settings: dict[str, Any] = {"childrn": 1, "close_grace_s": -1}
    with pytest.raises(ConfigError) as caught:
        executor_config(CONFIGURED, Execute(program=Persistent("jq", settings=settings)))
    assert "executor.persistent.childrn" in str(caught.value)
    assert "executor.persistent.close_grace_s" in str(caught.value)
    assert "Persistent(...)" in str(caught.value)


@pytest.mark.parametrize("program", [Subprocess, Persistent])
def test_the_flows_limits_go_over_the_configured_ones(program: type[Subprocess | Persistent]) -> None:
    """One by one, for either kind of executor."""
    configured = ExecutorConfig(binary_path="cat", limits={"cpu_s": 9, "nice": 5})
    config = executor_config(configured, Execute(program=program(limits=Limits(cpu_s=2, umask="077"))))
    assert config.limits == LimitsConfig(cpu_s=2, nice=5, umask="077")


def test_the_flow_knows_every_limit() -> None:
    """By the names of the configuration."""
    assert [limit.name for limit in fields(Limits)] == list(LimitsConfig.model_fields)


def test_the_flow_s_limits_have_the_bounds_of_the_configuration() -> None:
    """What one refuses the other does, too."""
    for name, value in {"cpu_s": 0, "open_files": 3, "nice": 20, "core_mib": -1, "umask": "rwx"}.items():
        with pytest.raises(ValidationError):
            LimitsConfig(**{name: value})
        with pytest.raises(FlowArgumentError, match=name):
            Limits(**{name: value})  # type: ignore[arg-type]  # one of any limit
    limits: dict[str, Any] = {"cpu_s": 1, "open_files": 4, "nice": -20, "core_mib": 0, "umask": "0027"}
    for name, value in limits.items():
        assert LimitsConfig(**{name: value}) == LimitsConfig(**{name: getattr(Limits(**{name: value}), name)})


def test_a_program_that_meets_a_limit_of_its_flow_fails_by_it(tmp_path: Path) -> None:
    """With a real program; `on_error` is told which limit it was."""
    reasons = []

    def to_tasks(records: list[Any], pending: Any) -> list[ExecutorTask]:
        write = ["-c", f"exec head -c 2000000 /dev/zero > {tmp_path}/big"]
        return [ExecutorTask(task_id=r.label, source_offsets=[r.offset], args=write) for r in records]

    def on_error(task: ExecutorTask, error: ExecutorError) -> ErrorAction:
        reasons.append(error.exception)
        return ErrorAction.SKIP

    program = Subprocess("/bin/sh", limits=Limits(file_size_mib=1))
    flow = StreamFlow("big").arrange(to_tasks).execute(program, on_error=on_error).collect(str).route()
    with FlowHarness(flow, real_programs=True) as kit:
        kit.send("x")
        kit.wait_acknowledged()
    assert reasons == ["reached executor.limits.file_size_mib (1)"]
    assert (tmp_path / "big").stat().st_size == 1 << 20


@pytest.mark.parametrize(
    ("mode", "fallback", "kind"),
    [
        ("oneshot", True, OneshotExecutor),
        ("persistent", False, PersistentExecutor),
        ("persistent", True, PersistentExecutor),
    ],
)
def test_the_mode_chooses_the_executor(mode: str, fallback: bool, kind: type) -> None:
    """With the fall-back, the pool has a one-shot executor beside it."""
    config = ExecutorConfig(binary_path="cat", mode=mode, persistent={"fallback_oneshot": fallback})
    executor = make_executor(config, Bus())
    assert type(executor) is kind
    if isinstance(executor, PersistentExecutor):
        assert (executor._oneshot is not None) == fallback


def test_pauses_that_shrink_are_refused() -> None:
    """The first must not be longer than the longest."""
    with pytest.raises(ValueError, match="restart_initial_s must not be more than restart_max_s"):
        ExecutorConfig(persistent={"restart_initial_s": 60})
