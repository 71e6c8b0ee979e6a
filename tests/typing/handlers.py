"""Handlers and their hooks."""

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from drakkar_flow import (
    BaseDrakkarHandler,
    CollectResult,
    DrakkarHandler,
    ErrorAction,
    ExecutorError,
    ExecutorResult,
    ExecutorTask,
    Handler,
    KafkaPayload,
    MessageGroup,
    PendingContext,
    SourceMessage,
)


class Document(BaseModel):
    """What comes in."""

    text: str


class Count(BaseModel):
    """What goes out."""

    words: int


class Right(Handler[Document, Count]):
    """Every hook as py-drakkar's users write it."""

    async def arrange(self, messages: list[SourceMessage[Document]], pending: PendingContext) -> list[ExecutorTask]:
        """The payload has its type."""
        for message in messages:
            assert_type(message.payload, Document)
        return [
            ExecutorTask(task_id=message.label, source_offsets=[message.offset], stdin=message.payload.text)
            for message in messages
            if message.label not in pending.pending_task_ids
        ]

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult:
        """A hook may promise more than it has to."""
        return CollectResult(kafka=[KafkaPayload(data=Count(words=int(result.stdout)))])

    async def on_message_complete(self, group: MessageGroup) -> CollectResult | None:
        """Nothing is an answer."""
        return None

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Replacements, or an action."""
        if error.kind == "timeout":
            return [task.model_copy(update={"args": ["--fast"]})]
        return ErrorAction.DLQ


class Payloads(Handler[Document, Count]):
    """A hook returns one payload, or several, in place of a CollectResult."""

    async def on_task_complete(self, result: ExecutorResult) -> KafkaPayload:
        """One."""
        return KafkaPayload(data=result.stdout)

    async def on_message_complete(self, group: MessageGroup) -> list[KafkaPayload] | None:
        """Several, or none."""
        return None if group.is_empty else [KafkaPayload(data=group.total)]

    async def on_window_complete(  # E: override
        self,
        results: list[ExecutorResult],
        source_messages: list[SourceMessage[Document]],
    ) -> str:
        """A text is no payload."""
        return "done"


class Untyped(BaseDrakkarHandler[Document, Count]):
    """Messages without a type may be named as py-drakkar's are."""

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        """The payload is anything."""
        assert_type(messages[0].payload, Any)
        return []


class WrongPayload(Handler[Document, Count]):
    """The payload is what the handler decodes to."""

    async def arrange(
        self,
        messages: list[SourceMessage[Count]],  # E: override
        pending: PendingContext,
    ) -> list[ExecutorTask]:
        """No document is a count."""
        return []


class Bare(Handler):
    """Without parameters the payload is None, and may be used as anything."""

    async def arrange(self, messages: list[SourceMessage], pending: PendingContext) -> list[ExecutorTask]:
        """The bytes are always there."""
        assert_type(messages[0].value, bytes)
        return []

    async def on_assign(self, partitions: list[int]) -> None:
        """As py-drakkar's handlers write it."""


def takes_any(handler: DrakkarHandler) -> None:
    """For those who annotate what takes a handler."""


def protocol(handler: Right, bare: Bare) -> None:
    """Every handler has every hook; a class of another kind has not."""
    takes_any(handler)
    takes_any(bare)
    takes_any(Document(text=""))  # E: arg-type


class WrongArrange(Handler[Document, Count]):
    """A hook has to take what it is given, and return what is asked for."""

    async def arrange(self, messages: list[str], pending: PendingContext) -> list[ExecutorTask]:  # E: override
        """Messages are no texts."""
        return []

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> str:  # E: override
        """A text is no action."""
        return "retry"


class WrongAnswers(Handler[Document, Count]):
    """Answers of a wrong type."""

    def on_task_complete(self, result: ExecutorResult) -> CollectResult:  # E: override
        """A hook is async."""
        return CollectResult()

    async def on_message_complete(self, group: MessageGroup) -> CollectResult | None:
        """A list has to match its field."""
        return CollectResult(files=[KafkaPayload(data=group.total)])  # E: list-item

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> ErrorAction | list[ExecutorTask]:
        """Actions that do not exist, one task without its list."""
        if error.kind == "timeout":
            return ErrorAction.IGNORE  # E: attr-defined, no-any-return
        if error.exit_code is None:
            return "retry"  # E: return-value
        return task  # E: return-value
