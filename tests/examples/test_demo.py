"""The demo shows what it promises, and ends in order whether or not it is let finish."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from sqlite3 import connect

import pytest
from rich.console import Console

from examples.state_demo import verdict
from support.kafka_io import Kafka

ROOT = Path(__file__).parents[2]


def start(where: Path, records: int, *options: str) -> subprocess.Popen[str]:
    """Start the demo in a directory of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo", "--records", str(records), *options],
        cwd=where,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "COLUMNS": "200"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def rows(where: Path) -> int:
    """How many rows the table has."""
    database = connect(where / "demo-output" / "found.db")
    try:
        return int(database.execute("SELECT count(*) FROM found").fetchone()[0])
    finally:
        database.close()


def logs(where: Path) -> str:
    """The logs of the demo's workers."""
    return "".join(path.read_text() for path in sorted((where / "demo-output").glob("*.log")))


def test_the_demo_answers_every_search_and_says_so(tmp_path: Path) -> None:
    """All but the two broken searches are in SQLite and in the file; nothing is written to stderr."""
    with start(tmp_path, 200) as demo:
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert "committed  200 records" in out
    assert "198 rows in SQLite" in out
    assert "198 messages in Kafka topic found" in out
    assert "2 dead letters in Kafka topic searches-failed" in out
    assert "/no/such/file.py: No such file or directory" in out
    assert "Each of the 200 searches was answered in all three places or is a dead letter." in out
    assert rows(tmp_path) == 198
    assert len((tmp_path / "demo-output" / "found.jsonl").read_text().splitlines()) == 198
    assert "drakkar_stopped" in (tmp_path / "demo-output" / "drakkar.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """What was taken is finished and committed, the rest is left, and the exit code is 0."""
    with start(tmp_path, 5000) as demo:
        assert demo.stdout is not None
        while not re.search(r" [1-9][\d,]* of [\d,]+  searching", demo.stdout.readline()):
            assert demo.poll() is None
        demo.send_signal(number)
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert "Stopped in order: the records in flight are finished and committed" in out
    assert 0 < rows(tmp_path) < 5000


@pytest.mark.timeout(600)
def test_the_state_demo_kills_a_worker_and_a_cluster_and_the_counts_are_exact(tmp_path: Path) -> None:
    """Twice a worker, then one and all of three processes; each user's count is right in the results and the store."""
    with start(tmp_path, 600, "--state") as demo:
        out, err = demo.communicate(timeout=500)
    assert (demo.returncode, err) == (0, ""), out + logs(tmp_path)
    kills = [line.split("kill -9 ")[1].partition(":")[0].split() for line in out.splitlines() if "kill -9 " in line]
    assert [len(killed) for killed in kills] == [1, 1, 1, 3]
    assert "600 of 600 visits counted" in out
    assert len(re.findall(r" visits: +\d+ counted, \d+ in the store  exact", out)) == 6
    assert "Every visit was counted once" in out


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_state_demo_moves_the_state_of_a_group(tmp_path: Path, kafka: Kafka) -> None:
    """With real brokers: a killed worker, one that joins and one that is stopped move partitions, and counts stay."""
    with start(tmp_path, 600, "--state", "--brokers", kafka.bootstrap) as demo:
        out, err = demo.communicate(timeout=500)
    assert (demo.returncode, err) == (0, ""), out + logs(tmp_path)
    assert "a consumer group, with its state in Kafka" in out
    assert out.count("600 of 600 visits counted") == 2
    assert out.count("  exact\n") == 12


def test_a_wrong_count_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a store, though the results are right; and of the results."""
    console = Console(soft_wrap=True)
    right, wrong = Counter({"anna": 2}), Counter({"anna": 3})
    assert verdict(console, written=right, counted=right, stored=right)
    assert verdict(console, written=right, counted=right, stored=None)
    assert "exact" in capsys.readouterr().out
    assert not verdict(console, written=right, counted=right, stored=wrong)
    assert not verdict(console, written=right, counted=wrong, stored=right)
    assert "WRONG" in capsys.readouterr().out


_MASKS = """
import signal
from pathlib import Path
from examples.playground import embedded_broker
tasks = Path("/proc/self/task")
before = {task.name for task in tasks.iterdir()}
with embedded_broker():
    for task in tasks.iterdir():
        if task.name not in before:
            try:
                status = (task / "status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that has ended meanwhile
            line = next(line for line in status.splitlines() if line.startswith("SigBlk"))
            print(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
"""


def test_no_signal_reaches_the_embedded_broker() -> None:
    """Its threads block all signals: one that Ctrl-C interrupts in poll would end, and the broker with it.

    In a process of its own, where nobody else starts threads meanwhile.
    """
    run = subprocess.run(
        [sys.executable, "-c", _MASKS], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    blocked = run.stdout.split()
    assert len(blocked) > 1
    assert set(blocked) == {"1"}
