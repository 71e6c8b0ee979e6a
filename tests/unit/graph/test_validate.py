"""Validation: every problem of a flow, where it is, and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from drakkar_flow import KafkaSink, KafkaSource, StreamFlow, Subprocess, Window
from drakkar_flow.errors import FlowError


def identity(value: Any) -> Any:
    """Do nothing."""
    return value


async def wait(value: Any) -> Any:
    """Do nothing, later."""
    return value


def flow(name: str = "f", *topics: str) -> StreamFlow:
    """An empty flow."""
    return StreamFlow(name, source=KafkaSource(*topics))


def tasks() -> StreamFlow:
    """A flow with a complete task chain but no route."""
    return flow().arrange(identity).execute().collect()


CASES = {
    "no name": (flow("").route(), "flow: the name is missing; write StreamFlow('scan')"),
    "period": (
        flow("a.b").route(),
        "flow 'a.b': its name contains a period; use '-' or '_': Bytewax separates ids by periods",
    ),
    "topic twice": (flow("f", "a", "a").route(), "source: topic 'a' is listed 2 times; list it once"),
    "pattern": (
        flow("f", "^(").route(),
        "source: '^(' is not a regular expression: missing ), unterminated subpattern at position 1; fix the pattern",
    ),
    "two decodes": (
        flow().decode(int).decode(str).route(),
        "step decode-2: a flow has one decode; remove it, decode is already there",
        "step decode-2: decode reads a record's bytes; make it the first step",
    ),
    "late decode": (
        flow().map(identity).decode(int).route(),
        "step decode: decode reads a record's bytes; make it the first step",
    ),
    "no route": (flow().decode(int), "flow: results go nowhere; end it with .route(KafkaSink('results'))"),
    "after route": (
        flow().route().map(identity),
        "step map-identity: it comes after route, which ends a flow; move it before .route(...)",
    ),
    "two routes": (
        flow().route().route(),
        "step route-2: a flow has one route; remove it, route is already there",
        "step route-2: it comes after route, which ends a flow; move it before .route(...)",
    ),
    "arrange alone": (
        flow().arrange(identity).route(),
        "step arrange-identity: it is not followed by execute; put .execute(...) directly after it",
    ),
    "arrange last": (
        flow().arrange(identity),
        "flow: results go nowhere; end it with .route(KafkaSink('results'))",
        "step arrange-identity: it is not followed by execute; put .execute(...) directly after it",
    ),
    "map between": (
        flow().arrange(identity).map(identity).execute().collect().route(),
        "step arrange-identity: it is not followed by execute; put .execute(...) directly after it",
    ),
    "no collect": (
        flow().arrange(identity).execute().route(),
        "step execute: it is not followed by collect; put .collect(...) directly after it",
    ),
    "map before route": (
        tasks().map(identity).route(),
        "step collect: it is not followed by route; put .route(...) directly after it",
    ),
    "execute alone": (
        flow().execute().collect().route(),
        "step execute: there is no arrange before it; put .arrange(...) before it",
    ),
    "collect alone": (
        flow().collect().route(),
        "step collect: there is no execute before it; put .execute(...) before it",
    ),
    "sink twice": (
        flow().route(KafkaSink("a"), KafkaSink("b"), KafkaSink("a")),
        "step route: sink kafka-a is listed 2 times; list it once",
    ),
    "no function": (flow().map(3).route(), "step map: 3 can't be called; pass a function"),  # type: ignore[arg-type]  # wrong on purpose
    "no on_error": (
        flow().arrange(identity).execute(on_error=3).collect().route(),  # type: ignore[arg-type]  # wrong on purpose
        "step execute: 3 can't be called; pass a function",
    ),
    "no on_delivery_error": (
        flow().route(on_delivery_error=3),  # type: ignore[arg-type]  # wrong on purpose
        "step route: 3 can't be called; pass a function",
    ),
    "no on_message_complete": (
        flow().arrange(identity).execute().collect(on_message_complete=3).route(),  # type: ignore[arg-type]  # wrong on purpose
        "step collect: 3 can't be called; pass a function",
    ),
    "no on_window_complete": (
        flow().arrange(identity).execute().collect(on_window_complete=3).route(),  # type: ignore[arg-type]  # wrong on purpose
        "step collect: 3 can't be called; pass a function",
    ),
    "error policy": (
        flow().route(on_error="ignore"),  # type: ignore[arg-type]  # wrong on purpose
        'step route: there is no error policy \'ignore\'; use "dlq", "skip" or "fail"',
    ),
    "decode policy": (
        flow().decode(int, on_error="drop").route(),  # type: ignore[arg-type]  # wrong on purpose
        'step decode: there is no error policy \'drop\'; use "dlq", "skip" or "fail"',
    ),
    "async map": (
        flow().map(wait).route(),
        "step map-wait: map got an async function; use .map_async(...) for it",
    ),
    "async filter": (
        flow().filter(wait).route(),
        "step filter-wait: filter got an async function; use .map_async(...) for it",
    ),
    "async flat_map": (
        flow().flat_map(wait).route(),  # type: ignore[arg-type]  # wrong on purpose
        "step flat_map-wait: flat_map got an async function; use .map_async(...) for it",
    ),
    "sync map_async": (
        flow().map_async(identity).route(),
        (
            "step map_async-identity: map_async got a function that is not async; "
            "write it with 'async def', or use .map(...)"
        ),
    ),
}


@pytest.mark.parametrize(("subject", "problems"), [(case[0], case[1:]) for case in CASES.values()], ids=CASES.keys())
def test_each_problem_says_where_it_is_and_what_to_do(subject: StreamFlow, problems: tuple[str, ...]) -> None:
    """One table: the flow, and every problem it has, word by word."""
    assert [str(problem) for problem in subject.problems()] == list(problems)
    with pytest.raises(FlowError) as caught:
        subject.check()
    assert caught.value.problems == tuple(subject.problems())
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "subject",
    [
        flow().route(),
        flow("f", "a", "^b.*").decode(int).route(KafkaSink("a"), KafkaSink("b")),
        tasks().route(),
        flow()
        .decode(int)
        .filter(bool)
        .map_async(wait, timeout_s=0.1, max_in_flight=1)
        .arrange(wait)
        .execute()
        .collect()
        .route(),
        flow()
        .arrange(identity, window=Window(size=1, linger_s=0))
        .execute(Subprocess(timeout_s=0.1))
        .collect()
        .route(),
    ],
    ids=repr,
)
def test_a_flow_that_is_right_has_no_problems(subject: StreamFlow) -> None:
    """Every shape that compiles passes."""
    assert subject.problems() == []
    subject.check()


def test_all_problems_are_told_at_once() -> None:
    """Name, source, shape and steps: a user mends them in one go."""
    subject = StreamFlow("", source=KafkaSource("a", "a")).map(wait).map_async(identity)
    with pytest.raises(FlowError) as caught:
        subject.check()
    assert [problem.where for problem in caught.value.problems] == [
        "flow",
        "source",
        "flow",
        "step map-wait",
        "step map_async-identity",
    ]
    assert str(caught.value).count("\n  - ") == 5
