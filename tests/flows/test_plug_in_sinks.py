"""Sinks of plug-ins in flows: routed, tried again, isolated and buried like the library's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import (
    CollectResult,
    CustomPayload,
    CustomSink,
    DrakkarApp,
    DrakkarConfig,
    Handler,
    KafkaPayload,
    KafkaSink,
    StreamFlow,
    dataflow,
)
from drakkar_flow.errors import BatchFailed, SinkError, SinkRejected
from drakkar_flow.model.outcome import Delivery, FailureKind
from drakkar_flow.plugins import Payload, SinkConfig, SinkSpec
from drakkar_flow.testing import FlowHarness, MemorySink, run_flow


class PagerConfig(SinkConfig):
    """A pager."""

    number: str
    """Whom it calls."""


class Page(Payload, kw_only=True):
    """One call."""

    text: str


class PagerSink:
    """Calls nobody."""

    def __init__(self, name: str, settings: PagerConfig) -> None:
        pass

    async def connect(self) -> None:
        """Nothing to do."""

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""


def check(payload: Page, settings: Mapping[str, Any]) -> None:
    """A pager takes short texts only."""
    if len(payload.text) > 10:
        raise SinkRejected(f"too long for {settings.get('number')}")


PAGER = SinkSpec(
    "pager",
    PagerConfig,
    PagerSink,
    payload_type=Page,
    wrap=lambda value, _record, name, _settings: Page(text=str(value), sink=name),
    check_payload=check,
)
BEEPER = SinkSpec("beeper", PagerConfig, PagerSink)


def test_plain_values_become_its_payloads() -> None:
    """A route in code gives the spec and the settings."""
    flow = StreamFlow("calls").decode(int).route(CustomSink(PAGER, "night", number="1"))
    outcome = run_flow(flow, [1, 2])
    assert outcome.payloads("pager") == [Page(text="1", sink="night"), Page(text="2", sink="night")]
    assert outcome.committed == {("input", 0): 2}


class Watch(Handler[dict[str, Any], dict[str, Any]]):
    """Calls for each record."""

    async def arrange(self, messages: Any, pending: Any) -> Any:
        """A task for each."""
        return [message.task() for message in messages]

    async def on_task_complete(self, result: Any) -> Any:
        """Payloads of a plug-in, in a CollectResult and by themselves."""
        text = str(result.task.source_offsets[0])
        custom = CollectResult(custom=[CustomPayload(sink="day", data=text)], kafka=[KafkaPayload(data=text)])
        return [Page(text=text), custom]


def test_a_handlers_payloads_find_sinks_of_the_configuration() -> None:
    """A type of the plug-in's own by its kind, a CustomPayload by the sink's name."""
    handler = dataflow(Watch(), sinks=[PAGER, BEEPER])
    settings = {
        "pager": {"night": {"number": "1"}},
        "beeper": {"day": {"number": "2"}},
        "kafka": {"out": {"topic": "t"}},
    }
    outcome = run_flow(handler, [{}], config=DrakkarConfig(sinks=settings))
    assert {sink: len(written) for sink, written in outcome.deliveries.items()} == {
        "pager-night": 1,
        "beeper-day": 1,
        "kafka-out": 1,
    }


def test_a_sink_that_the_route_leaves_out_is_suggested_as_it_is_written() -> None:
    """CustomSink with its kind: no class has the name of a plug-in's kind."""
    stream = StreamFlow("calls").decode(str).map(lambda text: Page(text=text)).route(KafkaSink("out", topic="t"))
    flow = dataflow(stream, sinks=[PAGER])
    config = DrakkarConfig(sinks={"pager": {"night": {"number": "1"}}})
    (letter,) = run_flow(flow, ["x"], config=config).dead_letters
    assert letter.error.endswith("add CustomSink('pager', 'night') to the route")


def test_what_it_refuses_is_a_dead_letter() -> None:
    """By the check of its spec, with the settings of the sink; others are delivered."""
    flow = StreamFlow("calls").decode(str).route(CustomSink(PAGER, "night", number="1"))
    outcome = run_flow(flow, ["short", "much too long"])
    assert len(outcome.payloads("pager")) == 1
    (letter,) = outcome.dead_letters
    assert (letter.kind, letter.sink_type, letter.sink_name) == (FailureKind.SINK, "pager", "night")
    assert letter.error.endswith("too long for 1")
    assert outcome.committed == {("input", 0): 2}


@pytest.mark.parametrize("raised", [SystemExit(3), GeneratorExit(), ValueError("no")])
def test_what_it_can_not_wrap_is_a_dead_letter(raised: BaseException) -> None:
    """Whatever `wrap` raises concerns its value alone, and does not end the event loop."""

    def wrap(value: Any, _record: Any, name: str, _settings: Any) -> Page:
        if value == 5:
            raise raised
        return Page(text=str(value), sink=name)

    spec = SinkSpec("pager", PagerConfig, PagerSink, payload_type=Page, wrap=wrap)
    outcome = run_flow(StreamFlow("calls").decode(int).route(CustomSink(spec, "night", number="1")), range(10))
    assert len(outcome.payloads("pager")) == 9
    (letter,) = outcome.dead_letters
    assert letter.kind == FailureKind.ROUTING
    assert outcome.committed == {("input", 0): 10}


@pytest.mark.parametrize(
    ("error", "writes", "letters"),
    [(SinkError("down"), 2, 0), (BatchFailed({0: SinkRejected("no")}), 1, 1)],
)
def test_errors_mean_what_they_mean_for_every_sink(error: Exception, writes: int, letters: int) -> None:
    """An outage is tried again, a refusal is not."""
    sink = MemorySink("night", kind="pager", script=[error])
    with FlowHarness(
        StreamFlow("calls").decode(str).route(CustomSink(PAGER, "night", number="1")), sinks=[sink]
    ) as kit:
        kit.send("help")
        kit.wait_acknowledged()
        assert (sink.writes, len(kit.dead_letters)) == (writes, letters)


def test_an_app_takes_the_specs_before_it_reads_its_file(tmp_path: Path) -> None:
    """The sections of their kinds are those of the configuration."""
    file = tmp_path / "drakkar.yaml"
    file.write_text("sinks: {pager: {night: {number: '1'}}}")
    app = DrakkarApp(Watch(), file, sinks=[PAGER])
    config: Any = app.config
    assert config.sinks.pager["night"].number == "1"
    assert app.config.sinks.named == [("pager", "night")]
