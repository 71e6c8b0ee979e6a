"""Posts each message to the HTTP sink."""

from drakkar_flow import BaseDrakkarHandler, ExecutorTask, HttpPayload, PrecomputedResult


class Posting(BaseDrakkarHandler):
    """One task per message that needs no program."""

    async def arrange(self, messages, pending):
        """A task for each."""
        return [
            ExecutorTask(task_id=f"post-{m.offset}", source_offsets=[m.offset], precomputed=PrecomputedResult())
            for m in messages
        ]

    async def on_task_complete(self, result):
        """Its id is what is posted."""
        return HttpPayload(data=result.task.task_id)


flow = Posting()
