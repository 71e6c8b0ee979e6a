"""`drakkar-flow recovery` and `state`: what a store holds, whether it is sound, and how to be rid of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakkar_flow.cli.main import main
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.runtime.recovery.store import open_store
from support.stores import identity, run_dataflow, start_dataflow

FLOW = """\
from drakkar_flow import *

flow = dataflow(StreamFlow("job", source=KafkaSource("in")).route(KafkaSink("out")))
"""
SETTINGS = "kafka: {consumer_group: workers}\nsinks: {kafka: {out: {topic: out}}}\nruntime: {recovery: {}}\n"


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that a dataflow has used; copy it."""
    directory = tmp_path_factory.mktemp("store") / "job"
    with open_store(directory, identity(), RecoveryStoreConfig()):
        pass
    run_dataflow(directory, ["in:0:5,in:1:7", "in:0:9"])
    return directory


@pytest.fixture(autouse=True)
def store(used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A flow with a store in its default place, in an empty working directory."""
    for name in ("DRAKKAR_CONFIG", "DK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("job.py").write_text(FLOW)
    Path("job.yaml").write_text(SETTINGS)
    shutil.copytree(used, "recovery/job")
    yield Path("recovery/job")
    sys.modules.pop("job", None)


def run(*arguments: str) -> int:
    """Run the command; gives its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


@pytest.mark.parametrize("place", ["job.py", "recovery/job"])
def test_inspect_shows_positions_of_a_flow_or_of_a_directory(capsys: pytest.CaptureFixture[str], place: str) -> None:
    """A copy of a store needs no flow."""
    assert run("recovery", "inspect", place) == 0
    out = capsys.readouterr().out
    assert "flow     job, group workers, cluster cluster-1" in out
    assert "state    count (int)" in out
    assert out.splitlines()[-2].split() == ["in", "0", "slot-14", "9", "2", "2", "2"]


def test_inspect_json_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """Identity, epoch, and each partition."""
    assert run("recovery", "inspect", "job.py", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["identity"]["topics"] == {"in": {"id": "topic-1", "since_epoch": 0}}
    assert (report["files"], report["executions"]) == (4, 1)
    assert [(each["partition"], each["offset"], each["finished"]) for each in report["partitions"]] == [
        (0, 9, [[14, 16]]),
        (1, 7, [[12, 14]]),
    ]


def test_inspect_works_while_a_dataflow_runs(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And does not disturb it."""
    process = start_dataflow(store, ["in:0:50"])
    try:
        assert run("recovery", "inspect", "recovery/job") == 0
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    assert "slot-14" in capsys.readouterr().out


def test_export_prints_positions_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object per line; values that are no values of state are base64."""
    assert run("recovery", "export", "job.py") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["type"] for line in lines] == ["position", "state", "state"] * 2
    assert lines[2]["key"] == "ben"
    assert lines[2]["value"] == {"base64": "/w=="}


def test_state_is_read_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    """From every partition; a key without state ends with 1."""
    assert run("state", "get", "job.py", "anna") == 0
    assert [json.loads(line)["partition"] for line in capsys.readouterr().out.splitlines()] == [0, 1]
    assert run("state", "get", "job.py", "nobody") == 1
    assert run("state", "get", "job.py", "anna", "--step", "other") == 1
    capsys.readouterr()
    assert run("state", "list", "recovery/job", "--prefix", "a") == 0
    assert capsys.readouterr().out.splitlines() == ["in-0  count  anna", "in-1  count  anna"]
    assert run("state", "list", "recovery/job", "--limit", "1") == 0
    assert capsys.readouterr().err == "3 more keys; --limit 0 lists all\n"
    assert run("state", "export", "job.py", "--step", "count") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_check_of_a_sound_store_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    """The directory as given."""
    assert run("recovery", "check", "recovery/job") == 0
    assert run("recovery", "check", "job.py", "--offline") == 0
    assert capsys.readouterr().out == "recovery/job: ok\n" * 2


def test_check_reports_every_fault_and_ends_with_1(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All files, and the identity."""
    (store / "part-0.sqlite3").write_bytes(b"no database at all" * 100)
    (store / "part-1.sqlite3").write_bytes(b"")
    (store / "identity.json").write_text("{")
    assert run("recovery", "check", "recovery/job") == 1
    err = capsys.readouterr().err
    assert "part-0.sqlite3: can't be read: file is not a database" in err
    assert "part-1.sqlite3: is no partition file of Bytewax" in err
    assert "identity.json: damaged" in err
    assert "recovery/job: 3 problems" in err


def test_a_wrong_flow_ends_check_with_2() -> None:
    """Nothing is known about the store then."""
    assert run("recovery", "check", "missing.py") == 2


@pytest.mark.parametrize("command", [["inspect"], ["export"], ["check", "--offline"]])
def test_a_store_that_does_not_exist_is_reported(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """And is not made."""
    shutil.rmtree("recovery")
    assert run("recovery", *command, "job.py") != 0
    assert "there is no recovery store" in capsys.readouterr().err
    assert not Path("recovery").exists()


def test_reset_moves_the_store_aside(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice: nothing is overwritten."""
    assert run("recovery", "reset", "job.py", "--yes") == 0
    assert capsys.readouterr().out == "recovery/job is now recovery/job.old-1; move it back to undo this\n"
    assert not store.exists()
    assert (store.parent / "job.old-1" / "identity.json").exists()
    assert run("recovery", "reset", "job.py", "--yes") == 1
    store.mkdir()
    assert run("recovery", "reset", "job.py", "--yes") == 0
    assert (store.parent / "job.old-2").exists()


def test_reset_asks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is no."""
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert run("recovery", "reset", "job.py") == 1
    assert store.exists()


def test_reset_of_a_store_in_use_is_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the process."""
    with open_store(store, identity(), RecoveryStoreConfig()):
        assert run("recovery", "reset", "job.py", "--yes") == 1
    assert "is used by process" in capsys.readouterr().err
    assert store.exists()


def test_init_needs_a_flow(capsys: pytest.CaptureFixture[str]) -> None:
    """A directory does not say whose it is."""
    assert run("recovery", "init", "recovery/job") == 2
    assert "init needs a flow, not a directory" in capsys.readouterr().err


def test_a_closed_pipe_ends_export_quietly(store: Path) -> None:
    """`| head -1`."""
    script = f"{sys.executable} -m drakkar_flow recovery export {store} | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["type"] == "position"
    assert done.stderr == ""
