"""State across partitions: one value per key for the whole flow, whatever partition a record comes from."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from drakkar_flow import Handler, KafkaSink, StreamFlow, Tumbling
from drakkar_flow.config.loading.load import from_mapping
from drakkar_flow.engine.offline import source_problems
from drakkar_flow.errors import FlowError
from drakkar_flow.events import RecordsFailed
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.testing import CRASH, FlowHarness, run_flow

Event = dict[str, Any]


def user_of(event: Event) -> str:
    """Key of an event."""
    return str(event["user"])


def count(n: int | None, event: Event) -> tuple[int, str]:
    """One more event of the user."""
    return (n or 0) + 1, f"{event['user']} {(n or 0) + 1}"


def events(*users: str) -> list[Event]:
    """An event of each user."""
    return [{"user": user} for user in users]


COUNT = StreamFlow("visits").decode(dict).stateful(count, key=user_of, state=int, across=True)


def test_a_key_has_one_value_in_all_partitions() -> None:
    """Records of a partition keep their order; those of a crash count once."""
    outcome = run_flow(COUNT.route(), events("anna", "otto", "anna", "anna"), partitions=4)
    assert sorted(outcome.values) == ["anna 1", "anna 2", "anna 3", "otto 1"]
    assert outcome.state == {"stateful-count": {"anna": 3, "otto": 1}}
    assert sum(outcome.committed.values()) == 4
    again = run_flow(COUNT.route(), [*events("anna", "otto"), CRASH, *events("anna")], partitions=2)
    assert again.state == {"stateful-count": {"anna": 2, "otto": 1}}


def test_records_of_a_key_keep_the_order_of_their_partition() -> None:
    """Also those that take the way of another process."""
    seen: dict[str, list[int]] = {}

    def note(_: int | None, event: Event) -> tuple[int, None]:
        seen.setdefault(event["user"], []).append(event["n"])
        return event["n"], None

    flow = StreamFlow("f").decode(dict).stateful(note, key=user_of, state=int, across=True).route()
    run_flow(flow, [{"user": f"u{n % 11}", "n": n} for n in range(1000)])
    assert seen == {f"u{user}": list(range(user, 1000, 11)) for user in range(11)}


def test_a_record_that_is_divided_before_counts_once_in_each_shard() -> None:
    """Parts that were final before a crash are not counted again, though the record is read again."""
    release = asyncio.Event()

    async def hold(user: str) -> str:
        if user == "slow" and not release.is_set():
            await release.wait()
        return user

    flow = StreamFlow("f").decode(str).flat_map(str.split)
    flow = flow.stateful(lambda n, user: ((n or 0) + 1, user), key=str, state=int, across=True, name="n")
    with FlowHarness(flow.map_async(hold).route()) as kit:
        kit.send("anna slow otto anna")
        kit.wait_for(lambda: kit.state("anna") == 2 and kit.state("otto") == 1)
        done = kit.send("otto")
        kit.wait_acknowledged(done)
        kit.wait_for(lambda: kit.log.knows_finished(done.topic_partition, 1))
        kit.crash()
        assert (kit.state("anna"), kit.state("slow"), kit.state("otto")) == (2, None, 2)
        release.set()
        kit.restart()
        kit.wait_acknowledged()
        assert (kit.state("anna"), kit.state("slow"), kit.state("otto")) == (2, 1, 2)
        assert kit.committed == {("input", 0): 2}
        assert kit.values.count("anna") == 2


def test_a_value_expires_and_a_changed_model_is_migrated() -> None:
    """As of state per partition."""

    class Total(msgspec.Struct, frozen=True):
        total: int

    def add(total: Total | None, _event: Event) -> tuple[Total, int]:
        after = Total((total.total if total else 0) + 1)
        return after, after.total

    newer = StreamFlow("visits").decode(dict)
    newer = newer.stateful(add, key=user_of, state=Total, migrate=Total, ttl_s=60, across=True, name="count")
    with FlowHarness(COUNT.route(), partitions=2) as kit:
        kit.wait_acknowledged(*kit.send_all(events("anna", "anna")))
        kit.wait_acknowledged()
        kit.restart(newer.route())
        kit.wait_acknowledged(kit.send({"user": "anna"}))
        assert kit.state("anna") == Total(3)
        kit.clock.advance(61)
        kit.wait_acknowledged(kit.send({"user": "anna"}))
        assert kit.state("anna") == Total(1)


def test_a_timer_fires_with_the_next_record_of_its_shard() -> None:
    """Whatever the partition of that record."""

    def seen(n: int | None, _event: Event) -> tuple[int, None, float]:
        return (n or 0) + 1, None, 60

    def silent(n: int, user: str) -> tuple[None, str]:
        return None, f"{user} left after {n}"

    flow = StreamFlow("f").decode(dict).stateful(seen, key=user_of, state=int, on_timer=silent, across=True).route()
    with FlowHarness(flow, partitions=4) as kit:
        kit.wait_acknowledged(*kit.send_all(events("anna", "anna")))
        kit.clock.advance(60)
        kit.wait_acknowledged(*kit.send_all(events(*(f"u{n}" for n in range(400)))))
        assert kit.values == ["anna left after 2"]


def test_dedupe_passes_the_first_record_of_all_partitions() -> None:
    """A repetition by another partition is one."""
    flow = StreamFlow("f").decode(dict).dedupe(user_of, ttl_s=None, across=True).route()
    outcome = run_flow(flow, events("anna", "otto", "anna", "anna"), partitions=4)
    assert sorted(event["user"] for event in outcome.values) == ["anna", "otto"]


def test_dead_letters_and_skipped_records_finish_at_home() -> None:
    """A failure names its record, wherever it was."""

    def odd(n: int | None, event: Event) -> tuple[int, Event]:
        if event["user"] == "bad":
            raise ValueError("no such user")
        return (n or 0) + 1, event

    flow = StreamFlow("f").decode(dict).filter(lambda event: event["user"] != "gone")
    flow = flow.stateful(odd, key=user_of, state=int, across=True).route()
    outcome = run_flow(flow, ["no json", *events("anna", "bad", "gone", "otto")], partitions=2)
    assert sorted(event["user"] for event in outcome.values) == ["anna", "otto"]
    letters = {letter.stage: letter.tokens[0][0].label for letter in outcome.dead_letters}
    assert letters == {"decode": "input:0:0", "stateful-odd": "input:0:1"}
    assert outcome.committed == {("input", 0): 3, ("input", 1): 2}


def test_a_key_function_that_raises_fails_its_record() -> None:
    """The error names step and record."""
    outcome = run_flow(COUNT.route(), [{"name": "anna"}, *events("otto")])
    (letter,) = outcome.dead_letters
    assert letter.error == "the key function of stateful-count failed for input:0:0: KeyError: 'user'"
    assert outcome.values == ["otto 1"]


def test_a_payload_that_can_not_be_sent_fails_its_record() -> None:
    """Also in one process, so that a test finds it; the others go on."""

    def unsendable(event: Event) -> Any:
        return event if event["user"] != "bad" else (letter for letter in "bad")

    flow = StreamFlow("f").decode(dict).map(unsendable)
    flow = flow.stateful(
        count, key=lambda e: e["user"] if isinstance(e, dict) else "bad", state=int, across=True
    ).route()
    outcome = run_flow(flow, events("anna", "bad", "otto"))
    (letter,) = outcome.dead_letters
    assert letter.kind is FailureKind.BUSINESS
    assert letter.error.startswith(
        "input:0:1 can't be sent to the process of its key: its payload, generator, can't be pickled: cannot pickle"
    )
    assert sorted(outcome.values) == ["anna 1", "otto 1"]
    assert outcome.committed == {("input", 0): 3}


class Unreadable:
    """Can be pickled, and not read again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, ()


class Sometimes:
    """Can't be pickled after the first time."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> tuple[Any, ...]:
        if self.n:
            raise ValueError("not this one")
        return Sometimes, (0,)


def _raise() -> None:
    raise ValueError("no way back")


def test_a_payload_that_can_not_be_read_again_fails_its_record() -> None:
    """It is tried before it is sent."""
    flow = StreamFlow("f").decode(str).map(lambda _text: Unreadable())
    flow = flow.stateful(lambda n, _payload: (n, None), key=lambda _payload: 1, state=int, across=True).route()
    (letter,) = run_flow(flow, ["x"]).dead_letters
    assert letter.error.endswith("its payload, Unreadable, can't be pickled: no way back")


def test_one_payload_of_a_message_that_can_not_be_sent_harms_no_other() -> None:
    """Its type could be sent before."""
    flow = StreamFlow("f").decode(int).map(Sometimes)
    flow = flow.stateful(lambda n, p: ((n or 0) + 1, str(p.n)), key=lambda _p: "anna", state=int, across=True).route()
    outcome = run_flow(flow, [0, 0, 1, 0])
    assert [letter.tokens[0][0].offset for letter in outcome.dead_letters] == [2]
    assert list(outcome.state.values()) == [{"anna": 3}]


def test_async_steps_may_stand_on_both_sides() -> None:
    """Records that wait before the state are sent when they have finished there."""

    async def wait(event: Event) -> Event:
        await asyncio.sleep(0.01)
        return event

    flow = StreamFlow("f").decode(dict).map_async(wait)
    flow = flow.stateful(count, key=user_of, state=int, across=True)
    outcome = run_flow(flow.map_async(_same).route(), events("anna", "otto", "anna"), partitions=3)
    assert outcome.state == {"stateful-count": {"anna": 2, "otto": 1}}


async def _same(text: str) -> str:
    return text


def test_a_failure_that_stops_the_flow_keeps_the_record() -> None:
    """It is read again; the state is as it was without it."""
    flow = StreamFlow("f").decode(dict).stateful(count, key=user_of, state=int, across=True)
    bad = flow.map(lambda text: text if text != "otto 1" else 1 / 0).route(on_error="fail")
    with FlowHarness(bad) as kit:
        kit.send_all(events("anna", "otto", "otto"))
        kit.wait_for(lambda: kit.failure)
        assert len(kit.of(RecordsFailed)) == 1
    assert kit.state("otto") is None


def test_partitions_are_never_revoked() -> None:
    """A flow with state across partitions runs in fixed mode."""
    with FlowHarness(COUNT.route()) as kit:
        for take in (kit.revoke, kit.lose):
            with pytest.raises(AssertionError, match="keeps its partitions until it ends"):
                take()


class Counting(Handler[dict, dict]):  # type: ignore[type-arg]
    """Keeps state per partition."""

    state_model = int

    async def arrange(self, messages: Any, pending: Any) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        (
            COUNT.stateful(count, key=user_of, state=int, across=True, name="twice"),
            "step stateful-twice: a flow has one step with state across partitions, and stateful-count is one;",
        ),
        (
            StreamFlow("f").decode(dict).stateful(count, key=user_of, state=int).dedupe(str, None, across=True),
            "step stateful-count: its state per partition and that of stateful-dedupe across partitions can't",
        ),
        (
            COUNT.window(Tumbling(60), key=str, add=count, state=int),
            "step window-count: its state per partition and that of stateful-count across partitions can't become",
        ),
        (
            StreamFlow("f").decode(str).flat_map(str.split).map_async(_same).dedupe(str, None, across=True),
            "step map_async-same: it stands between a flat_map and stateful-dedupe, and changes the order of",
        ),
    ],
)
def test_what_would_not_be_exact_is_refused(flow: StreamFlow, problem: str) -> None:
    """Before the flow runs, with the step and a fix."""
    with pytest.raises(FlowError) as refused:
        flow.route().check()
    assert problem in str(refused.value)


def test_a_handler_with_state_per_partition_is_refused_behind_it() -> None:
    """Its changes and those of the step can't become final together."""
    handler = Counting()
    flow = StreamFlow.from_handler(handler)
    across = StreamFlow("f", hooks=flow.hooks).decode(dict).stateful(count, key=user_of, state=int, across=True).route()
    with pytest.raises(FlowError, match=r"Counting\.state_model: self\.state per partition and the state of"):
        across.check()


def test_several_engine_threads_are_refused() -> None:
    """A shard has one."""
    with (
        pytest.raises(
            FlowError, match=r"step stateful-count: across=True needs one engine thread; set runtime.workers"
        ),
        FlowHarness(COUNT.route(), config={"runtime": {"workers": 2}}),
    ):
        pass


def test_a_consumer_group_is_refused() -> None:
    """It can't share the state; the fix is one setting."""
    flow = COUNT.route(KafkaSink("out"))
    kafka = {"source_topic": "in", "consumer_group": "g"}
    (problem,) = source_problems(flow, from_mapping({"kafka": kafka}))
    assert str(problem) == (
        "runtime.recovery: stateful-count keeps state across partitions, which a consumer group can't share; "
        "write `recovery: {}`: one process, or a cluster, then reads all partitions"
    )
    assert source_problems(flow, from_mapping({"kafka": kafka, "runtime": {"recovery": {}}})) == []


def test_the_drawing_and_the_description_name_the_step() -> None:
    """As any other."""
    assert COUNT.route().to_json()["steps"][1]["across"] is True
