"""Protocol of the hooks, for type annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from typing_extensions import TypeVar

from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.payload import CollectResult, DeliveryAction, DeliveryError, Payload
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ErrorAction, ExecutorError, ExecutorResult, ExecutorTask, PendingContext

__all__ = ["DrakkarHandler"]

InputT = TypeVar("InputT", default=Any)
OutputT = TypeVar("OutputT", default=Any, covariant=True)


@runtime_checkable
class DrakkarHandler(Protocol[InputT, OutputT]):
    """All hooks of a handler; `Handler` documents them and has all of them.

    `isinstance(thing, DrakkarHandler)` checks that every hook exists, not its parameters.
    """

    async def on_startup(self, config: Any) -> Any:
        """Inspect or replace the configuration before it is used."""

    async def on_ready(self, config: Any, db_pool: Any) -> None:
        """Prepare resources; the sinks are connected."""

    async def arrange(self, messages: list[Record[InputT]], pending: PendingContext) -> list[ExecutorTask]:
        """Turn a window of records into tasks."""
        ...

    async def on_task_complete(
        self, result: ExecutorResult
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Turn a successful task into payloads."""

    async def on_message_complete(
        self, group: MessageGroup
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Turn all results of a record into payloads."""

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record[InputT]]
    ) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Turn all results of a window into payloads."""

    async def on_timer(self, key: Any) -> CollectResult | Payload | Sequence[CollectResult | Payload] | None:
        """Turn a timer of keyed state that is due into payloads."""

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Decide about a failed task."""
        ...

    async def on_delivery_error(self, error: DeliveryError) -> DeliveryAction:
        """Decide about payloads that a sink could not write."""
        ...

    async def on_assign(self, partitions: list[int]) -> None:
        """React to assigned partitions."""

    async def on_revoke(self, partitions: list[int]) -> None:
        """React to revoked and lost partitions."""

    def deserialize_message(self, msg: Record[InputT]) -> Record[InputT] | None:
        """Set a record's payload from its bytes."""

    def message_label(self, msg: Record[InputT]) -> str:
        """Name a record in logs."""
        ...

    def task_priority(self, task: ExecutorTask) -> Any:
        """Rank a task; smaller goes first."""
