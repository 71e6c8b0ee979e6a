"""Handler: a class with hooks, compiled to a flow by `StreamFlow.from_handler`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, ParamSpec

from pydantic import BaseModel
from typing_extensions import TypeVar

from drakkar_flow.graph.cache import NoCache
from drakkar_flow.graph.cached_execute import CachedExecute
from drakkar_flow.graph.parameters import parameters_of
from drakkar_flow.graph.services import Services
from drakkar_flow.model.cache import CacheLike
from drakkar_flow.model.codec import decoder_for
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.payload import CollectResult, DeliveryAction, DeliveryError, Payload
from drakkar_flow.model.record import Record
from drakkar_flow.model.state import CURRENT_STATE, KeyedState
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask, PendingContext

__all__ = ["BaseDrakkarHandler", "Handler", "overrides"]

InputT = TypeVar("InputT", default=Any)
OutputT = TypeVar("OutputT", default=Any)
P = ParamSpec("P")
R = TypeVar("R")


class _State:
    """State of the running hook. An attribute `state` that a handler sets itself replaces it."""

    def __get__(self, handler: BaseDrakkarHandler[Any, Any] | None, owner: type[BaseDrakkarHandler[Any, Any]]) -> Any:
        if handler is None:
            return self
        if owner.state_model is None:
            raise AttributeError(f"{owner.__name__} has no state: set state_model to the type of its values")
        state: KeyedState | None = CURRENT_STATE.get()
        if state is None:
            what = "arrange, on_task_complete, on_message_complete, on_window_complete and on_timer"
            raise RuntimeError(f"{owner.__name__}.state belongs to the records of a hook: use it in {what}")
        return state


class BaseDrakkarHandler(Generic[InputT, OutputT]):
    """Base class of handlers: define `arrange`, and the hooks you need.

    `BaseDrakkarHandler[Input, Output]` decodes each record's value to `Input` (a pydantic model,
    a msgspec struct, any type pydantic knows) into `record.payload`. Without parameters, records have
    `payload=None` and only their bytes. `Output` is documentation only. Both are found through generic
    base classes and mixins; a class attribute `input_model` overrides them.

    An async hook may be a plain function in a subclass; it then runs on the event loop and must be
    short. A hook that raises never freezes an offset; docs/handlers.md lists the effect per hook.

    >>> class Grep(BaseDrakkarHandler[dict, dict]):
    ...     async def arrange(self, messages, pending):
    ...         return [
    ...             ExecutorTask(task_id=m.label, args=[m.payload["path"]], source_offsets=[m.offset]) for m in messages
    ...         ]
    >>> Grep.input_model
    <class 'dict'>
    """

    input_model: ClassVar[Any] = None
    output_model: ClassVar[Any] = None
    app_config_model: ClassVar[type[BaseModel] | None] = None
    """The model of the configuration's `app` section; loading the configuration validates the section.

    `config.app` is then an instance of it, and so is `app_config`. None leaves the section a free mapping.
    """
    app_config: Any = None
    """The `app` section as an `app_config_model`, from `on_startup` on; None without such a model."""
    app_env_prefix: ClassVar[str] = "APP_"
    """Environment variables `APP_LIMIT` and `APP_DB__HOST` set `app.limit` and `app.db.host` of the model."""
    not_hooks: ClassVar[Collection[str]] = ()
    """Helpers with a name close to a hook's, e.g. `{"on_ready_"}`; others are refused at the start."""
    state_model: ClassVar[Any] = None
    """Type of the values of `state`, as in `StreamFlow.stateful`; None keeps no state."""
    state_ttl_s: ClassVar[float | None] = None
    """Seconds after which a value of `state` expires; None keeps it without limit."""
    state_migrate: ClassVar[Callable[[Any], Any] | None] = None
    """Function that turns a value of an older `state_model` into the present one; may be a static method."""
    state = _State()
    """Keyed state of the partition of a hook's records: `get(key)`, `[key]`, `[key] = value`, `del`, `in`.

    `set_timer(key, delay_s)` lets `on_timer(key)` be called later; None cancels it.

    In `arrange`, `on_timer` and the hooks that collect results. Changes count when the hook returns, not when it
    raises, for all records of the hook, and are final when these are finished. Assign a changed value again: it is
    stored by the assignment. A hook that waits reads and writes after its last `await`; if another hook has changed
    what it read, it fails.
    """
    cache: CacheLike = NoCache()
    """The worker's cache, from `on_ready` on; with `cache.enabled: false` it accepts every call and stores nothing.

    An attribute `cache` that a handler sets itself replaces it.
    """
    cached_execute: ClassVar[CachedExecute | None] = None
    """Rule by which results of tasks are stored in the cache; equal tasks need no program then. None stores none."""

    _services: Services | None = None  # of the running flow: set at its start, removed at its end

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found = parameters_of(cls, BaseDrakkarHandler)
        for name, model in zip(("input_model", "output_model"), found, strict=False):
            if name not in vars(cls) and not isinstance(model, TypeVar):
                setattr(cls, name, model)

    # --- the flow's life ------------------------------------------------------------------------

    async def on_startup(self, config: Any) -> Any:
        """Inspect the configuration (a DrakkarConfig) before it is used; return it, or a changed one.

        Called once, first at a start; the returned configuration is checked like a file. `config` is
        a separate copy: assign to it, or return `config.model_copy(update={...})`. There is no time
        limit. If it raises or returns another type, the flow does not start.
        """
        return config

    async def on_ready(self, config: Any, db_pool: Any) -> None:
        """Prepare resources of the other hooks; called once, before the first record is read.

        Sinks and the dead letter queue are connected then. `db_pool` is the asyncpg pool of the
        first PostgreSQL sink, None without one. There is no time limit. If it raises, the flow does not
        start and closes its resources.
        """

    async def on_assign(self, partitions: list[Any]) -> None:
        """React to partitions that were assigned to this process.

        Each is an `AssignedPartition`: an `int` with a `topic`. Their records don't wait for this hook.
        It never overlaps with `on_revoke`: calls follow the order of the changes.
        """

    async def on_revoke(self, partitions: list[Any]) -> None:
        """React to partitions that leave this process, after their last commit and before their release.

        The release waits for it during the rest of the drain budget; the hook may continue for another
        budget, then it is cancelled. It is also called for lost partitions, which other workers own
        already. At an orderly end it is called for all partitions.
        """

    # --- the work -------------------------------------------------------------------------------

    async def arrange(self, messages: list[Record[InputT]], pending: PendingContext) -> list[ExecutorTask]:
        """Turn a window of records of one partition into tasks.

        Called once per window, one at a time per partition. A record without a task is finished
        immediately. If it raises, every record of the window follows the error route.
        """
        raise NotImplementedError(f"{type(self).__name__} must define arrange(self, messages, pending)")

    async def on_task_complete(
        self, result: ExecutorResult
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Turn one successful task into payloads; called concurrently for many tasks."""
        return None

    async def on_message_complete(
        self, group: MessageGroup
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Called once per record after all its tasks have ended, also without tasks."""
        return None

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record[InputT]]
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Called once per window that had tasks, when all of them have ended.

        The window's offsets wait for it and for the payloads it returns.
        """
        return None

    async def on_timer(self, key: Any) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Called when the timer that `self.state.set_timer(key, delay_s)` set is due; needs `state_model`.

        A timer fires once, with the next window of its partition and before its `arrange`. Its changes and payloads
        belong to the window's first record: final and acknowledged with it. If it raises, a share of that record
        follows the error route, and the timer is gone.
        """
        return None

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Decide about a failed task: RETRY, SKIP, DLQ, or tasks that take its place."""
        return ErrorAction.SKIP

    async def on_delivery_error(self, error: DeliveryError) -> DeliveryAction:
        """Decide about payloads that a sink could not write, after its retries: DLQ, RETRY or SKIP."""
        return DeliveryAction.DLQ

    # --- plain functions that don't wait --------------------------------------------------------

    def deserialize_message(self, msg: Record[InputT]) -> Record[InputT] | None:
        """Set `msg.payload` from `msg.value`, and return the message, or None.

        Overriding it replaces the decoding to `input_model`; it runs on the engine thread. An exception
        is a decode error: the record follows `runtime.on_decode_error`.
        """
        if self.input_model is not None:
            msg.payload = self._decode(msg.value)
        return msg

    def message_label(self, msg: Record[InputT]) -> str:
        """Return a label of a record for logs, errors and dead letters; called only if a label is needed.

        It may be called before the record is decoded (`msg.payload` is None then), from any thread. If
        it raises or returns no text, the label is topic:partition:offset.
        """
        return msg.label

    def task_priority(self, task: ExecutorTask) -> Any:
        """Return the priority of a task that waits for a slot: smaller first, equals in arrival order.

        A number, a text, or a tuple of these; called before a task waits, again before each retry, not for
        precomputed tasks. If it raises, the priority is the first of the task's source offsets.
        """
        return min(task.source_offsets, default=0)

    # --- services for handlers ------------------------------------------------------------------

    def offload(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the computation `fn(*args, **kwargs)` on a thread: `await self.offload(parse, text)`.

        At most `offload.max_threads` calls run concurrently, others wait in order. Context variables
        are those of the caller. Exceptions of `fn` are raised here. If the caller is cancelled, a
        waiting call is withdrawn, a running one continues to its end. All threads share the
        interpreter's lock: use programs for work on several cores.

        Raises:
            RuntimeError: before the handler's flow has connected everything (`on_ready` is the
                first hook that may use it), or after its end.
        """
        services = self._services
        if services is None:
            what = "offload works from on_ready on, as long as the flow runs"
            raise RuntimeError(f"{type(self).__name__} does not run: {what}")
        return services.offload(fn, args, kwargs)

    def annotate(
        self, target: object, kind: str, data: object = None, *, labels: Mapping[str, str] | None = None
    ) -> None:
        """Attach `data` of some `kind` to a record, a task, a result or a text id.

        It is emitted as an `Annotated` event and counted; the flight recorder stores it. `data` is any value with
        a JSON form of at most 16 KiB. Larger or other values are dropped and counted; this never
        raises. A handler that does not run annotates nothing.
        """
        if self._services is not None:
            self._services.annotate(target, kind, data, labels)

    def timeline_event(self, type: str, text: str, **details: object) -> None:  # noqa: A002  (py-drakkar's names)
        """Accepted for compatibility with py-drakkar: there is no timeline."""

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        return decoder_for(self.input_model)


Handler = BaseDrakkarHandler


def overrides(handler: BaseDrakkarHandler[Any, Any], hook: str) -> bool:
    """Return True if a handler defines a hook itself."""
    return getattr(type(handler), hook, None) is not getattr(BaseDrakkarHandler, hook, None)
