"""Windows of event time in a flow: results, late records, mistakes, and exactness over crashes and rebalances."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest
from pydantic import BaseModel

from drakkar_flow import Session, Sliding, StreamFlow, Tumbling, WindowResult
from drakkar_flow.errors import FlowError
from drakkar_flow.graph.signatures import function_problems
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.testing import CRASH, FlowHarness, Gate, MemoryDeadLetters, run_flow
from support.lives import disturb


class Visit(msgspec.Struct):
    """An event."""

    user: str
    at: float = 0


def user_of(visit: Visit) -> str:
    """Key of the windows."""
    return visit.user


def at_of(visit: Visit) -> float:
    """Event time."""
    return visit.at


def count(n: int | None, visit: Visit) -> int:
    """Number of visits."""
    if visit.at == 13:
        raise ValueError("unlucky")
    return (n or 0) + 1


def add(one: int, other: int) -> int:
    """Join two sessions."""
    return one + other


def visits(*steps: tuple[str, float]) -> list[dict[str, Any]]:
    """One visit per pair."""
    return [{"user": user, "at": at} for user, at in steps]


def flow(windows: Any, **settings: Any) -> StreamFlow:
    """Count per user and window."""
    return StreamFlow("visits").decode(Visit).window(
        windows, **{"key": user_of, "time": at_of, "add": count, "state": int, **settings}
    )  # fmt: skip


def results(*windows: tuple[str, float, float, Any]) -> list[WindowResult]:
    """Results as they are delivered."""
    return [WindowResult(*window) for window in windows]


def test_a_record_that_moves_the_watermark_emits_the_windows_it_passes() -> None:
    """By end, start and key; a record that passes none is finished at once."""
    with FlowHarness(flow(Tumbling(60)).route()) as kit:
        kit.wait_acknowledged(*kit.send_all(visits(("b", 0), ("a", 59), ("b", 30))))
        assert kit.values == []
        assert kit.committed == {("input", 0): 3}
        kit.wait_acknowledged(kit.send(visits(("a", 60))[0]))
        assert kit.values == results(("a", 0, 60, 1), ("b", 0, 60, 2))
        kit.wait_acknowledged(kit.send(visits(("a", 600))[0]))
        assert kit.values[2:] == results(("a", 60, 120, 1))
        assert kit.outcome().state == {
            "window-count": {"a 600..660": 1},
            "window-count.watermark": {"event time in ms": 600_000},
        }


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_order_within_the_lateness_makes_no_difference(order: tuple[int, ...]) -> None:
    """The watermark is the greatest time minus the allowed lateness."""
    times = [("a", 0), ("a", 10), ("b", 20), ("a", 30)]
    late = visits(*(times[each] for each in order), ("a", 100))
    for windows, expected in [
        (Tumbling(20), [("a", 0, 20, 2), ("a", 20, 40, 1), ("b", 20, 40, 1)]),
        (Sliding(30, every_s=30), [("a", 0, 30, 2), ("b", 0, 30, 1), ("a", 30, 60, 1)]),
        (
            Sliding(20, every_s=15),
            [("a", -15, 5, 1), ("a", 0, 20, 2), ("a", 15, 35, 1), ("b", 15, 35, 1), ("a", 30, 50, 1)],
        ),
        (Session(11, merge=add), [("a", 0, 21, 2), ("b", 20, 31, 1), ("a", 30, 41, 1)]),
        (Session(25, merge=add), [("b", 20, 45, 1), ("a", 0, 55, 3)]),
    ]:  # fmt: skip
        assert run_flow(flow(windows, allowed_lateness_s=30).route(), late).values == results(*expected)


def test_a_session_that_is_joined_by_a_record_between_is_one() -> None:
    """`merge` gets the values of both, earlier first."""
    joined = flow(
        Session(10, merge=lambda earlier, later: earlier + later),
        state=str,
        add=lambda text, visit: (text or "") + f"{visit.at:g} ",
        allowed_lateness_s=20,
    )
    outcome = run_flow(joined.route(), visits(("a", 16), ("a", 1), ("a", 8), ("a", 99)))
    assert outcome.values == results(("a", 1, 26, "1 16 8 "))


@pytest.mark.parametrize(("late", "dead"), [("skip", 0), ("dlq", 1)])
def test_late_records_go_where_the_flow_says(late: Literal["skip", "dlq", "fail"], dead: int) -> None:
    """They change nothing, and are counted as failures of the kind `late`."""
    outcome = run_flow(flow(Tumbling(10), late=late).route(), visits(("a", 5), ("a", 25), ("a", 9), ("a", 40)))
    assert outcome.values == results(("a", 0, 10, 1), ("a", 20, 30, 1))
    assert outcome.committed == {("input", 0): 4}
    assert [(letter.kind, letter.stage) for letter in outcome.dead_letters] == [("late", "window-count")] * dead
    assert all("input:0:2 is 16 s behind the event-time watermark" in letter.error for letter in outcome.dead_letters)
    assert [event.kind for event in outcome.events if isinstance(event, RecordsFailed)] == ["late"]


def test_late_records_can_stop_the_flow() -> None:
    """The record is not committed."""
    outcome = run_flow(flow(Tumbling(10), late="fail").route(), visits(("a", 25), ("a", 9)))
    assert "behind the event-time watermark" in (outcome.failure or "")
    assert outcome.committed == {("input", 0): 1}


def test_the_timestamp_of_the_message_is_the_default_time() -> None:
    """Without one the record fails; a datetime needs a time zone."""
    plain = flow(Tumbling(1), time=None).route()
    with FlowHarness(plain) as kit:
        kit.send({"user": "a"}, timestamp=500)
        kit.send({"user": "a"}, timestamp=999)
        kit.send({"user": "a"})
        kit.send({"user": "a"}, timestamp=1_000)
        kit.wait_acknowledged()
        assert kit.values == results(("a", 0, 1, 2))
        assert [letter.error for letter in kit.dead_letters] == [
            "input:0:2 has no timestamp; pass time= to window-count"
        ]
    dated = flow(Tumbling(60), time=lambda visit: datetime.fromtimestamp(visit.at, UTC))
    assert run_flow(dated.route(), visits(("a", 1), ("a", 60))).values == results(("a", 0, 60, 1))


MISTAKES = [
    ({"time": lambda _: None}, "must return seconds since the epoch or a datetime with a time zone, not None"),
    ({"time": lambda _: datetime(2020, 1, 1)}, "the time function of window-count must return"),
    ({"time": lambda _: float("nan")}, "the time function of window-count must return"),
    ({"time": lambda visit: visit.missing}, "AttributeError"),
    ({"time": lambda _: 4e12}, "s in the future; raise max_ahead_s of window-count if that is right"),
    ({"key": lambda _: None}, "the key function of window-count returned None for input:0:1"),
    ({"add": lambda n, visit: None}, "state of window-count, key 'a 0..60', input:0:1: "),
    ({"add": lambda n, visit: "text"}, "state of window-count, key 'a 0..60', input:0:1: str can't be stored as int"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error"), MISTAKES)
def test_a_mistake_is_one_dead_letter_that_changes_nothing(wrong: dict[str, Any], error: str) -> None:
    """The watermark too stays as it was."""
    ((name, function),) = wrong.items()
    functions: dict[str, Any] = {"key": user_of, "time": at_of, "add": count}
    right = functions[name]

    def chosen(*args: Any) -> Any:
        return function(*args) if args[-1].user == "a" and args[-1].at == 5 else right(*args)

    mistaken = flow(Tumbling(60), name="count", **{name: chosen}).route()
    outcome = run_flow(mistaken, visits(("b", 0), ("a", 5), ("b", 1), ("b", 60)))
    (letter,) = outcome.dead_letters
    assert error in f"{letter.error} {letter.exception_class}"
    assert outcome.values == results(("b", 0, 60, 2))


def test_an_error_of_one_record_leaves_the_windows_as_they_were() -> None:
    """Even if it would have closed some."""
    outcome = run_flow(flow(Tumbling(10)).route(), visits(("a", 1), ("a", 13), ("a", 2), ("a", 20)))
    assert outcome.values == results(("a", 0, 10, 2))
    assert [letter.error for letter in outcome.dead_letters] == ["unlucky"]


class Total(BaseModel):
    """A pydantic model as value."""

    visits: int = 0


def test_values_are_typed_models_and_results_are_json() -> None:
    """A result has the value's fields."""

    def summed(total: Total | None, visit: Visit) -> Total:
        return Total(visits=(total.visits if total else 0) + 1)

    outcome = run_flow(flow(Tumbling(60), add=summed, state=Total).route(), visits(("a", 1), ("a", 60)))
    assert outcome.values == results(("a", 0, 60, Total(visits=1)))
    assert outcome.values[0].model_dump_json() == '{"key":"a","start_s":0.0,"end_s":60.0,"value":{"visits":1}}'


def test_a_crash_and_a_restart_lose_no_window_and_open_none_again() -> None:
    """What is final stays closed; what is not is closed again with the same values."""
    sent = visits(("a", 1), ("b", 2), ("a", 61))
    expected = results(("a", 0, 60, 1), ("b", 0, 60, 1))
    assert run_flow(flow(Tumbling(60)).route(), [*sent, CRASH]).values == [*expected, *expected]
    with FlowHarness(flow(Tumbling(60)).route()) as kit:
        kit.wait_acknowledged(*kit.send_all(sent))
        kit.wait_acknowledged()
        kit.crash()
        kit.restart()
        kit.wait_acknowledged(*kit.send_all(visits(("a", 59), ("a", 62), ("a", 120))))
        assert kit.values == [*expected, *results(("a", 60, 120, 2))]


def test_a_slow_result_holds_the_commits_of_its_partition_and_not_its_work() -> None:
    """Records after it are added to windows; until it is delivered a crash takes them back."""
    gate = Gate()
    gate.shut()

    async def wait(result: WindowResult) -> WindowResult:
        if result.end_s == 60:
            await gate.passage()
        return result

    with FlowHarness(flow(Tumbling(60)).map_async(wait).route()) as kit:
        kit.send_all(visits(("a", 1), ("a", 60), ("a", 120)))
        kit.wait_for(lambda: kit.values == results(("a", 60, 120, 1)))
        kit.wait_for(lambda: kit.outcome().state.get("window-count") == {"a 0..60": 1})
        kit.crash()
        gate.open()
        kit.restart()
        kit.wait_acknowledged()
        assert sorted(kit.values, key=lambda each: each.end_s) == results(
            ("a", 0, 60, 1), ("a", 60, 120, 1), ("a", 60, 120, 1)
        )
        assert kit.outcome().state["window-count"] == {"a 120..180": 1}


Opened = dict[tuple[str, float, float], int]


def windows_of(windows: Any, opened: Opened, user: str, at: float) -> list[tuple[tuple[str, float, float], list[Any]]]:
    """Windows of a time, each with the open ones that become it."""
    if isinstance(windows, Session):
        joined = [each for each in opened if each[0] == user and each[1] < at + windows.gap_s and at < each[2]]
        start = min([at, *(each[1] for each in joined)])
        return [((user, start, max([at + windows.gap_s, *(each[2] for each in joined)])), joined)]
    size, every = windows.size_s, windows.every_s if isinstance(windows, Sliding) else windows.size_s
    spans = [
        (user, start, start + size) for start in range(-100, int(at) + 1, int(every)) if start <= at < start + size
    ]
    return [(span, [span] if span in opened else []) for span in spans]


def model_of(windows: Any, times: list[tuple[str, float]], lateness: float) -> tuple[set[Any], dict[str, int]]:
    """Results and open windows of a serial run over one partition."""
    opened: Opened = {}
    found, watermark = set(), float("-inf")
    for user, at in times:
        added = [each for each in windows_of(windows, opened, user, at) if each[0][2] > watermark]
        for window, joined in added:
            opened[window] = sum(opened.pop(each) for each in joined) + 1
        if added:
            watermark = max(watermark, at - lateness)
        for window in [window for window in opened if window[2] <= watermark]:
            found.add((*window, opened.pop(window)))
    return found, {f"{user} {start:g}..{end:g}": n for (user, start, end), n in opened.items()}


WINDOWS: list[Tumbling | Sliding | Session] = [Tumbling(10), Sliding(10, every_s=4), Session(5, merge=add)]


@pytest.mark.parametrize("seed", range(45))
def test_windows_are_those_of_a_life_without_crashes(seed: int) -> None:
    """Whatever happens: each window is delivered with one value, none is lost, and state is that of a serial run."""
    chance, windows = random.Random(seed), WINDOWS[seed % 3]
    bad = 13

    async def wait(pair: tuple[int, WindowResult]) -> tuple[int, WindowResult]:
        await asyncio.sleep(chance.choice((0, 0, 0.1, 3)))
        return pair

    def twice(visit: Visit) -> list[Visit]:
        return [visit] * (2 if seed % 2 else 1)

    windowed = (
        StreamFlow("visits").decode(Visit)
        .stateful(lambda n, visit: ((n or 0) + 1, visit), key=user_of, state=int, name="before")
        .flat_map(twice)
        .window(windows, key=user_of, time=at_of, add=count, state=int, allowed_lateness_s=8)
        .map(lambda result, record: (record.partition, result), with_record=True)
        .map_async(wait)
        .route()
    )  # fmt: skip

    def send() -> None:
        now[0] += chance.choice((0, 1, 2, 9))
        at = max(0, now[0] - chance.choice((0, 0, 3, 8, 30)))
        kit.send({"user": chance.choice("abc"), "at": at}, partition=chance.randrange(2))

    now = [0]
    with FlowHarness(windowed, partitions=2) as kit:
        for _ in range(25):
            disturb(kit, chance, 2, send)
        kit.let_commits_go()
        kit.wait_acknowledged()
        times: defaultdict[int, list[tuple[str, float]]] = defaultdict(list)
        for sent in kit.sent:
            visit = msgspec.json.decode(kit.log.records[sent.topic_partition][sent.offset].value)
            if visit["at"] != bad:
                times[sent.partition] += [(visit["user"], visit["at"])] * (2 if seed % 2 else 1)
        delivered = {(at, each.key, each.start_s, each.end_s, each.value) for at, each in kit.values}
        models = {at: model_of(windows, times[at], 8) for at in times}
        assert delivered == {(at, *found) for at, (all_found, _) in models.items() for found in all_found}
        state = kit.outcome().state.get("window-count", {})
        opened = {str(key).split(" of ")[0] for key in state}
        assert opened == {key for _, left in models.values() for key in left}
        assert sum(state.values()) == sum(n for _, left in models.values() for n in left.values())


def test_records_become_final_in_order_also_if_they_pass_no_window() -> None:
    """A session that an unfinished record has extended would else be found too short after a crash."""
    dead_letters = MemoryDeadLetters()
    dead_letters.gate.shut()

    def divided(visit: Visit) -> list[Visit]:
        return [visit, Visit(visit.user, 13)] if visit.at == 5 else [visit]

    counted = StreamFlow("visits").decode(Visit).flat_map(divided)
    counted = counted.window(Tumbling(60), key=user_of, time=at_of, add=count, state=int).route()
    with FlowHarness(counted, dead_letters=dead_letters) as kit:
        kit.send_all(visits(("a", 10), ("a", 5), ("b", 20)))
        kit.wait_for(lambda: dead_letters.gate.waiting == 1)
        kit.wait_for(lambda: kit.committed == {("input", 0): 1})
        assert kit.outcome().state == {
            "window-count": {"a 0..60": 1},
            "window-count.watermark": {"event time in ms": 10_000},
        }
        dead_letters.gate.open()
        kit.wait_acknowledged()
        assert kit.outcome().state["window-count"] == {"a 0..60": 2, "b 0..60": 1}


def test_mistakes_of_the_flow_are_told_before_it_starts() -> None:
    """One line for each, with a fix."""
    mistakes: list[tuple[Callable[[], object], str]] = [
        (lambda: Tumbling(0), "size_s is 0; use more than 0"),
        (lambda: Sliding(10, every_s=20), "every_s is 20; use at most size_s"),
        (lambda: Session(10, merge=5), "merge is 5; pass a function of two values"),  # type: ignore[arg-type] # on purpose
        (lambda: flow(60), "windows is int 60; write Tumbling\\(60\\)"),
        (lambda: flow(Tumbling(1), late="drop"), "late is 'drop'; write one of 'skip', 'dlq', 'fail'"),
        (lambda: flow(Tumbling(1), allowed_lateness_s=-1), "allowed_lateness_s is -1; use 0 or more"),
    ]
    for wrong, what in mistakes:
        with pytest.raises(FlowError, match=what):
            wrong()

    async def later(n: Any, visit: Any) -> int:
        return 1

    twice = flow(Tumbling(1), name="n").window(Tumbling(1), key=str, add=count, state=int, name="n")
    problems = [str(problem) for problem in twice.route().problems()]
    assert any("2 steps with state have this name" in problem for problem in problems)
    asynchronous = flow(Tumbling(1), add=later).route().problems()
    assert [problem.what for problem in asynchronous] == ["its fn is an async function"]
    unstorable = flow(Tumbling(1), state=object).route().problems()
    assert "can't be stored" in unstorable[0].what
    misfits = list(
        function_problems(flow(Tumbling(1), add=lambda n: n, time=lambda: 0).steps(), flow(Tumbling(1)).hooks)
    )
    assert len(misfits) == 2


def test_the_drawing_and_the_json_show_the_kind_of_windows() -> None:
    """Without the addresses of functions."""
    step = flow(Session(10, merge=add)).route().to_json()["steps"][1]
    assert step["windows"] == {"kind": "session", "gap_s": 10, "merge": "add"}
    assert (step["id"], step["kind"]) == ("window-count", "window")
