"""The integration scenario: its books balance after failures, and tell when they do not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from examples.integration.audit import Account
from examples.integration.workload import Workload

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "examples" / "integration" / "compose.yaml"

results = st.dictionaries(st.integers(0, 50), st.integers(0, 9), min_size=1)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_books_balance_after_a_kill_a_restart_and_an_outage(tmp_path: Path) -> None:
    """A small run of the scenario; its servers are started by it, for it breaks them."""
    command = [sys.executable, "-m", "examples.integration", "--messages", "1000", "--output", str(tmp_path / "out")]
    command += ["--timeout-s", "400"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    logs = "\n".join(path.read_text()[-3000:] for path in tmp_path.glob("out/worker-*.log")) if run.returncode else ""
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}\n{logs}"
    for event in ("worker killed", "broker restarted", "database away", "The books balance"):
        assert event in run.stdout


@given(results)
def test_what_was_expected_balances_also_when_some_is_there_twice(expected: dict[int, int]) -> None:
    """Whatever is there twice counts as doubled."""
    account = Account.of("any", expected, [*expected.items(), *expected.items()])
    assert account.balanced
    assert account.doubled == len(expected)


@given(results, st.data())
def test_a_missing_a_foreign_or_a_changed_result_does_not_balance(
    expected: dict[int, int], data: st.DataObject
) -> None:
    """Each by itself."""
    chosen = data.draw(st.sampled_from(sorted(expected)))
    entries = list(expected.items())
    without = [entry for entry in entries if entry[0] != chosen]
    assert not Account.of("any", expected, without).balanced
    assert not Account.of("any", expected, [*entries, (99, 1)]).balanced
    assert not Account.of("any", expected, [*without, (chosen, expected[chosen] + 1)]).balanced


def test_the_same_seed_makes_the_same_messages(tmp_path: Path) -> None:
    """So that a run that failed can be looked at again."""
    workload = Workload.make(7, 1000, tmp_path)
    assert workload == Workload.make(7, 1000, tmp_path)
    assert workload != Workload.make(8, 1000, tmp_path)
    assert len(workload.flaky) == 50
    expected = workload.expected
    assert all(expected.matches.values())
    assert all(expected.dead.values())


def test_expected_matches_are_what_grep_counts(tmp_path: Path) -> None:
    """The books are made independently of the program under test, and agree with it."""
    for message in Workload.make(3, 1000, tmp_path).messages[:40]:
        if message.matches is not None and not message.flaky:
            search = yaml.safe_load(message.value)
            program = [str(ROOT / "examples/integration/search.sh"), "-", search["pattern"], search["path"]]
            run = subprocess.run(program, capture_output=True, check=False)
            assert run.returncode in (0, 1)
            assert int(run.stdout) == message.matches


def test_images_of_the_compose_file_are_pinned() -> None:
    """To a full version, so that a run next year uses the same servers."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert set(services) == {"kafka", "postgres", "mongo", "redis"}
    for service in services.values():
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?(-alpine)?", service["image"]), service["image"]
        assert "healthcheck" in service
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
