"""StreamFlow: immutable, with stable ids, made by hand or from a handler, drawn and described."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import (
    Handler,
    JsonlSink,
    KafkaSink,
    KafkaSource,
    Limits,
    PendingContext,
    SqliteSink,
    StreamFlow,
    StreamingRunner,
    Subprocess,
    Window,
    dataflow,
)
from drakkar_flow.errors import FlowError
from drakkar_flow.graph.nodes import Arrange, Collect, Decode, Execute, Map, Node, Route
from drakkar_flow.model.group import MessageGroup
from drakkar_flow.model.payload import DeliveryError
from drakkar_flow.model.record import Record
from drakkar_flow.model.task import ExecutorError, ExecutorResult, ExecutorTask


def parse(value: Any) -> Any:
    """A step's function."""
    return value


async def look_up(value: Any) -> Any:
    """An async step's function."""
    return value


def ids(flow: StreamFlow) -> list[str]:
    """The ids of a flow's steps."""
    return [step for step, _ in flow.steps()]


def test_every_verb_makes_a_new_flow() -> None:
    """A prefix can be shared: what is added to one flow is not in the other."""
    prefix = StreamFlow("f", source=KafkaSource("in")).decode(int)
    one, other = prefix.map(parse), prefix.filter(parse)
    assert (ids(prefix), ids(one), ids(other)) == (["decode"], ["decode", "map-parse"], ["decode", "filter-parse"])
    assert (one.name, one.source.topics) == ("f", ("in",))
    assert isinstance(one.nodes, tuple)


def test_flows_and_nodes_can_not_be_changed() -> None:
    """A flow that was checked stays as it is."""
    flow = StreamFlow("f").map(parse)
    with pytest.raises(AttributeError):
        flow.name = "g"  # type: ignore[misc]  # frozen
    with pytest.raises(AttributeError):
        flow.nodes[0].with_record = True  # type: ignore[attr-defined]  # frozen


def test_ids_are_the_kind_and_the_functions_name() -> None:
    """A name given by hand replaces it; what an id can't hold becomes an underscore."""
    flow = (
        StreamFlow("f")
        .decode(int)
        .map(parse)
        .map(parse, name="clean up!")
        .map(lambda value: value)
        .map(functools.partial(parse))
        .flat_map(parse)
        .map_async(look_up)
        .arrange(parse, name="arrange")
        .execute()
        .collect(parse)
        .route()
    )
    assert ids(flow) == [
        "decode",
        "map-parse",
        "map-clean_up",
        "map-lambda",
        "map",
        "flat_map-parse",
        "map_async-look_up",
        "arrange",
        "execute",
        "collect-parse",
        "route",
    ]


def test_a_step_added_before_renames_no_other() -> None:
    """Ids don't count positions: recovery state and dashboards stay valid."""
    before = StreamFlow("f").decode(int).filter(parse).map(look_up).route()
    after = StreamFlow("f").decode(int).flat_map(parse).filter(parse).map(parse).map(look_up).route()
    assert set(ids(before)) <= set(ids(after))


def test_a_repeated_step_gets_a_number() -> None:
    """The first keeps its plain id."""
    assert ids(StreamFlow("f").map(parse).filter(parse).map(parse).map(parse)) == [
        "map-parse",
        "filter-parse",
        "map-parse-2",
        "map-parse-3",
    ]


def test_ids_are_unique_whatever_the_names() -> None:
    """A name that looks like a numbered id does not collide with one."""
    flow = StreamFlow("f").map(parse, name="a").map(parse, name="a-2").map(parse, name="a").map(parse, name="a")
    assert ids(flow) == ["map-a", "map-a-2", "map-a-3", "map-a-4"]


def test_find_gives_the_first_node_of_a_kind() -> None:
    """None where there is none."""
    flow = StreamFlow("f").map(parse, name="a").map(parse, name="b")
    assert flow.find(Map).name == "a"
    assert flow.find(Route) is None


def test_policies_read_as_words() -> None:
    """ "dlq", "skip", "fail"."""
    assert ("dlq", "skip", "fail") == ("dlq", "skip", "fail")


def test_settings_reach_their_nodes() -> None:
    """What a verb is given is what the node holds."""
    flow = (
        StreamFlow("f")
        .decode(int, on_error="skip")
        .arrange(parse, window=Window(5, 0.5))
        .execute(Subprocess("/bin/true", 3, 1.5), on_error=look_up)
        .collect(parse, on_message_complete=look_up, on_window_complete=parse)
        .route(KafkaSink("a", topic="t"), JsonlSink("b"), SqliteSink("c"), on_error="fail", on_delivery_error=look_up)
    )
    assert flow.find(Decode) == Decode(target=int, on_error="skip")
    assert flow.find(Arrange) == Arrange(fn=parse, window=Window(size=5, linger_s=0.5))
    assert flow.find(Execute).program == Subprocess(binary="/bin/true", max_executors=3, timeout_s=1.5)
    assert flow.find(Execute).on_error is look_up
    assert flow.find(Collect) == Collect(fn=parse, on_message_complete=look_up, on_window_complete=parse)
    route = flow.find(Route)
    assert [sink.id for sink in route.sinks] == ["kafka-a", "filesystem-b", "sqlite-c"]
    assert route.sinks[0].settings == {"topic": "t"}
    assert (route.on_error, route.on_delivery_error) == ("fail", look_up)


# --- from_handler ---------------------------------------------------------------------------------------


class Bare(Handler):
    """Only arrange, no models."""

    async def arrange(self, messages: list[Record], pending: PendingContext) -> list[ExecutorTask]:
        return []


class Typed(Handler[dict, list]):  # type: ignore[type-arg]  # plain types
    """With an input model."""

    async def arrange(self, messages: list[Record[Any]], pending: PendingContext) -> list[ExecutorTask]:
        return []


class Full(Typed):
    """Every hook."""

    async def on_task_complete(self, result: ExecutorResult) -> None:
        return None

    async def on_message_complete(self, group: MessageGroup) -> None:
        return None

    async def on_window_complete(self, results: list[ExecutorResult], source_messages: list[Record]) -> None:
        return None

    async def on_error(self, task: ExecutorTask, error: ExecutorError) -> Any:
        return "skip"

    async def on_delivery_error(self, error: DeliveryError) -> Any:
        return "dlq"


class OldName(Typed):
    """collect, as it was called before."""

    async def collect(self, result: ExecutorResult) -> None:
        return None


def test_a_bare_handler_becomes_the_task_chain_without_decode() -> None:
    """No model: records come with their bytes only, and hooks that are not written are not called."""
    flow = StreamFlow.from_handler(Bare())
    assert (flow.name, ids(flow)) == ("Bare", ["arrange", "execute", "collect", "route"])
    collect = flow.find(Collect)
    assert (collect.fn, collect.on_message_complete, collect.on_window_complete) == (None, None, None)
    assert flow.find(Route).on_delivery_error is None
    assert flow.problems() == []


def test_a_typed_handler_decodes_its_input() -> None:
    """The first type argument is the target; a subclass inherits it."""
    assert StreamFlow.from_handler(Typed()).find(Decode).target is dict
    assert StreamFlow.from_handler(Full()).find(Decode).target is dict


def test_every_hook_a_handler_writes_is_called() -> None:
    """They are bound to the very instance."""
    handler = Full()
    flow = StreamFlow.from_handler(handler, name="named")
    collect = flow.find(Collect)
    assert flow.name == "named"
    assert flow.find(Arrange).fn == handler.arrange
    assert collect.fn == handler.on_task_complete
    assert collect.on_message_complete == handler.on_message_complete
    assert collect.on_window_complete == handler.on_window_complete
    assert flow.find(Execute).on_error == handler.on_error
    assert flow.find(Route).on_delivery_error == handler.on_delivery_error


def test_collect_is_the_old_name_of_on_task_complete() -> None:
    """The new name wins where both are written."""

    class Both(OldName):
        async def on_task_complete(self, result: ExecutorResult) -> None:
            return None

    old, both = OldName(), Both()
    assert StreamFlow.from_handler(old).find(Collect).fn == old.collect
    assert StreamFlow.from_handler(both).find(Collect).fn == both.on_task_complete


# --- pictures -------------------------------------------------------------------------------------------


def drawn() -> StreamFlow:
    """The flow of the pictures below."""
    return (
        StreamFlow("scan", source=KafkaSource("orders", "^audit-.*"))
        .decode(dict)
        .map(parse, with_record=True)
        .arrange(parse, window=Window(size=5))
        .execute(Subprocess("/usr/bin/rg", timeout_s=2.0))
        .collect()
        .route(KafkaSink("results", topic="out"), JsonlSink("files"))
    )


def test_the_mermaid_picture_is_pinned() -> None:
    """Steps in a row, sinks and dead letters fanning out, everything ending in track and commit."""
    assert (
        drawn().to_mermaid()
        == """\
---
title: scan
---
flowchart LR
  source[("orders, ^audit-.*")]
  decode["decode"]
  source --> decode
  map_parse["map-parse"]
  decode --> map_parse
  arrange_parse["arrange-parse"]
  map_parse --> arrange_parse
  execute["execute"]
  arrange_parse --> execute
  collect["collect"]
  execute --> collect
  route["route"]
  collect --> route
  sink_kafka_results[("kafka-results")]
  route --> sink_kafka_results
  sink_kafka_results --> track
  sink_filesystem_files[("filesystem-files")]
  route --> sink_filesystem_files
  sink_filesystem_files --> track
  sink_dlq[("dlq")]
  route -. errors .-> sink_dlq
  sink_dlq --> track
  track --> commit
"""
    )


def test_a_flow_without_topics_and_sinks_says_that_the_configuration_has_them() -> None:
    """The picture names nothing it does not know."""
    picture = StreamFlow("f").route().to_mermaid()
    assert 'source[("configured topics")]' in picture
    assert 'sink_configured_sinks[("configured sinks")]' in picture


def test_the_limits_of_programs_are_described_as_far_as_they_are_given() -> None:
    """What stands in the flow, and nothing of the configuration."""
    flow = StreamFlow("scan").arrange(parse).execute(Subprocess("rg", limits=Limits(cpu_s=2))).collect().route()
    (described,) = [step for step in flow.to_json()["steps"] if step["kind"] == "execute"]
    assert described["program"] == {"binary": "rg", "limits": {"cpu_s": 2}}


def test_the_json_description_is_pinned_and_json() -> None:
    """Ids, kinds and settings; functions by their names; what is not set is left out."""
    described = drawn().to_json()
    assert json.loads(json.dumps(described)) == described
    assert described == {
        "name": "scan",
        "source": {"kind": "kafka", "topics": ["orders", "^audit-.*"]},
        "steps": [
            {"id": "decode", "kind": "decode", "target": "dict", "with_record": False},
            {"id": "map-parse", "kind": "map", "fn": "parse", "with_record": True},
            {"id": "arrange-parse", "kind": "arrange", "fn": "parse", "window": {"size": 5}},
            {"id": "execute", "kind": "execute", "program": {"binary": "/usr/bin/rg", "timeout_s": 2.0}},
            {"id": "collect", "kind": "collect"},
            {
                "id": "route",
                "kind": "route",
                "sinks": [
                    {"kind": "kafka", "name": "results", "topic": "out"},
                    {"kind": "filesystem", "name": "files"},
                ],
                "on_error": "dlq",
            },
        ],
    }


def test_a_function_without_a_name_is_described_by_what_it_looks_like() -> None:
    """Partials and callable objects."""
    description = StreamFlow("f").map(functools.partial(parse)).to_json()
    assert description["steps"][0]["fn"].startswith("functools.partial(")


def test_repr_shows_the_chain() -> None:
    """What a flow is, in one line."""
    assert (
        repr(StreamFlow("f").decode(int).map(parse).route()) == "StreamFlow('f', source > decode > map-parse > route)"
    )


def test_every_node_kind_has_its_own_name() -> None:
    """Ids and lowering depend on it."""
    kinds = {kind.__name__: kind.kind for kind in Node.__subclasses__()}  # twice each: slots make a second class
    assert len(kinds) == len(set(kinds.values())) == 12


@pytest.mark.parametrize(
    "make", [dataflow, StreamFlow.from_handler, lambda given: StreamingRunner.from_dict(given, {})]
)
def test_n15_a_class_in_place_of_a_handler_names_this_file(make: Callable[..., Any]) -> None:
    """Whatever it was given to."""
    with pytest.raises(FlowError) as caught:
        make(Handler)
    (problem,) = caught.value.problems
    assert problem.what.startswith("expected a handler instance, got the class BaseDrakkarHandler: write dataflow(")
    assert Path(problem.place.rpartition(":")[0]).name == "test_flow.py"


def test_n15_problems_have_the_line_of_their_step() -> None:
    """The step's, the flow's, and those of a hook's definition."""

    class Odd(Handler):
        async def arrange(self, messages: list[Record]) -> None: ...  # type: ignore[override]  # wrong on purpose

    stream = StreamFlow("x").map(3)  # type: ignore[arg-type]  # wrong on purpose
    line = str(test_n15_problems_have_the_line_of_their_step.__code__.co_firstlineno + 6)
    assert [problem.placed.partition(" ")[0].rpartition(":")[2] for problem in stream.problems()] == [line, line]
    (problem,) = StreamFlow.from_handler(Odd()).problems()
    assert int(problem.place.rpartition(":")[2]) < int(line)
