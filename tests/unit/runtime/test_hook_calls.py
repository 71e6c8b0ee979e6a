"""Calls of user functions: many in one asyncio task, which no call can tell from a task for itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from drakkar_flow.runtime.hook_calls import HookCalls
from support.loop import SameThreadLoop

pytestmark = pytest.mark.anyio

Answer = tuple[Any, Any, str]


@pytest.fixture
def anyio_backend() -> str:
    """The loop the runtime runs on."""
    return "asyncio"


class Series:
    """Calls of one function, and how each ended: subject, value, error."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.calls = HookCalls(SameThreadLoop())
        self.ended: list[Answer] = []
        self._function = function

    def begin(self, *subjects: Any) -> None:
        """Call the function for each subject."""
        self.calls.call_each(self._function, list(subjects), str, self._done)

    def _done(self, subject: Any, value: Any, error: BaseException | None) -> None:
        self.ended.append((subject, value, "" if error is None else repr(error)))

    async def all(self, count: int) -> list[Answer]:
        """Wait until so many have ended."""
        async with asyncio.timeout(20):
            while len(self.ended) < count:  # noqa: ASYNC110 - nothing tells of an ending
                await asyncio.sleep(0)
        return self.ended


async def test_each_subject_is_called_and_answered_once_in_order() -> None:
    """The function gets what `argument` makes of the subject."""

    async def double(text: str) -> str:
        return text * 2

    series = Series(double)
    series.begin(1, 2, 3)
    assert await series.all(3) == [(1, "11", ""), (2, "22", ""), (3, "33", "")]
    assert series.calls.open == []


async def test_a_call_that_waits_holds_up_nobody() -> None:
    """Those behind it are called at once; it is open until it ends."""
    gate = asyncio.Event()

    async def some_wait(text: str) -> str:
        if text == "2":
            await gate.wait()
        return text

    series = Series(some_wait)
    series.begin(1, 2, 3, 4)
    assert [subject for subject, _, _ in await series.all(3)] == [1, 3, 4]
    assert [subject for _, subject in series.calls.open] == [2]
    gate.set()
    assert (await series.all(4))[-1] == (2, "2", "")
    assert series.calls.open == []


async def test_every_call_may_wait() -> None:
    """All run side by side, each is answered."""

    async def wait(text: str) -> str:
        await asyncio.sleep(0.001 * (4 - int(text)))
        return text

    series = Series(wait)
    series.begin(1, 2, 3)
    assert len(series.calls.open) == 3
    assert sorted(subject for subject, _, _ in await series.all(3)) == [1, 2, 3]


async def test_what_one_raises_is_its_own_error() -> None:
    """sys.exit() and a wrong call as well, before or after a wait; the others are called."""

    async def raising(text: str) -> str:
        if text == "4":
            await asyncio.sleep(0)
        if int(text) % 2 == 0:
            raise SystemExit(int(text))
        return text

    series = Series(raising)
    series.begin(1, 2, 3, 4, 5)
    assert sorted(await series.all(5)) == [
        *((1, "1", ""), (2, None, "SystemExit(2)"), (3, "3", ""), (4, None, "SystemExit(4)"), (5, "5", "")),
    ]

    async def takes_two(_a: str, _b: str) -> None: ...

    wrong = Series(takes_two)  # type: ignore[arg-type]  # wrong on purpose
    wrong.begin(1)
    assert "missing 1 required positional argument" in (await wrong.all(1))[0][2]


async def test_no_call_sees_what_another_put_into_its_context() -> None:
    """A log line's bound values must not be those of another record."""
    bound: ContextVar[str] = ContextVar("bound", default="nothing")

    async def bind(text: str) -> str:
        seen = bound.get()
        if text != "2":
            bound.set(text)
        if text == "3":
            await asyncio.sleep(0)
        return seen

    series = Series(bind)
    series.begin(1, 2, 3, 4)
    assert {value for _, value, _ in await series.all(4)} == {"nothing"}
    assert bound.get() == "nothing"


class Array:
    """A value that can't be compared, as numpy's and pandas' can't."""

    __hash__ = None  # type: ignore[assignment]  # unhashable

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


async def test_a_context_may_hold_values_that_can_not_be_compared() -> None:
    """Whoever began the series has one, and each call sets another."""
    bound: ContextVar[Array] = ContextVar("bound")
    first = Array()
    bound.set(first)

    async def bind(text: str) -> bool:
        seen = bound.get()
        bound.set(Array())
        return seen is first

    series = Series(bind)
    series.begin(1, 2, 3)
    assert await series.all(3) == [(1, True, ""), (2, True, ""), (3, True, "")]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_that_cancels_its_task_cancels_nothing_but_itself(waits: bool) -> None:
    """The calls behind it are answered as if nothing had been."""

    async def cancelling(text: str) -> str:
        if text == "1":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if waits:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return text

    series = Series(cancelling)
    series.begin(1, 2)
    assert sorted(await series.all(2)) == [(1, None, "CancelledError('the task was cancelled')"), (2, "2", "")]


async def test_a_call_that_cancels_its_task_and_returns_is_answered_once() -> None:
    """Its value counts; before Python 3.12 its task has not begun by then, and asyncio calls it cancelled."""

    async def cancelling(text: str) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return text

    series = Series(cancelling)
    series.begin(1, 2)
    answers = await series.all(2)
    assert [subject for subject, _, _ in answers] == [1, 2]
    if sys.version_info >= (3, 12):
        assert answers == [(1, "1", ""), (2, "2", "")]


async def test_a_call_that_raises_the_cancellation_itself_is_answered() -> None:
    """It came from nobody, so it is the hook's error."""

    async def raising(text: str) -> str:
        if text == "1":
            raise asyncio.CancelledError
        return text

    series = Series(raising)
    series.begin(1, 2)
    assert await series.all(2) == [(1, None, "CancelledError('the task was cancelled')"), (2, "2", "")]
