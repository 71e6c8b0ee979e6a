"""Routing: which sink gets what, and what becomes of payloads that fit none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from drakkar_flow import (
    CollectResult,
    DrakkarConfig,
    ExecutorTask,
    FilePayload,
    HttpPayload,
    KafkaPayload,
    SqlitePayload,
    StreamFlow,
)
from drakkar_flow.config.sections.delivery import RetryConfig
from drakkar_flow.graph.nodes import HttpSink, JsonlSink, KafkaSink, SinkRef
from drakkar_flow.model.outcome import FailureKind
from drakkar_flow.model.payload import Payload
from drakkar_flow.model.record import Record
from drakkar_flow.runtime.components import SinkComponent
from drakkar_flow.testing import FlowRun, MemorySink, run_flow
from drakkar_flow.testing.sinks import MemorySinkSettings

LANE = ("input", 0)


def flow_of(*payloads: Payload, sinks: Sequence[SinkRef] = ()) -> StreamFlow:
    """A flow that turns each record into `payloads` (one per record, by its number)."""
    return StreamFlow("routing").decode(int).map(lambda n: payloads[n]).route(*sinks)


def hook_flow(answer: CollectResult | FilePayload | KafkaPayload | list[KafkaPayload]) -> StreamFlow:
    """A flow whose collect hook gives `answer` for the task of both records."""
    return (
        StreamFlow("hooks")
        .arrange(lambda records, _: [ExecutorTask(task_id="t", source_offsets=[0, 1])])
        .execute()
        .collect(lambda result: answer)
        .route()
    )


def test_a_payload_goes_to_the_sink_it_names() -> None:
    """Two sinks of one kind: the name decides."""
    payloads = [KafkaPayload(data=1, sink="a"), KafkaPayload(data=2, sink="b"), KafkaPayload(data=3, sink="a")]
    outcome = run_flow(flow_of(*payloads), range(3), sinks=[MemorySink("a"), MemorySink("b")])
    assert {sink: [p.data for p in written] for sink, written in outcome.deliveries.items()} == {
        "kafka-a": [1, 3],
        "kafka-b": [2],
    }
    assert outcome.committed == {LANE: 3}


def test_a_payload_without_a_name_goes_to_the_only_sink_of_its_kind() -> None:
    """Kinds tell payloads apart where names don't."""
    sinks = [MemorySink("k"), MemorySink("f", kind="filesystem"), MemorySink("s", kind="sqlite")]
    payloads = [FilePayload(path="x", data=1), SqlitePayload(table="x", data={"n": 2}), KafkaPayload(data=3)]
    outcome = run_flow(flow_of(*payloads), range(3), sinks=sinks)
    assert {sink: [p.data for p in written] for sink, written in outcome.deliveries.items()} == {
        "kafka-k": [3],
        "filesystem-f": [1],
        "sqlite-s": [{"n": 2}],
    }


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (KafkaPayload(data=1, sink="c"), "a KafkaPayload names sink 'c', which is not configured; there are: 'a', 'b'"),
        (KafkaPayload(data=1), "a KafkaPayload without a sink name fits 2 sinks ('a', 'b'); set sink="),
        (
            FilePayload(path="x", data=1),
            "no sink is configured that takes a FilePayload; add sinks.filesystem.NAME to the configuration",
        ),
        (KafkaPayload(data=1, sink=["a"]), "unhashable type: 'list'"),  # type: ignore[arg-type]  # wrong on purpose
    ],
    ids=["unknown", "ambiguous", "no-such-kind", "no-name-at-all"],
)
@pytest.mark.parametrize("by_hook", [True, False], ids=["hook", "map"])
def test_a_payload_that_fits_no_single_sink_is_a_dead_letter(
    payload: FilePayload | KafkaPayload, error: str, by_hook: bool
) -> None:
    """Nothing is guessed: the failure names the sinks there are, and the offset moves on."""
    flow = hook_flow(payload) if by_hook else flow_of(payload)
    outcome = run_flow(flow, [0, 0], sinks=[MemorySink("a"), MemorySink("b")])
    assert {(letter.kind, letter.stage) for letter in outcome.dead_letters} == {(FailureKind.ROUTING, "route")}
    assert {letter.error for letter in outcome.dead_letters} == {error}
    assert sorted(r.offset for letter in outcome.dead_letters for r, _ in letter.tokens) == [0, 1]
    assert outcome.committed == {LANE: 2}
    assert outcome.values == []


@pytest.mark.parametrize("wrong", [["x"], [[KafkaPayload(data=1)]], [None]], ids=["text", "list", "nothing"])
def test_what_is_no_payload_in_a_collect_result_is_told_as_such(wrong: list[list[KafkaPayload] | str | None]) -> None:
    """A list in a list, say: the records are dead letters that name its type."""
    outcome = run_flow(hook_flow(CollectResult(kafka=wrong)), [1, 2])  # type: ignore[arg-type]  # wrong on purpose
    (letter,) = outcome.dead_letters
    assert letter.kind is FailureKind.ROUTING
    assert letter.error == f"{type(wrong[0]).__name__} where a payload belongs"
    assert outcome.committed == {LANE: 2}


def test_one_payload_that_can_not_be_routed_leaves_the_others_alone() -> None:
    """A hook's other payloads are delivered."""
    answer = [KafkaPayload(data=1), KafkaPayload(data=2, sink="nowhere"), KafkaPayload(data=3)]
    outcome = run_flow(hook_flow(answer), [0, 0])
    assert outcome.values == [1, 3]
    assert len(outcome.dead_letters) == 1
    assert outcome.committed == {LANE: 2}


def test_a_plain_value_goes_to_every_sink_wrapped_as_its_payload() -> None:
    """Each sink gets the value once, as its own kind of payload; the record's key goes along."""
    sinks = [MemorySink("k"), MemorySink("f", kind="filesystem"), MemorySink("h", kind="http")]
    outcome = run_flow(StreamFlow("all").decode(int).route(), [7, 8], sinks=sinks)
    assert outcome.deliveries == {
        "kafka-k": [KafkaPayload(data=n, sink="k") for n in (7, 8)],
        "filesystem-f": [FilePayload(path="f.jsonl", data=n, sink="f") for n in (7, 8)],
        "http-h": [HttpPayload(data=n, sink="h") for n in (7, 8)],
    }
    assert outcome.committed == {LANE: 2}


def test_only_the_sinks_a_flow_lists_get_its_values() -> None:
    """A sink that is configured but not listed is left out."""
    flow = StreamFlow("listed").decode(int).route(KafkaSink("a"), JsonlSink("b"))
    sinks = [MemorySink("a"), MemorySink("b", kind="filesystem"), MemorySink("c")]
    outcome = run_flow(flow, [1], sinks=sinks)
    assert {sink: len(written) for sink, written in outcome.deliveries.items()} == {
        "kafka-a": 1,
        "filesystem-b": 1,
        "kafka-c": 0,
    }


def test_every_sinks_share_is_waited_for() -> None:
    """A value for three sinks: its offset waits for whichever is the last."""
    flow = StreamFlow("three").decode(int).route(KafkaSink("a"), JsonlSink("b"), HttpSink("c"))
    for slow in ("kafka-a", "filesystem-b", "http-c"):
        with FlowRun(flow, [1], open_end=True) as run:
            run.sink(slow).gate.shut()
            run.reader.put([2])
            others = [sink for sink in run.sinks if sink != slow]
            run.wait_until(lambda others=others, run=run: all(len(run.sink(o).payloads) == 2 for o in others))  # type: ignore[misc]  # mypy knows no lambda with a default here
            assert run.reader.committed.get(LANE, 0) < 2
            run.sink(slow).gate.open()
            run.wait_until(lambda run=run: run.reader.committed == {LANE: 2})  # type: ignore[misc]  # mypy knows no lambda with a default here


def test_a_sink_that_can_not_wrap_a_value_makes_one_dead_letter_and_no_half_delivery() -> None:
    """Wrapping is done for all sinks before any gets its share."""

    class Picky(MemorySink):
        def part(self, retry: RetryConfig | None = None) -> SinkComponent:
            import dataclasses

            def wrap(value: int, record: Record, name: str, settings: MemorySinkSettings) -> FilePayload:
                if value == 13:
                    raise ValueError("not that one")
                return FilePayload(path="p", data=value, sink=name)

            part = super().part(retry)
            return dataclasses.replace(part, spec=dataclasses.replace(part.spec, wrap=wrap))

    sinks = [MemorySink("a"), Picky("b", kind="filesystem")]
    outcome = run_flow(StreamFlow("picky").decode(int).route(), [1, 13, 2], sinks=sinks)
    assert outcome.values == [1, 2, 1, 2]
    assert [(letter.kind, letter.error) for letter in outcome.dead_letters] == [(FailureKind.ROUTING, "not that one")]
    assert outcome.committed == {LANE: 3}


def test_values_of_leaves_go_to_every_sink_too() -> None:
    """Shares of shares: flat_map before three sinks adds up."""
    flow = StreamFlow("leaves").decode(int).flat_map(range).route(KafkaSink("a"), KafkaSink("b"), KafkaSink("c"))
    outcome = run_flow(flow, [3, 0, 5])
    assert all([p.data for p in written] == [0, 1, 2, 0, 1, 2, 3, 4] for written in outcome.deliveries.values())
    assert outcome.committed == {LANE: 3}


def test_n2_a_payload_that_the_route_leaves_out_names_the_sink_that_would_take_it() -> None:
    """The step, what it routes to, and what to add."""
    config = DrakkarConfig(
        sinks={
            "filesystem": {"f": {"base_path": "/tmp/x"}},
            "kafka": {"a": {"topic": "a"}, "b": {"topic": "b"}},
        }
    )
    flow = flow_of(FilePayload(path="x", data=1), KafkaPayload(data=1, sink="b"), sinks=[KafkaSink("a")])
    outcome = run_flow(flow, range(2), config=config)
    missing, named = [letter.error for letter in outcome.dead_letters]
    only = "step 'route' routes to kafka-a only"
    assert missing == (
        f"no sink of the route takes a FilePayload: {only}; sinks.filesystem.f is configured and would: "
        "add FilesystemSink('f') to the route"
    )
    assert named == (
        f"a KafkaPayload names sink 'b': {only}; sinks.kafka.b is configured and would: add KafkaSink('b') to the route"
    )
