"""Wrong arguments of what a flow is made of: refused at once, in one line that names the user's line."""

from __future__ import annotations

import subprocess
import sys
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
    Persistent,
    SqliteSink,
    StreamFlow,
    Subprocess,
    Window,
)
from drakkar_flow.errors import FlowArgumentError, FlowError


def identity(value: Any) -> Any:
    """Any function."""
    return value


async def wait(value: Any) -> Any:
    """Any function that waits."""
    return value


class Some(Handler):
    """Any handler."""


FLOW = StreamFlow("f")
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "slots of half": (
        lambda: Subprocess(max_executors=2.5),  # type: ignore[arg-type]  # wrong on purpose
        "Subprocess: max_executors is float 2.5; write a whole number, at least 1",
    ),
    "slots as text": (
        lambda: Subprocess(max_executors="4"),  # type: ignore[arg-type]  # wrong on purpose
        "Subprocess: max_executors is '4'; write a whole number, at least 1",
    ),
    "a truth": (
        lambda: Subprocess(max_executors=True),
        "Subprocess: max_executors is bool True; write a whole number, at least 1",
    ),
    "no slots": (lambda: Subprocess(max_executors=0), "Subprocess: max_executors is 0; use at least 1"),
    "no time": (lambda: Subprocess(timeout_s=0), "Subprocess: timeout_s is 0; use more than 0 seconds"),
    "time as text": (
        lambda: Subprocess(timeout_s="10"),  # type: ignore[arg-type]  # wrong on purpose
        "Subprocess: timeout_s is '10'; write a number of seconds, more than 0",
    ),
    "endless time": (
        lambda: Subprocess(timeout_s=float("inf")),
        "Subprocess: timeout_s is float inf; write a number of seconds, more than 0",
    ),
    "command line": (
        lambda: Subprocess(["wc", "-w"]),  # type: ignore[arg-type]  # wrong on purpose
        "Subprocess: binary is list ['wc', '-w']; write a text that is not empty",
    ),
    "no program": (lambda: Subprocess(""), "Subprocess: binary is ''; write a text that is not empty"),
    "limits as a mapping": (
        lambda: Subprocess(limits={"cpu_s": 2}),  # type: ignore[arg-type]  # wrong on purpose
        "Subprocess: limits is dict {'cpu_s': 2}; write limits=Limits(...)",
    ),
    "exit code alone": (
        lambda: Subprocess(ok_exit_codes=1),  # type: ignore[arg-type]  # wrong on purpose
        "Subprocess: ok_exit_codes is 1; write a list of exit codes: [0, 1]",
    ),
    "no exit code": (
        lambda: Subprocess(ok_exit_codes=[]),
        "Subprocess: ok_exit_codes is []; write a list of exit codes: [0, 1]",
    ),
    "impossible exit code": (
        lambda: Subprocess(ok_exit_codes=[0, 256]),
        "Subprocess: ok_exit_codes is 256; use from 0 to 255",
    ),
    "a name with a space": (
        lambda: Subprocess("x", name="a b"),
        "Subprocess: name is 'a b'; write a text of characters a-z, A-Z, 0-9, '-' and '_'",
    ),
    "the default's name": (
        lambda: Persistent("x", name="default"),
        "Persistent: name is 'default'; leave it out, for that is the executor without a name",
    ),
    "children": (lambda: Persistent("x", children=0), "Persistent: children is 0; use at least 1"),
    "args as text": (lambda: Persistent("x", "-c"), "Persistent: args is '-c'; write a list of texts"),
    "args of numbers": (
        lambda: Persistent("x", ["-c", 3]),  # type: ignore[list-item]  # wrong on purpose
        "Persistent: args[1] is int 3; write a text",
    ),
    "protocol": (
        lambda: Persistent("x", protocol="json"),  # type: ignore[arg-type]  # wrong on purpose
        "Persistent: protocol is 'json'; write one of 'worker', 'lines'",
    ),
    "answer": (
        lambda: Persistent("x", answer="lines"),  # type: ignore[arg-type]  # wrong on purpose
        "Persistent: answer is 'lines'; write one of 'line', 'marker'",
    ),
    "settings": (
        lambda: Persistent("x", settings=[1]),  # type: ignore[arg-type]  # wrong on purpose
        "Persistent: settings is list [1]; write a mapping of names to values",
    ),
    "requests per child": (
        lambda: Persistent("x", max_in_flight_per_child=1.5),  # type: ignore[arg-type]  # wrong on purpose
        "Persistent: max_in_flight_per_child is float 1.5; write a whole number, at least 1",
    ),
    "window size": (lambda: Window(size=0), "Window: size is 0; use at least 1"),
    "window size as text": (
        lambda: Window("5"),  # type: ignore[arg-type]  # wrong on purpose
        "Window: size is '5'; write a whole number, at least 1",
    ),
    "window linger": (lambda: Window(linger_s=-0.1), "Window: linger_s is -0.1; use 0 or more seconds"),
    "limit as text": (
        lambda: Limits(cpu_s="2"),  # type: ignore[arg-type]  # wrong on purpose
        "Limits: cpu_s is '2'; write a whole number, at least 1",
    ),
    "niceness": (lambda: Limits(nice=40), "Limits: nice is 40; use from -20 to 19"),
    "umask": (
        lambda: Limits(umask=27),  # type: ignore[arg-type]  # wrong on purpose
        "Limits: umask is 27; write an octal number of 3 or 4 digits as text: '027'",
    ),
    "topics as a list": (
        lambda: KafkaSource(["in"]),  # type: ignore[arg-type]  # wrong on purpose
        "KafkaSource: topic 1 is list ['in']; write a text that is not empty",
    ),
    "no topic": (lambda: KafkaSource("a", ""), "KafkaSource: topic 2 is ''; write a text that is not empty"),
    "Kafka sink": (
        lambda: KafkaSink(5),  # type: ignore[arg-type]  # wrong on purpose
        "sink: name is int 5; write a text that is not empty",
    ),
    "files sink": (lambda: JsonlSink(""), "sink: name is ''; write a text that is not empty"),
    "SQLite sink": (
        lambda: SqliteSink(None),  # type: ignore[arg-type]  # wrong on purpose
        "sink: name is None; write a text that is not empty",
    ),
    "flow's name": (
        lambda: StreamFlow(5),  # type: ignore[arg-type]  # wrong on purpose
        "StreamFlow: name is int 5; write the flow's name as text: StreamFlow('scan')",
    ),
    "flow's source": (
        lambda: StreamFlow("f", source="in"),  # type: ignore[arg-type]  # wrong on purpose
        "StreamFlow: source is 'in'; write source=KafkaSource('topic')",
    ),
    "a step's name": (
        lambda: FLOW.map(identity, name=5),  # type: ignore[arg-type]  # wrong on purpose
        "map: name is int 5; write the name of the step as text",
    ),
    "calls in flight": (
        lambda: FLOW.map_async(wait, max_in_flight=0),
        "map_async: max_in_flight is 0; use at least 1",
    ),
    "calls in flight without number": (
        lambda: FLOW.map_async(wait, max_in_flight=None),  # type: ignore[arg-type]  # wrong on purpose
        "map_async: max_in_flight is None; write a whole number, at least 1",
    ),
    "call timeout": (
        lambda: FLOW.map_async(wait, timeout_s=-1),
        "map_async: timeout_s is -1; use more than 0 seconds",
    ),
    "window as a number": (
        lambda: FLOW.arrange(identity, window=5),  # type: ignore[arg-type]  # wrong on purpose
        "arrange: window is int 5; write window=Window(size=100)",
    ),
    "program as text": (
        lambda: FLOW.execute("wc"),  # type: ignore[arg-type]  # wrong on purpose
        "execute: program 1 is 'wc'; write Subprocess(...) or Persistent(...)",
    ),
    "the class of a program": (
        lambda: FLOW.execute(Subprocess),  # type: ignore[arg-type]  # wrong on purpose
        "execute: program 1 is the class Subprocess; write Subprocess(...) or Persistent(...)",
    ),
    "two of one name": (
        lambda: FLOW.execute(Subprocess("a", name="x"), Persistent("b", name="x")),
        "execute: 2 programs are named 'x'; name one of them otherwise",
    ),
    "two without a name": (
        lambda: FLOW.execute(Subprocess("a"), Persistent("b")),
        "execute: several programs have no name; name all but one: Subprocess('sha256sum', name='sha')",
    ),
    "sink as text": (
        lambda: FLOW.route("out"),  # type: ignore[arg-type]  # wrong on purpose
        "route: sink 1 is 'out'; write KafkaSink('results')",
    ),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_n17_a_wrong_argument_is_refused_at_its_line(case: str) -> None:
    """One line: the place, what was called, what is wrong, what to write."""
    make, message = WRONG[case]
    with pytest.raises(FlowArgumentError) as caught:
        make()
    (problem,) = caught.value.problems
    line = make.__code__.co_firstlineno
    assert str(problem).startswith(f"{__file__}:")
    place, _, told = str(problem).partition(" ")
    assert told == message
    assert line <= int(place.rpartition(":")[2]) <= line + 1
    assert isinstance(caught.value, FlowError)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


def test_n17_all_wrong_arguments_are_told_at_once() -> None:
    """So that a user fixes them in one go."""
    with pytest.raises(FlowArgumentError) as caught:
        Limits(cpu_s=0, open_files=1, nice=40, umask="rwx")
    assert [str(problem).partition("Limits: ")[2].split()[0] for problem in caught.value.problems] == [
        "cpu_s",
        "open_files",
        "nice",
        "umask",
    ]


def test_what_is_right_is_taken() -> None:
    """Every type that fits."""
    assert Subprocess(Path("/bin/cat")).binary == "/bin/cat"
    assert Persistent("python", (Path("worker.py"), "-v")).args == ["worker.py", "-v"]
    Subprocess("grep", 4, 1.5, Limits(cpu_s=1, umask="027"), ok_exit_codes=(0, "2-5"), name="a-b_1")
    Persistent("jq", ("-c", "."), "lines", "marker", 2, 8, 10, {"recycle_after_requests": 5})
    flow = FLOW.execute(None).execute(Subprocess("a"), Persistent("b", name="x"), Subprocess("c", name="y"))
    assert [node.kind for node in flow.nodes] == ["execute", "execute"]
    Window(5, 0)


def test_n17_the_command_tells_it_in_one_line(tmp_path: Path) -> None:
    """Without a traceback, and with the line in the user's file."""
    file = tmp_path / "mine.py"
    file.write_text("from drakkar_flow import StreamFlow, Subprocess\n\nprogram = Subprocess('x', max_executors=2.5)\n")
    call = "from drakkar_flow.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", call, "graph", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"{file}:3 Subprocess: max_executors is float 2.5; write a whole number, at least 1" in done.stderr
    assert "Traceback" not in done.stderr
