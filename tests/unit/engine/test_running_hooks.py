"""on_startup and on_ready, and what a handler may ask for, without a flow around them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from asyncio.exceptions import CancelledError
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from drakkar_flow import DrakkarConfig, Handler, StreamFlow
from drakkar_flow.config.base import Section
from drakkar_flow.config.loading.app import resolve_app
from drakkar_flow.engine.hooks import RunningHooks
from drakkar_flow.errors import StartupError
from drakkar_flow.graph.periodic import periodic
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.annotations import Annotated, AnnotationDropped
from drakkar_flow.observe.events.hooks import HookRan, Offloaded, PeriodicRan
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig

CONFIG = DrakkarConfig(executor={"max_executors": 3}, app={"depth": 2})


class Scene:
    """A bridge and a bus, and the hooks of handlers on them."""

    def __init__(self) -> None:
        self.loop_thread = EventLoopThread()
        self.loop_thread.open()
        self.events: list[Any] = []
        self.bus = Bus()
        for kind in (HookRan, PeriodicRan, Offloaded, Annotated, AnnotationDropped):
            self.bus.listen(kind, self.events.append)

    def of(self, handler: Handler[Any, Any] | StreamFlow) -> RunningHooks:
        """The hooks of a handler or a flow."""
        flow = handler if isinstance(handler, StreamFlow) else StreamFlow.from_handler(handler)
        return RunningHooks(flow.hooks, self.loop_thread, self.bus)

    @contextlib.contextmanager
    def ready(self, handler: Handler[Any, Any]) -> Iterator[None]:
        """The handler in a flow that runs."""
        hooks = self.of(handler)
        hooks.ready(CONFIG, [])
        yield
        hooks.close_periodics(5)
        assert hooks.close(5) == 0


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A scene whose loop ends with the test."""
    made = Scene()
    yield made
    made.loop_thread.close()


def answering(hook: str, answer: Any, *, is_async: bool = True) -> Handler[Any, Any]:
    """A handler whose hook gives, or raises, `answer`; a function is called with the arguments."""

    def plain(self: Any, *args: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer(*args) if callable(answer) else answer

    async def later(self: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        return plain(self, *args)

    made: Handler = type("Answering", (Handler,), {hook: later if is_async else plain})()
    return made


# --- on_startup -----------------------------------------------------------------------------------------


def test_without_on_startup_the_configuration_stays(scene: Scene) -> None:
    """Nothing is copied, nothing is told."""
    assert scene.of(Handler()).startup(CONFIG) is CONFIG
    assert scene.events == []


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_on_startup_may_change_the_configuration(scene: Scene, is_async: bool) -> None:
    """What it returns is used, and what was not changed is as it was."""

    def change(config: DrakkarConfig) -> DrakkarConfig:
        executor = config.executor.model_copy(update={"window_size": 7})
        return config.model_copy(update={"executor": executor, "dlq": {"topic": "dead"}})

    config = scene.of(answering("on_startup", change, is_async=is_async)).startup(CONFIG)
    assert (config.executor.window_size, config.executor.max_executors) == (7, 3)
    assert (config.dlq.topic, config.app) == ("dead", {"depth": 2})
    assert config.kafka == CONFIG.kafka
    assert config.kafka.model_fields_set == CONFIG.kafka.model_fields_set
    assert [event.hook for event in scene.events] == ["on_startup"]


def test_on_startup_may_assign_to_the_configuration(scene: Scene) -> None:
    """As handlers of py-drakkar do, also in sections nobody gave; what was loaded and what comes of it stay final."""

    def change(config: DrakkarConfig) -> DrakkarConfig:
        config.executor.max_executors = 9  # type: ignore[misc]  # assigned on purpose
        config.kafka.source_topic = "other"  # type: ignore[misc]  # assigned on purpose
        return config

    plain = DrakkarConfig()
    config = scene.of(answering("on_startup", change)).startup(plain)
    assert (config.executor.max_executors, config.kafka.source_topic) == (9, "other")
    assert (plain, DrakkarConfig().kafka.source_topic) == (DrakkarConfig(), "input-events")
    with pytest.raises(ValueError, match="frozen"):
        config.executor.max_executors = 1  # type: ignore[misc]  # assigned on purpose


CHANGES: dict[str, tuple[Callable[[Any], object], Callable[[Any], object], object]] = {
    "executor.env": (lambda c: c.executor.env.update(X="1"), lambda c: c.executor.env, {"X": "1"}),
    "executor.env_inherit_deny": (
        lambda c: c.executor.env_inherit_deny.clear(),
        lambda c: c.executor.env_inherit_deny,
        [],
    ),
    "executor.retry.retry_on": (
        lambda c: c.executor.retry.retry_on.append("timeout"),
        lambda c: c.executor.retry.retry_on,
        ["timeout"],
    ),
    "executor.persistent.args": (
        lambda c: c.executor.persistent.args.append("-u"),
        lambda c: c.executor.persistent.args,
        ["-u"],
    ),
    "kafka.client_config": (
        lambda c: c.kafka.client_config.update({"linger.ms": 5}),
        lambda c: c.kafka.client_config,
        {"linger.ms": 5},
    ),
    "kafka.source_topics": (lambda c: c.kafka.source_topics.append("t"), lambda c: c.kafka.topics, ("t",)),
    "sinks.kafka": (
        lambda c: c.sinks.kafka.update(out=KafkaSinkConfig(topic="t")),
        lambda c: c.sinks.kafka["out"].topic,
        "t",
    ),
    "a plain sink": (
        lambda c: c.sinks.kafka.update(out={"topic": "t"}),
        lambda c: c.sinks.kafka["out"].topic,
        "t",
    ),
    "dlq.client_config": (
        lambda c: c.dlq.client_config.update({"linger.ms": 5}),
        lambda c: c.dlq.client_config,
        {"linger.ms": 5},
    ),
    "app": (lambda c: c.app.update(depth=1), lambda c: c.app, {"depth": 1}),
}


@pytest.mark.parametrize("where", CHANGES)
@pytest.mark.parametrize("given", [{}, {"executor": {"max_executors": 3}, "kafka": {"brokers": "b:1"}}], ids=str)
def test_f21_a_change_in_place_holds(scene: Scene, where: str, given: dict[str, dict[str, object]]) -> None:
    """Of every mapping and list, also of those that nobody gave; the loaded configuration stays what it was."""
    change, look, wanted = CHANGES[where]

    def on_startup(config: DrakkarConfig) -> DrakkarConfig:
        change(config)
        return config

    plain = DrakkarConfig(**given)
    config = scene.of(answering("on_startup", on_startup)).startup(plain)
    assert look(config) == wanted
    assert plain == DrakkarConfig(**given)


def test_f21_every_mapping_and_list_can_be_changed_in_place(scene: Scene) -> None:
    """Whatever section it is in; the values are those of the manual's types."""

    def walk(section: Section, place: str) -> Iterator[tuple[str, Any]]:
        for name, value in section:
            if isinstance(value, Section):
                yield from walk(value, f"{place}{name}.")
            elif isinstance(value, list) and value:
                yield f"{place}{name}", value

    def on_startup(config: DrakkarConfig) -> DrakkarConfig:
        for _, value in walk(config, ""):
            value.append(value[-1])
        return config

    before = {place: len(value) for place, value in walk(DrakkarConfig(), "")}
    config = scene.of(answering("on_startup", on_startup)).startup(DrakkarConfig())
    after = {place: len(value) for place, value in walk(config, "")}
    missed = [place for place, count in before.items() if after.get(place, 0) != count + 1]
    assert before
    assert missed == []


def test_a_handler_has_its_own_settings_from_its_start_on(scene: Scene) -> None:
    """As `app_config`, before on_startup and as that leaves them; None without a model of its own."""

    class Settings(BaseModel):
        depth: int

    class Reading(Handler):
        app_config_model = Settings

        async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
            assert self.app_config == Settings(depth=2)
            config.app = Settings(depth=5)  # type: ignore[misc]  # an opened copy takes assignments
            return config

    handler = Reading()
    assert not bool(handler.app_config)
    hooks = scene.of(handler)
    config = hooks.startup(resolve_app(CONFIG, Settings))
    hooks.ready(config, [])
    assert handler.app_config == Settings(depth=5)
    hooks.close(5)
    free = Handler()
    scene.of(free).startup(CONFIG)
    assert free.app_config is None


def test_what_on_startup_assigns_is_checked(scene: Scene) -> None:
    """A wrong value is told with its key; a key that does not exist can't be assigned."""

    def spoil(config: DrakkarConfig) -> DrakkarConfig:
        config.executor.max_executors = 0  # type: ignore[misc]  # assigned on purpose
        return config

    with pytest.raises(StartupError, match=r"executor\.max_executors") as caught:
        scene.of(answering("on_startup", spoil)).startup(CONFIG)
    assert caught.value.exit_code == 2
    with pytest.raises(ValueError, match="colour"):
        CONFIG.opened().executor.colour = 1


def test_what_on_startup_returns_is_checked_like_a_file(scene: Scene) -> None:
    """Every problem is told with its key; the exit code is that of a bad configuration."""

    def spoil(config: DrakkarConfig) -> DrakkarConfig:
        return config.model_copy(update={"executor": {"max_executors": 0, "colour": 1}, "dlq": 7})

    with pytest.raises(StartupError) as caught:
        scene.of(answering("on_startup", spoil)).startup(CONFIG)
    assert caught.value.exit_code == 2
    told = str(caught.value)
    assert told.count("Answering.on_startup: returned an invalid configuration") == 3
    assert all(key in told for key in ("executor.max_executors", "executor.colour", "dlq"))


@pytest.mark.parametrize("answer", [None, {}, "config"], ids=["none", "mapping", "text"])
def test_an_on_startup_that_returns_something_else_ends_the_start(
    scene: Scene, answer: str | dict[str, Any] | None
) -> None:
    """With a remedy: forgetting `return config` is the usual case."""
    with pytest.raises(StartupError, match=f"returned {type(answer).__name__}, expected.*return config") as caught:
        scene.of(answering("on_startup", answer)).startup(CONFIG)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("hook", ["on_startup", "on_ready"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError])
def test_a_hook_of_the_start_that_raises_ends_it(
    scene: Scene, hook: str, is_async: bool, kind: type[CancelledError | SystemExit | ValueError]
) -> None:
    """Exit code 1, whatever it raised; the message names the hook and the error, the event carries the exception."""
    error = kind("no table")
    hooks = scene.of(answering(hook, error, is_async=is_async))
    with pytest.raises(StartupError, match=rf"Answering.{hook}: raised {kind.__name__}: no table") as caught:
        hooks.startup(CONFIG) if hook == "on_startup" else hooks.ready(CONFIG, [])
    assert (caught.value.exit_code, caught.value.__cause__) == (1, error)
    (event,) = scene.events
    assert (event.hook, event.exception) == (hook, error)
    assert event.error.endswith("no table")
    hooks.close(5)


# --- on_ready -------------------------------------------------------------------------------------------


def test_on_ready_gets_the_pool_of_the_first_postgres_sink(scene: Scene) -> None:
    """Whatever other sinks there are; without one it is None."""

    def sink(kind: str, **attributes: Any) -> Any:
        return SimpleNamespace(spec=SimpleNamespace(kind=kind), sink=SimpleNamespace(**attributes))

    seen: list[Any] = []
    for sinks in ([sink("kafka"), sink("postgres", pool="first"), sink("postgres", pool="second")], [sink("kafka")]):
        hooks = scene.of(answering("on_ready", lambda config, pool: seen.append((config, pool))))
        hooks.ready(CONFIG, sinks)
        hooks.close(5)
    assert seen == [(CONFIG, "first"), (CONFIG, None)]


def test_hooks_of_the_start_run_on_the_loop_one_after_the_other(scene: Scene) -> None:
    """on_startup, on_ready, then the periodic functions."""
    order: list[tuple[str, str]] = []

    def note(what: str) -> None:
        order.append((what, threading.current_thread().name))

    class Noting(Handler):
        async def on_startup(self, config: DrakkarConfig) -> DrakkarConfig:
            note("startup")
            return config

        async def on_ready(self, config: DrakkarConfig, db_pool: Any) -> None:
            note("ready")

        @periodic(0.001)
        async def beat(self) -> None:
            note("beat")
            beaten.set()

    beaten = threading.Event()
    hooks = scene.of(Noting())
    assert hooks.startup(CONFIG) == CONFIG
    hooks.ready(CONFIG, [])
    assert beaten.wait(20)
    hooks.close_periodics(5)
    hooks.close(5)
    assert [what for what, _ in order[:3]] == ["startup", "ready", "beat"]
    assert {thread for _, thread in order} == {"drakkar-loop"}


# --- what a handler may ask for -------------------------------------------------------------------------


class Computing(Handler[Any, Any]):
    """Offloads from a hook, through a function of its own."""

    async def arrange(self, messages: Any, pending: Any) -> Any:
        """Find out where it is computed."""
        return await self.helper()

    async def helper(self) -> str:
        """The hook stays known behind it."""
        return await self.offload(
            lambda prefix, *, end: f"{prefix}{threading.current_thread().name}{end}",  # type: ignore[misc]  # mypy knows no lambda with keywords here
            "on ",
            end="!",
        )


def test_offload_tells_for_which_hook_it_works(scene: Scene) -> None:
    """Through functions that the hook awaits; a call from elsewhere counts as other."""
    handler = Computing()
    with scene.ready(handler):
        assert scene.loop_thread.run(handler.arrange([], None)) == "on drakkar-offload!"
        scene.loop_thread.run(handler.helper())
    assert [event.hook for event in scene.events] == ["arrange", "other"]


def test_a_handler_that_does_not_run_can_not_offload_and_annotates_nothing(scene: Scene) -> None:
    """Before its flow has started, and again after its end."""
    handler = Computing()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Computing does not run: offload works from on_ready on"):
            handler.offload(int, "7")  # type: ignore[unused-coroutine]  # it raises before there is one
        handler.annotate("t", "note", 1)
        assert [event for event in scene.events if isinstance(event, Annotated)] == []
        with scene.ready(handler):
            scene.loop_thread.run(handler.offload(int, "7"))


def test_annotations_are_events(scene: Scene) -> None:
    """What can't be kept is told as dropped, and nothing is raised."""
    handler = Computing()
    with scene.ready(handler):
        handler.annotate("t", "note", {"a": 1}, labels={"model": "m"})
        handler.annotate("t", "note", object())
    assert scene.events == [
        Annotated("other", "t", "note", '{"a":1}', {"model": "m"}),
        AnnotationDropped("note", "not_json"),
    ]


def test_a_handler_runs_in_one_flow_at_a_time(scene: Scene) -> None:
    """Its `offload` could not tell whose pool to use; the flow that runs is left alone."""
    handler = Computing()
    second = scene.of(handler)
    with scene.ready(handler):
        with pytest.raises(StartupError, match="runs in another flow; make a separate instance"):
            second.ready(CONFIG, [])
        second.close(5)
        assert scene.loop_thread.run(handler.offload(int, "7")) == 7


def test_a_timeline_is_accepted_and_not_kept() -> None:
    """Handlers of py-drakkar 2.4 may tell of their timeline: nothing comes of it, nothing fails."""
    assert Handler().timeline_event("phase", "began", ts=1.0, values={"a": 1}) is None  # type: ignore[func-returns-value]  # None is the point
