"""What a test asks about what a flow did."""

from __future__ import annotations

import pytest

from drakkar_flow import KafkaPayload, StreamFlow
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.source import RecordsConsumed
from drakkar_flow.testing import FlowHarness, Outcome, run_flow
from drakkar_flow.testing.cases import CasesError


def outcome() -> Outcome:
    """Two words and a number that is none."""
    flow = StreamFlow("keyed").decode(int).map(lambda n: KafkaPayload(data=n, key=f"k{n % 2}")).route()
    return run_flow(flow, [1, 2, "three", 3])


def test_payloads_are_asked_for_by_sink_and_key() -> None:
    """As text or bytes; a sink that is not there is told with those that are."""
    done = outcome()
    assert [payload.data for payload in done.payloads("kafka", "out", key="k1")] == [1, 3]
    assert [payload.data for payload in done.payloads(key=b"k0")] == [2]
    with pytest.raises(AssertionError, match="0 sinks match 'redis' ''; there are: kafka-out"):
        done.payloads("redis")
    with pytest.raises(AssertionError, match="0 sinks match 'kafka' 'ou'"):
        done.payloads("kafka", "ou")


def test_dead_letters_are_asked_for_by_what_they_say() -> None:
    """Kind, step, a part of the error, the message they come of."""
    with FlowHarness(StreamFlow("f").decode(int).map(lambda n: 1 // n, name="divide").route()) as kit:
        junk, zero, fine = kit.send_all(["junk", 0, 1])
        kit.wait_acknowledged()
        assert [letter.stage for letter in kit.letters()] == ["decode", "map-divide"]
        assert kit.letters(kind="decode") == kit.letters(message=junk) == kit.letters(error="JSON")
        assert kit.letters(stage="map-divide") == kit.letters(message=zero)
        assert kit.letters(message=fine) == []


def test_events_are_asked_for_by_type_and_fields() -> None:
    """A field that there is not is a mistake of the test."""
    done = outcome()
    assert sum(event.count for event in done.of(RecordsConsumed, topic_partition=("input", 0))) == 4
    assert len(done.of(RecordsFailed, kind="decode")) == 1
    assert done.of(RecordsFailed, kind="task") == []
    with pytest.raises(AttributeError, match="sort"):
        done.of(RecordsFailed, sort="decode")


def test_what_is_not_as_expected_is_told_line_by_line() -> None:
    """Everything at once, with what came beside it."""
    done = outcome()
    done.check(deliveries={"kafka-out": [1, 2, 3]}, committed={0: 4}, dead_letters=1, events={"RecordsFailed": 1})
    with pytest.raises(AssertionError) as caught:
        done.check(deliveries={"kafka-out": [1, 3]}, committed={0: 5}, events={"RecordsFailed": 0})
    told = str(caught.value).splitlines()
    assert told[:5] == [
        "the results differ from the expectation",
        "kafka-out: - expected, + actual",
        "      1",
        "    + 2",
        "      3",
    ]
    assert told[5:9] == ["dead letters (0 expected): - expected, + actual", *told[6:9]]
    assert '    -   "0": 5' in told
    assert told[-1] == "event RecordsFailed: emitted 1 times, expected 0"


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        ({"delivries": {}}, "check delivries: unknown key; did you mean 'deliveries'"),
        ({"events": {"TaskRetryed": 0}}, "did you mean 'TaskRetried'"),
        ({"committed": {"zero": 0}}, "check committed.zero"),
    ],
)
def test_a_wrong_expectation_is_told_as_such(expected: dict[str, object], problem: str) -> None:
    """With the nearest names, as in a file of cases."""
    with pytest.raises(CasesError, match=problem):
        outcome().check(**expected)
