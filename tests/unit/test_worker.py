"""A script that serves: what its handler sees, and what becomes of what it returns, raises, prints and delays."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drakkar_flow import worker
from support.session import HELLO, SRC, Session

UPPER = "serve(lambda task: task.stdin.upper(), **OPTIONS)"


def upper(**options: object) -> str:
    """A child that answers in capitals."""
    return UPPER.replace("OPTIONS", repr(options))


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_function_becomes_a_child(framing: str, threads: int) -> None:
    """It says what it can do, answers, and ends with 0 when its stdin does."""
    with Session.with_script(upper(framing=framing, threads=threads, name="shouter")) as child:
        assert child.ready == {
            "type": "ready",
            "version": 1,
            "framing": framing,
            "max_in_flight": threads,
            "capabilities": ["cancel", "progress"],
            "name": "shouter",
        }
        for number in (1, 2, 3):
            code, stdout, stderr = child.answer_to(number, f"ä{number}")
            assert (code, stdout if isinstance(stdout, str) else stdout.decode(), stderr) == (0, f"Ä{number}", "")
        assert child.end() == (0, b"", "")


def test_a_task_has_all_that_was_sent() -> None:
    """Arguments, environment, labels, metadata and the time allowed; what is not sent is empty."""
    code = "serve(lambda t: repr((t.id, t.args, t.env, t.labels, t.metadata, t.timeout_s, t.stdin, t.stdin_bytes)))"
    with Session.with_script(code) as child:
        fields = {"args": ["-v"], "env": {"A": "1"}, "labels": {"b": "2"}, "metadata": {"c": [3]}, "timeout_s": 2.5}
        sent = (7, ["-v"], {"A": "1"}, {"b": "2"}, {"c": [3]}, 2.5, "hi", b"hi")
        assert child.answer_to(7, "hi", **fields)[1] == repr(sent)
        assert child.answer_to(8)[1] == repr((8, [], {}, {}, {}, None, "", b""))
        binary: tuple[object, ...] = (9, [], {}, {}, {}, None, "\ufffda", b"\xffa")
        assert child.answer_to(9, stdin_base64="/2E=")[1] == repr(binary)


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
def test_long_input_comes_whole(framing: str) -> None:
    """However many pieces the pipe makes of it."""
    with Session.with_script(f"serve(lambda task: str(len(task.stdin)), framing={framing!r})") as child:
        assert child.answer_to(1, "x" * 1_000_000)[1] in ("1000000", b"1000000")


def test_bytes_that_are_no_text_travel_as_base64() -> None:
    """Bytes that are text travel as text."""
    with Session.with_script("serve(lambda task: task.stdin_bytes[1:])") as child:
        assert child.answer_to(1, "hello")[1] == "ello"
        child.ask(2, stdin_base64="YP8=")
        assert child.hear() == {"id": 2, "exit_code": 0, "stdout_base64": "/w=="}


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        ("return Answer(3, 'out', 'err')", 3, "err"),
        ("raise ValueError('no such page')", 1, "ValueError: no such page"),
        ("sys.exit(4)", 4, ""),
        ("sys.exit('out of paper')", 1, "out of paper"),
        ("return 5", 1, "the handler returned int: return str, bytes, None or an Answer"),
        ("return Answer('5')", 1, "Answer.exit_code must be an int"),
        ("return '\\ud800'", 1, "the answer can't be sent"),
        ("return 'x' * 100_001", 1, "bytes, the parent allows 100,000"),
        ("return None", 0, ""),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_each_way_to_end_is_an_answer_and_the_child_lives_on(kind: str, body: str, code: int, stderr: str) -> None:
    """An exit code and a reason for everything; the next task is answered as ever."""
    script = f"import sys\n{kind} work(task):\n    if task.stdin: return task.stdin\n    {body}\nserve(work)"
    with Session.with_script(script) as child:
        answer = child.answer_to(1)
        assert answer[0] == code
        assert stderr in answer[2]
        assert child.answer_to(2, "on") == (0, "on", "")


def test_what_a_handler_prints_goes_to_stderr() -> None:
    """Also what programs print that it starts; and nobody but the helper reads the tasks."""
    script = """
import os, sys
def work(task):
    print("working")
    os.system("echo started; cat")
    return "done" + sys.stdin.read()
serve(work)
"""
    with Session.with_script(script) as child:
        assert child.answer_to(1)[1] == "done"
        assert child.end() == (0, b"", "working\nstarted\n")


def test_what_is_printed_is_seen_at_once() -> None:
    """Not when the child ends."""
    script = "def work(task): print('half way'); task.progress(); return sys.stdin.read()\nimport sys\nserve(work)"
    with Session.with_script(script) as child:
        child.ask(1)
        assert child.hear()["type"] == "progress"
        assert child.log_line() == "half way\n"


def test_a_slow_task_does_not_hold_back_the_answers_before_it() -> None:
    """Two tasks are there at once; the first is answered while the second, which waits for that, goes on."""
    script = """
import os, sys
def work(task):
    if task.stdin == "slow":
        open(task.args[0]).read()
    return task.stdin
serve(work, max_in_flight=2)
"""
    read_end, write_end = os.pipe()
    with Session.with_script(script) as child, os.fdopen(read_end), os.fdopen(write_end, "w") as hold:
        del hold
        fifo = f"/proc/{os.getpid()}/fd/{read_end}"
        frames = [
            {"type": "task", "id": 1, "stdin": "quick"},
            {"type": "task", "id": 2, "stdin": "slow", "args": [fifo]},
        ]
        child.say_together(frames)
        assert child.hear()["id"] == 1


def test_async_tasks_overlap_and_can_be_cancelled() -> None:
    """The second is answered before the first, which ends when it is cancelled."""
    script = """
import asyncio
async def work(task):
    await asyncio.sleep(float(task.stdin))
    return task.stdin
serve(work)
"""
    with Session.with_script(script) as child:
        assert child.ready["max_in_flight"] == 8
        child.ask(1, "1000")
        child.ask(2, "0")
        assert child.hear() == {"id": 2, "exit_code": 0, "stdout": "0"}
        child.say({"type": "cancel", "id": 1})
        assert child.hear() == {"id": 1, "exit_code": 1, "stderr": "cancelled"}
        child.say({"type": "cancel", "id": 1})
        assert child.answer_to(3, "0")[0] == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_function_can_look_whether_it_is_cancelled_and_say_that_it_goes_on(threads: int) -> None:
    """It reports progress at once, and sees the cancellation while it works; each task is answered once."""
    script = """
def work(task):
    if task.stdin == "wait":
        task.progress()
        while not task.cancelled:
            pass
    return "ended"
serve(work, threads=OPTIONS, max_in_flight=3)
""".replace("OPTIONS", str(threads))
    with Session.with_script(script) as child:
        child.ask(1, "wait")
        assert child.hear() == {"type": "progress", "id": 1}
        child.say({"type": "cancel", "id": 1})
        assert child.hear() == {"id": 1, "exit_code": 0, "stdout": "ended"}
        assert child.answer_to(2, "go")[1] == "ended"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_task_that_is_cancelled_before_it_begins_is_answered_without_beginning(threads: int) -> None:
    """It is told so at the same time as of the task."""
    with Session.with_script(upper(threads=threads, max_in_flight=2)) as child:
        child.say_together([{"type": "task", "id": 1}, {"type": "task", "id": 2}, {"type": "cancel", "id": 2}])
        answers = sorted((child.hear() for _ in range(2)), key=lambda answer: answer["id"])
        assert answers == [{"id": 1, "exit_code": 0}, {"id": 2, "exit_code": 1, "stderr": "cancelled"}]


def test_the_end_of_stdin_lets_async_tasks_finish() -> None:
    """Their answers come before the end."""
    script = "import asyncio\nasync def work(task): await asyncio.sleep(0.2); return 'finished'\nserve(work)"
    with Session.with_script(script) as child:
        child.ask(1)
        assert child.end() == (0, b'{"id":1,"exit_code":0,"stdout":"finished"}\n', "")


def test_a_child_that_nobody_hears_ends() -> None:
    """With 0 and without a word, though its stdin stays open."""
    with Session.with_script(upper()) as child:
        child.close_ears()
        child.ask(1)
        assert child.wait() == 0
        assert child.log_line() == ""


@pytest.mark.parametrize("options", ["", ", threads=2"])
def test_sigterm_lets_it_finish_what_it_has(options: str) -> None:
    """The task that runs is answered, nothing more is read, and it ends with 0."""
    script = f"""
import os, signal
def work(task):
    task.progress()
    while not done: os.read(ours, 1)
    return "finished"
done, (ours, theirs) = [], os.pipe()
before = signal.signal
signal.signal = lambda n, f: before(n, lambda *a: (f(*a), done.append(1), os.write(theirs, b"x")))
serve(work{options})
"""
    with Session.with_script(script) as child:
        child.ask(1)
        assert child.hear()["type"] == "progress"
        child.terminate()
        assert child.hear() == {"id": 1, "exit_code": 0, "stdout": "finished"}
        assert child.end()[0] == 0


def test_sigterm_ends_a_child_that_waits() -> None:
    """Though it waits for a task, and its stdin stays open."""
    with Session.with_script(upper()) as child:
        child.terminate()
        assert child.wait() == 0


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        ({"versions": [2, 3]}, "supports only 1, the parent offers [2, 3]"),
        ({"framings": ["x"]}, "supports only 'json-lines', the parent offers"),
    ],
)
def test_a_parent_of_another_kind_is_refused(offer: dict[str, object], reason: str) -> None:
    """With what is spoken and what was offered; the exit code is 1."""
    with Session.with_script(upper(), **offer) as child:
        assert child.ready["type"] == "refused"
        assert reason in child.ready["reason"]
        assert child.end()[0] == 1


def script(tmp_path: Path, code: str = upper()) -> str:
    """A file that serves."""
    path = tmp_path / "shout.py"
    path.write_text("from drakkar_flow.worker import *\n" + code)
    return str(path)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_same_script_runs_as_a_program_of_its_own(tmp_path: Path, kind: str) -> None:
    """Arguments and stdin in, stdout, stderr and exit code out: the one-shot mode needs no other script."""
    code = f"{kind} work(task): return Answer(3, task.args[0] + task.stdin, 'why')\nserve(work)"
    done = subprocess.run(
        [sys.executable, script(tmp_path, code), "-v"],
        input="a\nb", text=True, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(SRC)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (3, "-va\nb", "why")


def test_on_a_terminal_it_says_how_it_is_used(tmp_path: Path) -> None:
    """It does not wait for somebody to type frames."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, script(tmp_path)],
        stdin=theirs, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(SRC)},
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "shout.py is a worker of drakkar-flow" in done.stderr
    assert "echo INPUT | shout.py ARGUMENTS" in done.stderr


def test_the_file_works_alone_and_on_old_pythons(tmp_path: Path) -> None:
    """Copied beside a script, without the package; with Python 3.8 where there is one."""
    shutil.copy(worker.__file__, tmp_path / "worker.py")
    (tmp_path / "shout.py").write_text("from worker import serve\n" + upper())
    pythons = [sys.executable, *map(str, (Path.home() / ".pyenv" / "versions").glob("3.8.*/bin/python3.8"))]
    for python in pythons:
        with Session(
            python, "-I", "-c", f"import sys; sys.path = [{str(tmp_path)!r}, *sys.path]; import shout"
        ) as child:
            assert child.answer_to(1, "a") == (0, "A", "")


def test_importing_the_helper_loads_nothing_heavy() -> None:
    """Only the standard library: what a child pays at its start."""
    code = "import sys, drakkar_flow.worker; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(SRC)!r}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert loaded - set(sys.stdlib_module_names) <= {"drakkar_flow", "__main__", "sitecustomize"}
    assert not loaded & {"asyncio", "concurrent", "email", "importlib.metadata", "pathlib"}


def test_many_tasks_are_answered_in_few_writes() -> None:
    """What is there is read, worked at and answered together."""
    tasks = [{"type": "task", "id": number, "stdin": str(number)} for number in range(1, 1001)]
    with Session.with_script(upper(max_in_flight=1000), max_in_flight=1000) as child:
        child.say_together(tasks)
        assert [child.hear()["stdout"] for _ in tasks] == [str(number) for number in range(1, 1001)]
        assert child.ready["max_in_flight"] == 1000
    assert HELLO["max_in_flight"] == 8
