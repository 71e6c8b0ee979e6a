"""Trying out workers: good ones pass, each bad one is told what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drakkar_flow.cli.main import main
from drakkar_flow.testing.worker_check import Broken, check_worker
from support.children import command

WAITED_FOR = {
    "closes_stdout": "it closed its stdout, and did not write a whole line before",
    "ignores_the_end": "it did not end when its stdin did within 1 s",
    "never_reads": "it did not read its stdin for 1 s|it did not write a whole line",
    "no_handshake": "it did not write a whole line within 1 s",
    "only_progress": "it did not end a task within 1 s",
    "silent": "it did not write a whole line within 1 s",
    "stops_itself": "it did not write a whole line within 1 s",
}
WRONG = {
    "bad_frame": "it wrote output that is not JSON",
    "crash_after_n": "it ended with -9",
    "crash_loop": r"(?s)ended with 3, and .*\nits stderr:\nno licence found",
    "duplicate_id": r'the "id" of an answer has to be one of \[2\]',
    "flood": "a frame has no end within the bytes allowed|the sizes of a frame are too large",
    "half_frame_at_exit": "it ended with 0, and did not write a whole (line|frame) before",
    "refuses": "it refuses: the model file is missing",
    "stdout_noise_before_ready": "it wrote output that is not JSON .*Loading the model",
    "stdout_noise_between": "it wrote output that is not JSON|the sizes of a frame are too large",
    "wrong_id": r'the "id" of an answer has to be one of \[1\]; it said .*1001',
    "wrong_version": 'its "version" has to be one that was offered',
}


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
@pytest.mark.parametrize("name", WRONG)
def test_a_child_that_misbehaves_is_told_how(name: str, framing: str) -> None:
    """At the first thing that is wrong, in either framing."""
    with pytest.raises(Broken, match=WRONG[name]):
        list(check_worker(command(name, framing)))


@pytest.mark.parametrize("name", WAITED_FOR)
def test_a_child_that_does_nothing_is_not_waited_for_longer_than_allowed(name: str) -> None:
    """Whatever it is that it does not do."""
    with pytest.raises(Broken, match=WAITED_FOR[name]):
        list(check_worker(command(name), timeout_s=1))


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
@pytest.mark.parametrize("name", ["good", "flood_stderr"])
def test_a_child_that_behaves_passes(name: str, framing: str) -> None:
    """However much it logs."""
    assert "it ends with 0 when its stdin ends" in list(check_worker(command(name, framing, 1)))


SERVE = "from drakkar_flow.worker import serve; serve(lambda task: task.stdin_bytes, framing={!r})"


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
def test_n5_input_that_is_not_text_is_tried_on_demand(framing: str) -> None:
    """A worker of the library takes it and gives it back; one that takes text alone is told."""
    facts = list(check_worker([sys.executable, "-c", SERVE.format(framing)], binary=True))
    assert "it answers a task whose input is not text" in facts
    with pytest.raises(Broken, match="UnicodeDecodeError"):
        list(check_worker(command("good", "length-prefixed"), binary=True))


def test_a_child_without_a_json_parser_passes() -> None:
    """The check writes JSON as the real parent does: without spaces, `type` first, then `id`."""
    script = r"""
        read -r hello
        case $hello in '{"type":"hello","protocol":"drakkar-worker","versions":[1]'*) ;; *) exit 9 ;; esac
        echo '{"type":"ready","version":1}'
        while IFS= read -r frame; do
            case $frame in '{"type":"task","id":'*) ;; *) continue ;; esac
            id=${frame#'{"type":"task","id":'}
            echo "{\"id\":${id%%[!0-9]*}}"
        done"""
    assert "it ends with 0 when its stdin ends" in list(check_worker(["sh", "-c", script]))


def run(*arguments: str) -> int:
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as caught:
        main(["worker", "check", *arguments])
    return int(caught.value.code or 0)


def test_the_command_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each step, exit code 0."""
    assert run("--", *command("good")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("ok      it ") for line in lines)


@pytest.mark.parametrize(("child", "why"), [(["/nope"], "No such file"), (["cat"], 'type "ready" or "refused"')])
def test_the_command_says_what_is_wrong(child: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with exit code 1."""
    assert run("--timeout", "2", "--", *child) == 1
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ready", "why"),
    [
        ('{"type":"ready","version":1,"framing":"morse"}', '"framing" was not offered'),
        ('{"type":"ready","version":1,"max_in_flight":0}', '"max_in_flight" is no positive number'),
        ('{"type":"ready","version":1,"capabilities":"cancel"}', '"capabilities" are no list'),
        ("[]", "a frame has to be a JSON object"),
    ],
)
def test_each_field_of_the_greeting_is_looked_at(ready: str, why: str, tmp_path: Path) -> None:
    """With what the child said."""
    script = tmp_path / "child.py"
    script.write_text(f"print({ready!r}, flush=True); input()")
    with pytest.raises(Broken, match=why):
        list(check_worker([sys.executable, str(script)]))
