"""What a user gets who gives the command something wrong: one line that says what to do, and exit code 2."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakkar_flow.cli.main import main

HANDLER = (
    "from drakkar_flow import Handler\nclass {}(Handler):\n    async def arrange(self, m, p):\n        return []\n"
)
FLOW = "from drakkar_flow import StreamFlow\n{} = StreamFlow('a').route()\n"
FILES = {
    "raises.py": "x = 1\nraise ValueError('boom')\n",
    "unfinished.py": "def f(:\n",
    "misspelled.py": "from drakkar_flow import dataflow\nflow = dataflo(1)\n",
    "ends.py": "import sys\nsys.exit(3)\n",
    "imports.py": "import no_such_module_at_all\n",
    "nothing.py": "x = 1\n",
    "handler_only.py": HANDLER.format("Scan"),
    "two_flows.py": FLOW.format("first") + FLOW.format("second"),
    "number.py": "flow = 5\n",
    "settings.yaml": "kafka: {}\n",
    "script.sh": "exit\n",
    "none.test.yaml": "flow: nothing_here.py\ncases: [{name: a}]\n",
}
TOLD = [
    (["run", "gone.py"], "gone.py: file not found; give the path of a Python file with a flow"),
    (["run", "folder"], "folder: is a directory; give the path of a Python file with a flow"),
    (["run", "gone"], "gone: file or module not found; give the path of a Python file, or a module"),
    (["run", "gone.flows:flow"], "gone.flows: file or module not found; "),
    (["run", ""], ".: is a directory; "),
    (
        ["run", "settings.yaml"],
        "settings.yaml: is not a Python file; give the flow's Python file; a configuration file beside it",
    ),
    (["run", "script.sh"], "script.sh: is not a Python file; its name must end in .py"),
    (["graph", "raises.py"], "raises.py: can't be imported: ValueError: boom at raises.py:2; fix the file"),
    (["graph", "unfinished.py"], "can't be imported: SyntaxError: invalid syntax at unfinished.py:1; "),
    (["graph", "imports.py"], "No module named 'no_such_module_at_all' at imports.py:1; fix the file"),
    (["graph", "misspelled.py"], "name 'dataflo' is not defined at misspelled.py:2; did you mean 'dataflow'?"),
    (["graph", "ends.py"], "ends.py: its import ends the program (exit code 3); put the code that exits"),
    (
        ["graph", "nothing.py"],
        "nothing.py: 'flow' is not defined; end the file with flow = dataflow(...) of a StreamFlow",
    ),
    (["graph", "handler_only.py"], "handler_only.py: 'flow' is not defined; end the file with flow = dataflow(Scan())"),
    (["graph", "two_flows.py"], "'flow' is not defined; use two_flows.py:first or two_flows.py:second"),
    (["graph", "two_flows.py:third"], "'third' is not defined; use two_flows.py:first or "),
    (["graph", "number.py"], "int is not a flow; pass a StreamFlow, a handler instance, or dataflow(...) of one"),
    (["test", "gone.test.yaml"], "gone.test.yaml: file not found; write the path of a file of cases"),
    (["test", "folder"], "folder: there is no file NAME.test.yaml"),
    (["test", "none.test.yaml"], "nothing_here.py: file not found; "),
    (["config", "lint", "folder"], "folder: is a directory, not a file"),
    (["config", "lint", "gone.yaml"], "gone.yaml: file not found"),
    (["config", "schema", "--flow", "gone.py"], "gone.py: file not found; "),
    (["init", "script.sh"], "script.sh: can't be written: File exists; choose another directory"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of things that are not quite right, with nothing of it left in this process afterwards."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [*FILES, "one_flow.py"]:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize(("arguments", "told"), TOLD, ids=lambda given: " ".join(given) if given[0] else "empty")
def test_it_is_told_in_a_line(arguments: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a traceback, and nothing was started or written."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    title, *problems = capsys.readouterr().err.splitlines()
    assert title.endswith(":")
    (problem,) = problems
    assert told.format(here=here) in problem
    assert problem.startswith("  - ")


def test_results_that_can_not_be_written_are_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After those of the cases, which were run."""
    Path("one_flow.py").write_text(FLOW.format("flow"))
    Path("one.test.yaml").write_text("flow: one_flow.py\ncases: [{name: nothing comes of nothing}]\n")
    with pytest.raises(SystemExit) as caught:
        main(["test", "one.test.yaml", "--junit", "gone/results.xml"])
    out, err = capsys.readouterr()
    assert (caught.value.code, "ok    nothing comes of nothing" in out) == (2, True)
    assert "gone/results.xml: can't be written: No such file or directory; fix --junit" in err


def test_a_worker_that_can_not_be_started_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name; the exit code is that of a worker that does not work."""
    with pytest.raises(SystemExit) as caught:
        main(["worker", "check", "--", "no-such-program"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "wrong   no-such-program: can't be started: No such file or directory\n"


@pytest.mark.parametrize("command", ["run", "graph"])
def test_ctrl_c_while_the_flow_is_imported_ends_with_130(tmp_path: Path, command: str) -> None:
    """Without a traceback."""
    reader, writer = os.pipe()
    flow = tmp_path / "slow.py"
    flow.write_text(f"import os, time\nos.write({writer}, b'x')\ntime.sleep(60)\n")
    arguments = [sys.executable, "-m", "drakkar_flow.cli.main", command, str(flow)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, pass_fds=[writer], process_group=0)
    try:
        os.close(writer)
        assert os.read(reader, 1) == b"x"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        os.close(reader)
        process.kill()
    assert (process.returncode, "Traceback" in told) == (130, False)
