"""The handler: the hooks a user writes, turned into a flow by `StreamFlow.from_handler`."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel

from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.payload import CollectResult
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask, PendingContext

__all__ = ["BaseDrakkarHandler", "Handler", "overrides"]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


class BaseDrakkarHandler(Generic[InputT, OutputT]):
    """Subclass it, write `arrange`, and the hooks you need.

    `BaseDrakkarHandler[Input, Output]` decodes each record's value to `Input` (a pydantic model,
    a msgspec struct, any type pydantic knows) into `record.payload`; used bare, records come with
    `payload=None` and only their bytes. `Output` is for the reader.

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
    """The model of the configuration's `app` section, which is checked by it when the configuration is loaded.

    `config.app` is then an instance of it. None leaves the section a free mapping.
    """
    app_env_prefix: ClassVar[str] = "APP_"
    """Environment variables `APP_LIMIT` and `APP_DB__HOST` set `app.limit` and `app.db.host` of the model."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            models = [None if isinstance(arg, TypeVar) else arg for arg in get_args(base)]
            if len(models) == 2 and models[0] is not None:
                cls.input_model, cls.output_model = models

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """Turn a window of records of one partition into tasks.

        Called once per window, one at a time per partition. A record no task names is finished at
        once. If it raises, every record of the window follows the error route.
        """
        raise NotImplementedError(f"{type(self).__name__} must define arrange(self, messages, pending)")

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult | None:
        """Turn one successful task into payloads; called concurrently for many tasks."""
        return None

    async def on_message_complete(self, group: MessageGroup) -> CollectResult | None:
        """Called once per record when all its tasks have ended, also when it had none."""
        return None

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record]
    ) -> CollectResult | None:
        """Called once per window that had tasks, when all of them have ended.

        The window's offsets wait for it and for the payloads it returns.
        """
        return None

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Decide about a failed task: RETRY, SKIP, DLQ, or tasks that take its place."""
        return ErrorAction.SKIP


Handler = BaseDrakkarHandler


def overrides(handler: BaseDrakkarHandler[Any, Any], hook: str) -> bool:
    """Tell whether a handler defines a hook itself."""
    return getattr(type(handler), hook, None) is not getattr(BaseDrakkarHandler, hook, None)
