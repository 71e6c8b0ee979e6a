"""Flows of a handler: windows, tasks of one or several records, retries, replacements, and state in all hooks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from drakkar_flow import CollectResult, Handler, KafkaPayload, PendingContext
from drakkar_flow.executor.base import Done, Running
from drakkar_flow.graph.handler import BaseDrakkarHandler
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.payload import DeliveryError
from drakkar_flow.model.precomputed import PrecomputedResult
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask
from drakkar_flow.testing.executor import Answer, ScriptedExecutor
from simulation.facts import Facts, Place
from simulation.targets import Payload, chance_of

__all__ = ["SimulatedExecutor", "Tasks", "tasks_handler"]

_DELAYS_S = (0.0, 0.0, 0.001, 0.05, 1.0)


class SimulatedExecutor(ScriptedExecutor):
    """Runs the tasks of a handler in no process."""

    def __init__(self, handler: Tasks, slots: int) -> None:
        super().__init__(handler.answer, slots=slots)
        self._handler = handler

    def submit(self, task: ExecutorTask, priority: object, done: Done) -> Running:
        """Check that the task may start."""
        if all(self._handler.facts.is_fenced(place) for place in self._handler.places[task.task_id]):
            raise self._handler.facts.scheduler.fail(f"{task.task_id} is started though its assignment has ended")
        self._handler.check_order(task)
        return super().submit(task, priority, done)


class Tasks(Handler[str, str]):
    """Makes tasks; what it does with a record depends on the record and the seed alone."""

    has_window_hook = False
    has_message_hook = False

    def __init__(self, facts: Facts, seed: int, sinks: list[str], ordering: str) -> None:
        self.facts = facts
        self.seed = seed
        self.sinks = sinks
        self.ordering = ordering
        self.chance = random.Random(f"delays {seed}")
        self.places: dict[str, tuple[Place, ...]] = {}
        self.attempts: dict[str, int] = {}

    # --- hooks ----------------------------------------------------------------------------------

    async def arrange(self, messages: list[Record[str]], pending: PendingContext) -> list[ExecutorTask]:
        """Make none to two tasks for a record, and some for two records."""
        places = [Place.of(self.facts.life, message) for message in messages]
        for place in places:
            self.facts.begin(place)
        await self._pause()
        if self._luck(places[0], "arrange") < 0.04:
            raise ValueError("a failure of the window")
        tasks: list[ExecutorTask] = []
        for index, place in enumerate(places):
            for number in range((0, 1, 1, 2)[int(4 * self._luck(place, "tasks"))]):
                shared = self._luck(place, f"shared {number}") < 0.2
                tasks.append(self._task(tuple(places[index : index + 1 + shared]), f"{place.offset}-{number}"))
        for place in places:
            owed = [f"task {task.task_id}" for task in tasks if place in self.places[task.task_id]]
            owed += ["message"] * self.has_message_hook + ["window"] * (self.has_window_hook and bool(tasks))
            self.facts.turn(place, "record", *owed)
            self._change(place, "arranged", str(place.offset))
        return tasks

    def answer(self, task: ExecutorTask) -> Answer:
        """Return the result of an attempt of a task."""
        places = self.places[task.task_id]
        attempt = self.attempts[task.task_id] = self.attempts.get(task.task_id, 0) + 1
        luck = self._luck(places[0], f"program {task.task_id.partition('@')[0]}")
        delay_s = self.chance.choice(_DELAYS_S)
        if luck < 0.12:  # on_error decides
            return Answer(exit_code=1, delay_s=delay_s)
        if luck < 0.3 and attempt < 3:
            return Answer(exit_code=1, delay_s=delay_s)
        if luck < 0.4 and attempt < 2:
            return Answer(kind="timeout", delay_s=delay_s)
        return Answer(stdout="fine", delay_s=delay_s)

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> Any:
        """Try again, skip, make a dead letter, or replace the task."""
        places, debt = self.places[task.task_id], f"task {task.task_id}"
        await self._pause()
        luck = self._luck(places[0], f"program {task.task_id.partition('@')[0]}")
        if luck >= 0.12:
            return "retry"
        if luck < 0.04:
            self._each(places, debt)
            return "skip"
        if luck < 0.08 or "r" in task.task_id:
            self._each(places, debt, f"dead {debt}")
            return "dlq"
        name = task.task_id.partition("@")[0]
        replacements = [self._task(places, f"{name}r{number}") for number in range(2)]
        self._each(places, debt, *(f"task {each.task_id}" for each in replacements))
        return replacements

    async def on_task_complete(self, result: ExecutorResult) -> CollectResult | None:
        """Return none to two payloads."""
        task = result.task
        places = self.places[task.task_id]
        await self._pause()
        return self._outputs(places, f"task {task.task_id}", f"failed on_task_complete {task.task_id}")

    async def on_delivery_error(self, error: DeliveryError) -> Any:
        """Decide about payloads that could not be delivered."""
        action = self.chance.choice(("retry", "retry", "skip", "dlq"))
        if action == "skip":
            for each in error.payloads:
                self._each(each.data.places, f"{each.data.name} to {error.sink_name}")
        return action

    # --- inside ---------------------------------------------------------------------------------

    def _task(self, places: tuple[Place, ...], name: str) -> ExecutorTask:
        task_id = f"{name}@{places[0].partition}.{places[0].life}.{places[0].epoch}"
        self.places[task_id] = places
        given = PrecomputedResult(stdout="given") if self._luck(places[0], f"given {name}") < 0.1 else None
        return ExecutorTask(task_id=task_id, source_offsets=[place.offset for place in places], precomputed=given)

    def check_order(self, task: ExecutorTask) -> None:
        """Check that a task overtakes no other one of its keys."""
        places = self.places[task.task_id]
        if self.ordering == "unordered":
            return
        for key in {place.offset % 3 if self.ordering == "key" else "" for place in places}:
            self.facts.start("execute", min(places), key)

    def _outputs(self, places: tuple[Place, ...], debt: str, failed: str) -> CollectResult | None:
        luck = self._luck(places[0], debt.partition("@")[0])
        if luck < 0.05:
            self._each(places, debt, failed)
            raise ValueError(f"a failure of {debt}")
        sinks = [self.sinks[number % len(self.sinks)] for number in range((0, 1, 1, 2)[int(4 * luck)])]
        names = [f"output {number} of {debt}" for number in range(len(sinks))]
        self._each(places, debt, *(f"{name} to {sink}" for name, sink in zip(names, sinks, strict=True)))
        self._change(places[0], f"k{int(10 * luck) % 3}", f"{places[0].offset} {debt.partition('@')[0]}")
        payloads = [
            KafkaPayload(sink=sink, data=Payload(places, name)) for name, sink in zip(names, sinks, strict=True)
        ]
        return CollectResult(kafka=payloads) if payloads else None

    def _each(self, places: Any, debt: str, *into: str) -> None:
        for place in places:
            self.facts.turn(place, debt, *into)

    def _change(self, place: Place, key: str, entry: str) -> None:
        """Append an entry to the value of a key, if the handler keeps state."""
        if self.state_model is not None:
            self.facts.change(place, ("handler", key), entry)
            self.state[key] = [*self.state.get(key, []), entry]

    async def _pause(self) -> None:
        if delay_s := self.chance.choice(_DELAYS_S):
            await asyncio.sleep(delay_s)

    def _luck(self, place: Place, what: str) -> float:
        return chance_of(f"{self.seed} {place.partition} {place.offset} {what}")


class _Groups(Tasks):
    """With the hook of a record."""

    has_message_hook = True

    async def on_message_complete(self, group: MessageGroup) -> CollectResult | None:
        """Return payloads of a record."""
        place = Place.of(self.facts.life, group.source_message)
        await self._pause()
        return self._outputs((place,), "message", "failed on_message_complete")


class _Windows(_Groups):
    """With the hook of a window as well."""

    has_window_hook = True

    async def on_window_complete(
        self, results: list[ExecutorResult], source_messages: list[Record[str]]
    ) -> CollectResult | None:
        """Return payloads of a window."""
        places = tuple(Place.of(self.facts.life, message) for message in source_messages)
        await self._pause()
        return self._outputs(places, "window", "failed on_window_complete")


class _OnlyWindows(_Windows):
    """With the hook of a window, without that of a record."""

    has_message_hook = False
    on_message_complete = BaseDrakkarHandler.on_message_complete  # type: ignore[assignment]


def tasks_handler(
    facts: Facts, seed: int, chance: random.Random, sinks: list[str], ordering: str, *, has_state: bool
) -> Tasks:
    """Return a handler with some of the hooks."""
    kind: type[Tasks] = chance.choice((Tasks, _Groups, _Windows, _OnlyWindows))
    if has_state:
        kind = type(f"{kind.__name__}WithState", (kind,), {"state_model": list[str]})
    return kind(facts, seed, sinks, ordering)
