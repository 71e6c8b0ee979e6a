"""Which processes a reaper ends, and that no other is ever hit."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from subprocess import PIPE

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.executor import reaper
from drakkar_flow.executor.reaper import end_marked, is_marked
from support.until import until

TEXT = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1)
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def mark() -> str:
    """A mark that nothing else on this machine has."""
    return f"DRAKKAR_RUN={uuid.uuid4().hex}"


@pytest.fixture
def program(mark: str) -> Iterator[Start]:
    """Start a `cat`, with a mark or without, in a group of its own or another's; it is ended later."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*, marked: bool = True, group: int | None = 0) -> subprocess.Popen[bytes]:
        environment = dict([mark.split("=")]) if marked else {}
        cat = ["/bin/cat"]
        started.append(subprocess.Popen(cat, 0, None, PIPE, PIPE, env=environment, process_group=group))
        until(lambda: reaper.environment_of(started[-1].pid) or not marked)  # it has none for a moment
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lives(process: subprocess.Popen[bytes]) -> bool:
    """Whether it still answers, which it does not once a SIGKILL was sent, however late it takes effect."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(b"x")
    return process.stdout.read(1) == b"x"


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it was killed."""
    return until(lambda: process.poll() is not None) and process.returncode == -9


def as_in_proc(environment: Mapping[str, str]) -> bytes:
    """An environment as /proc shows it."""
    return b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())


@given(st.dictionaries(TEXT, TEXT), TEXT, TEXT)
def test_a_process_is_marked_by_a_whole_variable(environment: dict[str, str], name: str, value: str) -> None:
    """By name and value: neither a part of one, nor the mark inside another's value, nor another run's."""
    others = {key: kept for key, kept in environment.items() if key != name}
    own = os.fsencode(f"{name}={value}")
    assert is_marked(as_in_proc({**others, name: value}), own)
    strangers = {**others, name: value + "0", "x" + name: value, "other": f"{name}={value}"}
    assert not is_marked(as_in_proc(strangers), own)
    assert not is_marked(as_in_proc(others), own)
    assert not is_marked(b"", own)


def test_what_is_marked_ends_wherever_it_went(program: Start, mark: str) -> None:
    """Leaders, members of groups and those that lead nothing; whoever has another mark or none lives on."""
    mine, stranger = [program(), program(group=None)], program(marked=False)
    assert end_marked(mark.encode()) == 2
    assert all(map(ended, mine))
    assert lives(stranger)
    assert end_marked(mark.encode()) == 0


def test_the_group_of_a_marked_leader_ends_with_it(program: Start, mark: str) -> None:
    """Also those of it that threw their environment away; a group whose leader is not marked is left alone."""
    leader, other = program(), program(marked=False)
    member, stranger = program(marked=False, group=leader.pid), program(marked=False, group=other.pid)
    guest = program(group=other.pid)
    assert end_marked(mark.encode()) == 2
    assert all(map(ended, [leader, member, guest]))
    assert lives(other)
    assert lives(stranger)


def test_a_process_that_is_not_marked_any_more_is_left_alone(
    program: Start, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is what is seen once it was opened: before that, its number may have been another's."""
    process = program(marked=False)
    looks = iter([mark.encode()])
    monkeypatch.setattr(reaper, "pids", lambda: [process.pid])
    monkeypatch.setattr(reaper, "environment_of", lambda pid: next(looks, b""))
    assert end_marked(mark.encode()) == 0
    assert lives(process)


def test_a_number_that_changed_hands_is_not_hit(program: Start, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal goes to what was opened, which is gone, not to whoever has its number now."""
    gone, present = program(), program()
    opened = os.pidfd_open(gone.pid)
    gone.kill()
    gone.wait()
    monkeypatch.setattr(os, "pidfd_open", lambda pid: os.dup(opened))
    monkeypatch.setattr(reaper, "pids", lambda: [present.pid])
    end_marked(mark.encode())
    os.close(opened)
    monkeypatch.undo()
    assert lives(present)
    assert not psutil.pid_exists(gone.pid)


def test_a_group_whose_leader_is_gone_is_not_hit(program: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be the number of another's group."""
    leader, gone = program(marked=False), program()
    member = program(marked=False, group=leader.pid)
    opened = os.pidfd_open(gone.pid)
    gone.kill()
    gone.wait()
    reaper.end_member(member.pid, leader.pid, opened)
    os.close(opened)
    assert lives(member)


def test_a_warden_that_comes_too_late_does_not_wait(program: Start, mark: str) -> None:
    """When it looks its worker is gone, and somebody else may have its number."""
    orphan, stranger = program(), program(marked=False)
    command = [sys.executable, "-I", "-S", reaper.__file__, str(stranger.pid), mark]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert ended(orphan)
    assert lives(stranger)
