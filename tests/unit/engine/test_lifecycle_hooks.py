"""on_startup and on_ready in a flow's life: what they change, what they end, what is closed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from drakkar_flow import DrakkarConfig, FilePayload, Handler, PendingContext
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine import flow_lifecycle
from drakkar_flow.engine.worker_process import WorkerProcess
from drakkar_flow.errors import SinkNotConnected, StartupError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.periodic import periodic
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult, ExecutorTask
from drakkar_flow.runtime.components import Components


class Stop(Exception):
    """Ends a start where the test has seen enough."""


class Resting(Handler):
    """Has nothing for programs to do."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return []


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Components]:
    """Nothing outside is connected but the sinks; gives the parts that were."""
    seen: list[Components] = []

    async def connect(components: Components, log: Any, *_: object) -> None:
        seen.append(components)
        for part in components.sinks.values():
            await part.sink.connect()

    monkeypatch.setattr(flow_lifecycle, "connect_all", connect)
    return seen


def life_of(handler: Handler[Any, Any], directory: Path, **settings: Any) -> WorkerProcess:
    """A life with a file sink, and logging of its own into a file."""
    config = {
        "kafka": {"source_topic": "in", "consumer_group": "g"},
        "metrics": {"enabled": False},
        "logging": {"output": str(directory / "first.log")},
        "sinks": {"filesystem": {"out": {"base_path": str(directory)}}},
        **settings,
    }
    return WorkerProcess(StreamFlow.from_handler(handler), from_mapping(config), own_logging=True, own_signals=False)


def test_everything_is_made_of_the_configuration_that_on_startup_returns(
    connected: list[Components], tmp_path: Path
) -> None:
    """Parts, logging and on_ready itself; the log before it is where the file said."""
    seen: list[DrakkarConfig] = []

    class Changing(Resting):
        async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
            structlog.get_logger("user").info("asked")
            logging = config.logging.model_copy(update={"output": str(tmp_path / "second.log")})
            runtime = config.runtime.model_copy(update={"max_in_flight_records": 7})
            return config.model_copy(update={"logging": logging, "runtime": runtime, "app": {"by": "hook"}})

        async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
            structlog.get_logger("user").info("ready")
            seen.append(config)
            raise Stop

    with pytest.raises(StartupError):
        life_of(Changing(), tmp_path).start()
    (config,) = seen
    (components,) = connected
    assert (config.app, components.config, components.in_flight.room) == ({"by": "hook"}, config, 7)
    first, second = ((tmp_path / f"{name}.log").read_text() for name in ("first", "second"))
    assert ("asked" in first, "ready" in first) == (True, False)
    assert ("asked" in second, "ready" in second) == (False, True)


def test_an_on_ready_that_raises_closes_what_was_opened(connected: list[Components], tmp_path: Path) -> None:
    """The sink is closed, no thread is left, nothing was read, and the log has the stack."""
    before = set(threading.enumerate())

    class Broken(Resting):
        async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
            await self.offload(int, "7")
            raise ValueError("no table")

        @periodic(0.001)
        async def beat(self) -> None:
            raise AssertionError("nothing is periodic before the flow is ready")

    handler = Broken()
    flow_lifecycle = life_of(handler, tmp_path)
    with pytest.raises(StartupError, match=r"Broken.on_ready: raised ValueError: no table") as caught:
        flow_lifecycle.start()
    assert (caught.value.exit_code, flow_lifecycle.exit_code) == (1, 1)
    with pytest.raises(RuntimeError, match="does not run"):
        handler.offload(int, "7")  # type: ignore[unused-coroutine]  # it raises before there is one
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before
    log = (tmp_path / "first.log").read_text()
    assert "handler_hook_failed" in log
    assert "in on_ready" in log
    assert "periodic" not in log


def test_d32_a_sink_that_cannot_connect_ends_the_start_and_closes_the_other(
    connected: list[Components], tmp_path: Path
) -> None:
    """The start says which; the one that was connected takes nothing more."""
    (tmp_path / "file").touch()
    sinks = {"good": {"base_path": str(tmp_path)}, "bad": {"base_path": str(tmp_path / "file")}}
    with pytest.raises(StartupError, match=r"sinks\.filesystem\.bad"):
        life_of(Resting(), tmp_path, sinks={"filesystem": sinks}).start()
    good = next(part.sink for part in connected[0].sinks.values() if part.name == "good")
    with pytest.raises(SinkNotConnected):
        asyncio.run(good.write_batch([FilePayload(path="x", data=1)]))  # type: ignore[list-item]  # it is refused before it is looked at


def test_an_on_startup_that_raises_ends_the_start_before_anything_is_made(
    connected: list[Components], tmp_path: Path
) -> None:
    """No part was made; the handler may be used again."""

    class Broken(Resting):
        async def on_startup(self, config: DrakkarConfig) -> None:
            raise ValueError("no secret")

    with pytest.raises(StartupError, match=r"Broken.on_startup: raised ValueError: no secret"):
        life_of(Broken(), tmp_path).start()
    assert connected == []


def test_a_remark_about_the_handler_is_logged_at_the_start(connected: list[Components], tmp_path: Path) -> None:
    """Two names for one hook: the log says which one counts."""

    class Both(Resting):
        async def on_task_complete(self, result: ExecutorResult) -> None: ...
        async def collect(self, result: ExecutorResult) -> None: ...
        async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
            raise Stop

    with pytest.raises(StartupError):
        life_of(Both(), tmp_path).start()
    assert "collect is never called" in (tmp_path / "first.log").read_text()


def test_a_secret_that_on_startup_gives_is_in_no_line(connected: list[Components], tmp_path: Path) -> None:
    """Though it changes nothing about logging itself."""

    class Fetching(Resting):
        async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
            return config.replaced(app={"password": "hunter2-vault"})

        async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
            structlog.get_logger("user").info("logged in with hunter2-vault")
            raise Stop

    with pytest.raises(StartupError):
        life_of(Fetching(), tmp_path).start()
    text = (tmp_path / "first.log").read_text()
    assert "logged in with" in text
    assert "hunter2-vault" not in text
