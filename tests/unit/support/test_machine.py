"""Tests side by side share the machine, and one that needs it alone has it alone."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from support import machine
from support.machine import share_machine
from support.until import until


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks that are not those of the tests that run now."""
    monkeypatch.setattr(machine, "LOCKS", tmp_path)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    return tmp_path


def is_free(lock: Path) -> bool:
    """Whether nobody holds a lock."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_tests_share_the_machine(locks: Path) -> None:
    """Neither waits for the other, and nothing stays locked."""
    with share_machine(alone=False), share_machine(alone=False):
        assert is_free(locks / "gate.lock")
        assert not is_free(locks / "room.lock")
    assert is_free(locks / "room.lock")


def test_one_that_must_be_alone_waits_and_lets_no_other_begin(locks: Path) -> None:
    """It begins when the one before it has ended, and ends before the one after it begins."""
    told: list[str] = []

    def run(*, alone: bool) -> None:
        with share_machine(alone=alone):
            told.append("alone" if alone else "shared")

    threads = [threading.Thread(target=run, kwargs={"alone": alone}) for alone in (True, False)]
    with share_machine(alone=False):
        threads[0].start()
        until(lambda: not is_free(locks / "gate.lock"), what="the one that must be alone to wait")
        threads[1].start()
        assert told == []
    for thread in threads:
        thread.join(20)
    assert told == ["alone", "shared"]


def test_tests_that_run_one_by_one_need_no_lock(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pytest-xdist nothing is written."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    with share_machine(alone=True):
        assert list(locks.iterdir()) == []
