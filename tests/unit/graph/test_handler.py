"""What a handler's class says: its models through any inheritance, its hooks, its periodic methods."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import pytest

from drakkar_flow import ErrorAction, Handler, PendingContext, StreamFlow
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.graph.handler import BaseDrakkarHandler
from drakkar_flow.graph.nodes import Collect, Decode, Execute
from drakkar_flow.graph.periodic import periodic, periodics_of
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask

A = TypeVar("A")
B = TypeVar("B")


class Numbering(Handler[int, str]):
    """Has the one hook that is required."""

    async def arrange(self, messages: list[Record[int]], pending: PendingContext) -> Any: ...


# --- models ---------------------------------------------------------------------------------------------


class Numbers(Handler[int, str]):
    """Types given directly."""


class MoreNumbers(Numbers):
    """A subclass of a subclass."""


class Half(Handler[A, str], Generic[A]):
    """One type stays open."""


class Swapped(Half[B], Generic[A, B]):
    """Its first parameter is its own; the second is the input."""


class Listed(Handler[list[A], dict[str, B]], Generic[A, B]):
    """Parameters inside of other types."""


class Mixin(Generic[A, B]):
    """Generic, with two parameters, and no handler."""


@pytest.mark.parametrize(
    ("handler", "models"),
    [
        (Handler, (None, None)),
        (Numbers, (int, str)),
        (MoreNumbers, (int, str)),
        (Half, (None, str)),
    ],
    ids=["base", "direct", "subclass", "half-open"],
)
def test_the_models_are_those_of_the_class(
    handler: type[BaseDrakkarHandler | Half[Any] | MoreNumbers | Numbers],
    models: tuple[None, None] | tuple[None, type[str]] | tuple[type[int], type[str]],
) -> None:
    """What stays open is None."""
    assert (handler.input_model, handler.output_model) == models


def test_the_models_are_found_through_generic_bases() -> None:
    """Each parameter is followed to the class that gives it."""

    class FromHalf(Half[float]): ...

    class FromSwapped(Swapped[bytes, float]): ...

    class FromListed(Listed[int, float]): ...

    class Sub(FromListed): ...

    assert (FromHalf.input_model, FromHalf.output_model) == (float, str)
    assert (FromSwapped.input_model, FromSwapped.output_model) == (float, str)
    assert (FromListed.input_model, FromListed.output_model) == (list[int], dict[str, float])
    assert (Sub.input_model, Sub.output_model) == (list[int], dict[str, float])


def test_the_parameters_of_a_mixin_are_not_the_handlers() -> None:
    """Wherever it stands among the bases."""

    class Before(Mixin[bytes, bytes], Handler[int, str]): ...

    class After(Handler[int, str], Mixin[bytes, bytes]): ...

    class Untyped(Mixin[bytes, bytes], Handler): ...

    assert (Before.input_model, After.input_model, Untyped.input_model) == (int, int, None)


def test_a_model_named_in_the_class_goes_before_the_parameters() -> None:
    """As in py-drakkar, where it is a class attribute."""

    class Named(Handler[int, str]):
        input_model = float

    assert (Named.input_model, Named.output_model) == (float, str)


# --- hooks ----------------------------------------------------------------------------------------------


def test_only_hooks_that_are_written_are_called() -> None:
    """A bare handler has no decoding, no hooks around its steps, and the default priority."""
    flow = StreamFlow.from_handler(Handler())
    assert flow.find(Decode) is None
    assert flow.find(Execute).priority is None
    hooks = flow.hooks
    assert (hooks.on_startup, hooks.on_ready, hooks.on_assign, hooks.on_revoke, hooks.message_label) == (None,) * 5
    assert (hooks.periodics, hooks.warnings) == ((), ())


def test_a_handler_without_arrange_is_refused() -> None:
    """Before the start, and not at each record."""
    (problem,) = StreamFlow.from_handler(Numbers()).problems()
    assert str(problem).startswith("Numbers: arrange is missing; define async def arrange(self, messages, pending)")


def test_a_hook_with_parameters_that_do_not_fit_is_refused() -> None:
    """It says what is there, what is wrong with it, and how to write it; parameters may have other names."""

    class Wrong(Numbering):
        async def arrange(self, messages: list[Record]) -> None: ...  # type: ignore[override]  # wrong on purpose

        async def on_ready(  # type: ignore[override]  # wrong on purpose
            self, settings: Any, *rest: object, **others: Any
        ) -> None: ...

        async def on_window_complete(  # type: ignore[override]  # wrong on purpose
            self, results: list[ExecutorResult], messages: list[Record], more: Any
        ) -> None: ...

        on_error = 5  # type: ignore[assignment]  # wrong on purpose

    assert [str(problem) for problem in StreamFlow.from_handler(Wrong()).problems() if "Wrong." in str(problem)] == [
        (
            "Wrong.arrange: its parameters (messages) don't fit: too many positional arguments; "
            "write them as (self, messages, pending)"
        ),
        (
            "Wrong.on_window_complete: its parameters (results, messages, more) don't fit: "
            "missing a required argument: 'more'; write them as (self, results, source_messages)"
        ),
        "Wrong.on_error: 5 can't be called; write it as a method",
    ]


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("on_message_completed", "on_message_complete"),
        ("on_task_complet", "on_task_complete"),
        ("on_delivery_eror", "on_delivery_error"),
        ("onTaskComplete", "on_task_complete"),
        ("on_taskcomplete", "on_task_complete"),
        ("deserialise_message", "deserialize_message"),
        ("task_prority", "task_priority"),
        ("on_redy", "on_ready"),
    ],
)
def test_a_misspelled_hook_is_an_error_with_place_and_remedy(name: str, hook: str) -> None:
    """Records would be processed and committed without it. It is found in base classes too."""
    scope: dict[str, Any] = {}
    exec(compile(f"def {name}(self, *given): ...", "/jobs/words.py", "exec"), scope)
    mixin = type("Mixin", (), {name: scope[name]})
    typo = type("Typo", (mixin, Numbering), {"fetch": lambda self: None, "on_startup_done": lambda self: None})
    (problem,) = StreamFlow.from_handler(typo()).problems()
    assert problem.placed == f"/jobs/words.py:1 Typo.{name}: unknown hook, never called; did you mean {hook}?"


def test_a_misspelled_arrange_is_named_beside_the_missing_one() -> None:
    """Both problems, so that the remedy is plain."""

    class Typo(Handler):
        async def arange(self, messages: list[Record], pending: PendingContext) -> Any: ...

    told = [str(problem) for problem in StreamFlow.from_handler(Typo()).problems()]
    assert "Typo.arange: unknown hook, never called; did you mean arrange?" in told


def test_a_misspelled_setting_of_a_handler_is_an_error() -> None:
    """Records would not be decoded."""

    class Typo(Numbering):
        app_env_prefx = "JOB_"

    (problem,) = StreamFlow.from_handler(Typo()).problems()
    assert str(problem) == "Typo.app_env_prefx: unknown setting, never read; did you mean app_env_prefix?"
    assert "test_handler.py:" in problem.place


def test_a_helper_named_like_a_hook_is_allowed_where_it_is_one() -> None:
    """The hook is defined too, the class's code uses the name, or `not_hooks` lists it; the first two are warned of."""

    class Helpful(Numbering):
        not_hooks = ("on_revoked",)

        async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
            return ErrorAction.SKIP

        def on_errors(self) -> None: ...

        async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> list[Any]:
            return [self.on_task_completed(result) for result in results]

        def on_task_completed(self, result: ExecutorResult) -> Any: ...

        def on_revoked(self) -> None: ...

        @periodic(30)
        async def on_readyy(self) -> None: ...

        class InputModel: ...

    flow = StreamFlow.from_handler(Helpful())
    assert flow.problems() == []
    errors, completed = flow.hooks.warnings
    assert "Helpful.on_errors: unknown hook, never called; did you mean on_error?" in errors
    assert "Helpful.on_task_completed: unknown hook, never called; did you mean on_task_complete?" in completed


def test_hooks_of_a_base_class_are_called_too() -> None:
    """Also `collect`, the old name, when a base class or a mixin defines it."""

    class Old:
        async def collect(self, result: ExecutorResult) -> None: ...

        def message_label(self, msg: Record) -> str:
            return "m"

    class New(Old, Handler[int, str]):
        async def on_startup(self, config: DrakkarConfig) -> None: ...

    class Newest(New): ...

    handler = Newest()
    flow = StreamFlow.from_handler(handler)
    assert flow.find(Collect).fn == handler.collect
    assert flow.hooks.on_startup == handler.on_startup
    assert flow.hooks.message_label == handler.message_label
    assert flow.hooks.owner is handler


def test_on_task_complete_goes_before_its_old_name_and_that_is_told() -> None:
    """Both at once can only be a mistake of a migration."""

    class Both(Handler):
        async def on_task_complete(self, result: ExecutorResult) -> None: ...
        async def collect(self, result: ExecutorResult) -> None: ...

    handler = Both()
    flow = StreamFlow.from_handler(handler)
    assert flow.find(Collect).fn == handler.on_task_complete
    (warning,) = flow.hooks.warnings
    assert "Both" in warning
    assert "collect is never called" in warning


@pytest.mark.parametrize("hook", ["message_label", "task_priority", "deserialize_message"])
def test_a_hook_that_must_not_wait_must_not_be_async(hook: str) -> None:
    """The flow is refused with the hook's name, instead of failing at each record."""

    async def waiting(self: object, what: object) -> None: ...

    flow = StreamFlow.from_handler(type("Wrong", (Numbering,), {hook: waiting})())
    (problem,) = flow.problems()
    assert "async" in problem.what


def test_a_hook_that_is_no_function_is_refused() -> None:
    """`on_ready = None` in a class body, say, is not an override that can be called."""
    flow = StreamFlow("f").with_hooks(on_ready=3).route()  # type: ignore[arg-type]  # wrong on purpose
    (problem,) = flow.problems()
    assert (problem.where, "3 can't be called" in problem.what) == ("on_ready", True)


def test_the_default_decoding_can_be_called_by_an_override() -> None:
    """`super().deserialize_message(msg)` decodes to the input model."""
    record = Record("in", 0, 0, b"7")
    assert Numbers().deserialize_message(record) is record
    assert record.payload == 7
    bare = Record("in", 0, 0, b"7")
    assert Handler().deserialize_message(bare) is bare
    assert bare.payload is None


def test_the_cache_that_is_not_there_takes_every_call() -> None:
    """A handler written for py-drakkar's cache runs; nothing is kept."""
    handler = Numbers()
    handler.cache.set("k", 1, ttl=60)
    assert handler.cache.peek("k") is None
    assert handler.cache.delete("k") is False
    assert "k" not in handler.cache


# --- periodic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "3", True, None])
def test_d44_periodic_needs_seconds(seconds: bool | float | str | None) -> None:
    """D-44: an interval is a finite number above 0."""
    with pytest.raises(ValueError, match="number of seconds above 0"):
        periodic(seconds)  # type: ignore[arg-type]  # wrong on purpose


def test_d44_periodic_needs_an_async_function() -> None:
    """D-44: a plain one is refused where it is written."""
    with pytest.raises(TypeError, match="'async def'"):

        @periodic(1)  # type: ignore[type-var]  # wrong on purpose
        def beat(self: object) -> None: ...


def test_periodic_knows_two_answers_to_errors() -> None:
    """Anything else is a mistake."""
    with pytest.raises(ValueError, match="'continue' or 'stop'"):
        periodic(1, on_error="retry")  # type: ignore[arg-type]  # wrong on purpose


def test_periodic_methods_are_found_through_base_classes() -> None:
    """Overridden without the decorator a method is not periodic any more; each is found once, bound."""

    class Base:
        @periodic(1)
        async def kept(self) -> Base:
            return self

        @periodic(2)
        async def replaced(self) -> None: ...

        @periodic(3)
        async def dropped(self) -> None: ...

        @staticmethod
        @periodic(5)
        async def apart() -> None: ...

    class Derived(Base):
        @periodic(4, on_error="stop")
        async def replaced(self) -> None: ...

        async def dropped(self) -> None: ...

    found = {each.name: (each.seconds, each.on_error) for each in periodics_of(Derived())}
    assert found == {"kept": (1, "continue"), "replaced": (4, "stop"), "apart": (5, "continue")}


def test_a_flow_takes_periodic_functions_that_are_decorated() -> None:
    """They add up; a function without an interval is refused."""

    @periodic(9)
    async def beat() -> None: ...

    flow = StreamFlow("f").with_hooks(periodics=[beat]).with_hooks(message_label=str)
    assert [(each.name, each.seconds) for each in flow.hooks.periodics] == [("beat", 9)]

    async def plain() -> None: ...

    with pytest.raises(TypeError, match="decorate it"):
        StreamFlow("f").with_hooks(periodics=[plain])
