"""Posts each message to the HTTP sink."""

from drakkar_flow import BaseDrakkarHandler, ExecutorTask, HttpPayload, PendingContext, PrecomputedResult
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorResult


class Posting(BaseDrakkarHandler):
    """One task per message that needs no program."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        """A task for each."""
        return [
            ExecutorTask(task_id=f"post-{m.offset}", source_offsets=[m.offset], precomputed=PrecomputedResult())
            for m in messages
        ]

    async def on_task_complete(self, result: ExecutorResult) -> HttpPayload:
        """Its id is what is posted."""
        return HttpPayload(data=result.task.task_id)


flow = Posting()
