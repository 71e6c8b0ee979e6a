"""What a program finds when it starts, by each of the two ways to start it."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.executor import spawn
from drakkar_flow.executor.spawn import Environment, Spawner


class RefusingLibrary:
    """A C library whose posix_spawn is refused, as vfork is to PID 1 on some kernels."""

    def posix_spawn(self, *args: Any) -> int:
        """Refuse."""
        return errno.EINVAL


@pytest.fixture(params=["posix_spawn", "subprocess"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way programs are started."""
    if request.param == "subprocess":
        monkeypatch.setattr(spawn, "_blocking", RefusingLibrary())
    return str(request.param)


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor of /dev/null."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def run(null: int, script: str, *, cwd: str | None = None, env: dict[str, str] | None = None) -> list[str]:
    """Run a shell script to its end and return the lines it wrote."""
    read_end, write_end = os.pipe()
    pid = Spawner(cwd).spawn("/bin/sh", ["-c", script], Environment(env or {}), (null, write_end, null))
    os.close(write_end)
    with os.fdopen(read_end) as output:
        lines = output.read().splitlines()
    assert os.waitpid(pid, 0)[1] == 0
    return [str(pid), *lines]


def test_a_program_leads_its_own_group(way: str, null: int) -> None:
    """The process group is the program's own, so that it can be killed with all it started."""
    pid, group = run(null, "ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat")
    assert group.strip() == pid


_OWN = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # Python itself ignores these, and gives them back
_ORDINARY = (1 << 31) - 1  # above are the C library's own and the real-time signals, which only posix_spawn resets


def test_no_signal_is_ignored_or_blocked(way: str, null: int) -> None:
    """Ignored signals and the signal mask of this process do not reach the program.

    What whoever started the tests ignores (a shell, for its background jobs) only posix_spawn resets.
    """
    inherited = int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if "SigIgn" in line)[8:], 16
    )
    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        _, *lines = run(null, "exec grep -E 'SigBlk|SigIgn' /proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGPIPE, old)
    looked_at = _ORDINARY & ~(inherited & ~_OWN) if way == "subprocess" else -1
    assert [int(line.split()[1], 16) & looked_at for line in lines] == [0, 0]


def test_every_ignored_signal_is_reset_by_posix_spawn(null: int) -> None:
    """Not only SIGPIPE: SIGHUP too, which nohup ignores."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _, line = run(null, "exec grep SigIgn /proc/self/status")
    finally:
        signal.signal(signal.SIGHUP, old)
    assert int(line.split()[1], 16) == 0


def test_no_other_descriptor_reaches_the_program(way: str, null: int) -> None:
    """Even inheritable descriptors, as C libraries may have them, are closed."""
    with socket.socket() as ours:
        os.dup2(ours.fileno(), 77)
        try:
            assert run(null, "[ -e /proc/$$/fd/77 ] || echo closed")[1:] == ["closed"]
        finally:
            os.close(77)


def test_the_working_directory_is_the_given_one(way: str, null: int, tmp_path: Path) -> None:
    """A program starts where it was told to, and without a word where we are."""
    assert run(null, "pwd", cwd=str(tmp_path))[1] == str(tmp_path.resolve())
    assert run(null, "pwd")[1] == str(Path.cwd())


def test_a_library_without_chdir_still_starts_elsewhere(
    null: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where posix_spawn can't change the directory, the other way is taken."""
    monkeypatch.setattr(spawn, "_can_chdir", False)
    assert run(null, "pwd", cwd=str(tmp_path))[1] == str(tmp_path.resolve())


def test_the_environment_is_the_given_one(way: str, null: int) -> None:
    """Nothing is added, values may hold anything but NUL."""
    _, *lines = run(null, "/usr/bin/env | grep -v -E '^(PWD|_|SHLVL|OLDPWD)='", env={"A": "ä = b", "B": ""})
    assert sorted(lines) == ["A=ä = b", "B="]


@pytest.mark.parametrize(
    ("path", "args", "code"),
    [
        ("/nope", [], errno.ENOENT),
        ("/etc/passwd", [], errno.EACCES),
        ("/", [], errno.EACCES),
        ("/bin/echo", ["x" * 4_000_000], errno.E2BIG),
    ],
)
def test_what_cannot_be_started_says_why(null: int, path: str, args: list[str], code: int) -> None:
    """The cause that exec gave is raised, and no process is left."""
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        Spawner().spawn(path, args, Environment({}), (null, null, null))
    assert caught.value.errno == code


def test_a_directory_that_is_gone_is_named_instead_of_the_program(null: int, tmp_path: Path) -> None:
    """The kernel says the same of both, and whoever reads it would look for the program."""
    with pytest.raises(FileNotFoundError) as caught:
        Spawner(str(tmp_path / "gone")).spawn("/bin/echo", [], Environment({}), (null, null, null))
    assert caught.value.filename == str(tmp_path / "gone")


def test_nul_characters_are_refused(null: int) -> None:
    """An argument is never cut at a NUL in silence, nor is a variable."""
    with pytest.raises(ValueError, match="NUL"):
        Spawner().spawn("/bin/echo", ["a\0b"], Environment({}), (null, null, null))
    with pytest.raises(ValueError, match="NUL"):
        Environment({"A": "a\0b"})
    with pytest.raises(ValueError, match="name"):
        Environment({"A=B": "c"})


def test_laying_nothing_over_an_environment_costs_nothing() -> None:
    """The same object is used again, as most tasks have no variables of their own."""
    base = Environment({"A": "1"})
    assert base.over({}) is base
    assert base.over({"A": "2", "B": "3"}).variables == {"A": "2", "B": "3"}
    assert base.variables == {"A": "1"}


def test_our_structures_are_large_enough() -> None:
    """The opaque structures of the C library fit into what we reserve for them."""
    for kind, init in (
        (spawn._ActionsBuffer, "posix_spawn_file_actions_init"),
        (spawn._Attributes, "posix_spawnattr_init"),
    ):
        size = ctypes.sizeof(kind)
        buffer = ctypes.create_string_buffer(b"\xaa" * 2 * size, 2 * size)
        getattr(spawn._quick, init)(buffer)
        assert buffer.raw[size:] == b"\xaa" * size
