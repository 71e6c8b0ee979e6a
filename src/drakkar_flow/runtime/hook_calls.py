"""Hook calls: calls of functions that may wait, at the price of a plain call when they do not."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, Generic, TypeVar

from drakkar_flow.runtime.event_loop import EventLoopThread

__all__ = ["Done", "HookCalls", "eager_task"]

_EAGER = sys.version_info >= (3, 12)

if sys.version_info >= (3, 12):

    def eager_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        """Start at once: a coroutine that does not wait has ended when this returns."""
        return asyncio.Task(coroutine, loop=loop, eager_start=True)

else:

    def eager_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
        return loop.create_task(coroutine)


Done = Callable[[Any, BaseException | None], None]

S = TypeVar("S")


class HookCalls:
    """Owns the tasks of the unfinished calls of one shard; use on the loop's thread only.

    When the event loop thread closes, running calls are cancelled, no call is started, and no `done` is called any
    more. The credit of their records stays out, so their offsets are not committed.
    """

    def __init__(self, loop_thread: EventLoopThread) -> None:
        self._loop_thread = loop_thread
        self._tasks: dict[asyncio.Task[Any], object] = {}

    @property
    def open(self) -> list[tuple[asyncio.Task[Any], object]]:
        """Return the calls that have not ended, oldest first, each with its subject."""
        return list(self._tasks.items())

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], done: Done, about: object = None) -> None:
        """Call a user's `function(*args)`, then `done(value, error)`; both at once if the function does not wait."""
        if self._loop_thread.closed:
            return
        try:
            value = function(*args)
        except BaseException as exc:  # sys.exit() as well: the caller turns it into an error value
            done(None, exc)
            return
        if type(value) is CoroutineType or inspect.isawaitable(value):  # the first, as most are, costs a quarter
            self._start(value, done, about)
        else:
            done(value, None)

    def call_each(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],
        subjects: list[S],
        argument: Callable[[S], Any],
        done: Callable[[S, Any, BaseException | None], None],
    ) -> None:
        """Call a user's coroutine function for each subject, then `done(subject, value, error)`.

        Calls that do not wait share an asyncio task, which costs a sixth. A call that waits keeps the task to itself.
        So does a call that changed its context or cancelled itself: no call can detect the difference.
        """
        if not _EAGER:
            for subject in subjects:
                self.call(function, (argument(subject),), partial(done, subject), subject)
            return
        loop = asyncio.get_running_loop()
        waiting = deque(subjects)
        while waiting and not self._loop_thread.closed:
            series: _Series[S] = _Series()
            task = eager_task(series.run(function, waiting, argument), loop)
            if task.done():
                self._series_ended(series, done, task)
                continue
            series.waited = True
            self._tasks[task] = series.subject
            task.add_done_callback(partial(self._loop_thread.guard, self._series_ended, series, done))
            series.report(done)

    def _series_ended(
        self, series: _Series[S], done: Callable[[S, Any, BaseException | None], None], task: asyncio.Task[Any]
    ) -> None:
        self._tasks.pop(task, None)
        series.report(done)
        if not task.cancelled():
            task.result()
        elif not (series.answered or self._loop_thread.closed):
            done(series.subject, None, asyncio.CancelledError("the task was cancelled"))

    def run(self, coroutine: Coroutine[Any, Any, None], done: Callable[[], None], about: object = None) -> None:
        """Run a coroutine of the library, then `done()`; an exception is reported as a bug."""

        def ended(_value: Any, error: BaseException | None) -> None:
            if error is not None:
                raise error
            done()

        self._start(coroutine, ended, about)

    def _start(self, awaitable: Awaitable[Any], done: Done, about: object) -> None:
        task = eager_task(_outcome(awaitable), asyncio.get_running_loop())
        if task.done():
            self._finish(done, task)
        else:
            self._tasks[task] = about
            task.add_done_callback(partial(self._loop_thread.guard, self._ended, done))

    def _ended(self, done: Done, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        self._finish(done, task)

    def _finish(self, done: Done, task: asyncio.Task[Any]) -> None:
        try:
            value, error = task.result()
        except BaseException as exc:  # an exception is a result too
            if not task.cancelled():
                done(None, exc)
            elif not self._loop_thread.closed:
                done(None, asyncio.CancelledError("the task was cancelled"))
        else:
            done(value, error)


class _Series(Generic[S]):
    """Calls in a row in one asyncio task, up to the first call that waits."""

    __slots__ = ("_answers", "answered", "subject", "waited")

    subject: S

    def __init__(self) -> None:
        self.waited = False
        """True if the call about `subject` did not end at once: it is the last one of the task then."""
        self.answered = True
        """True if the call about `subject` has ended."""
        self._answers: list[tuple[S, Any, BaseException | None]] = []

    async def run(self, function: Callable[[Any], Any], waiting: deque[S], argument: Callable[[S], Any]) -> None:
        context, task = copy_context(), asyncio.current_task()
        assert task is not None
        while waiting:
            self.subject = subject = waiting.popleft()
            self.answered = False
            value, error = None, None
            try:
                value = await function(argument(subject))
            except asyncio.CancelledError:
                raise
            except BaseException as exc:  # sys.exit() as well, which asyncio would let end the loop
                error = exc
            self._answers.append((subject, value, error))
            self.answered = True
            if self.waited or task.cancelling() or _differ(copy_context(), context):
                return

    def report(self, done: Callable[[S, Any, BaseException | None], None]) -> None:
        answers, self._answers = self._answers, []
        for answer in answers:
            done(*answer)


def _differ(one: Context, other: Context) -> bool:
    try:
        return one != other
    except Exception:  # values that were set and can't be compared, such as arrays
        return True


async def _outcome(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Return the value of a task, or an error that asyncio would let end the loop instead of the task."""
    try:
        return await awaitable, None
    except (SystemExit, KeyboardInterrupt) as exc:
        return None, exc
