"""Names that users give never clash with each other or with the names of our own steps."""

from __future__ import annotations

import pytest

from drakkar_flow import KafkaSink, StreamFlow
from drakkar_flow.testing import run_flow


@pytest.mark.parametrize(
    "names",
    [("a", "a-errors"), ("my.topic",), ("track", "dlq")],
    ids=["one looks like another's errors", "with a period", "ours"],
)
def test_a_sink_may_have_any_name(names: tuple[str, ...]) -> None:
    """Every sink gets every record, whatever the sinks are called."""
    flow = StreamFlow("names").decode(int).route(*(KafkaSink(name) for name in names), name="dlq")
    outcome = run_flow(flow, [1, 2])
    assert outcome.deliveries.keys() == {f"kafka-{name}" for name in names}
    assert outcome.values == [1, 2] * len(names)


def test_steps_may_be_named_like_numbered_ones() -> None:
    """A step called x-2 beside two called x runs as well."""
    flow = StreamFlow("names").decode(int)
    for name in ("x", "x", "x-2"):
        flow = flow.map(lambda n: n + 1, name=name)
    flow = flow.route(KafkaSink("out"))
    assert [step for step, _ in flow.steps()] == ["decode", "map-x", "map-x-2", "map-x-2-2", "route"]
    assert run_flow(flow, [1]).values == [4]
