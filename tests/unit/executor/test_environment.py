"""What programs see of this process's environment, and where they are found."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from drakkar_flow.config.executor import ExecutorConfig
from drakkar_flow.executor.environment import (
    base_environment,
    find_program,
    forget_programs,
    inheritable,
    startup_problems,
)


def test_secrets_are_not_inherited_by_default() -> None:
    """The default globs keep the usual names of secrets back, in any case."""
    names = ("PATH", "HOME", "DK_X", "drakkar_y", "DB_PASSWORD", "Api_Token", "MY_KEY", "KEYS", "PG_DSN")
    parent = dict.fromkeys(names, "x")
    assert set(base_environment(ExecutorConfig(), parent)) == {"PATH", "HOME", "KEYS"}


def test_configured_variables_win_and_may_be_secret() -> None:
    """`executor.env` lies over what is inherited and is not filtered."""
    config = ExecutorConfig(env={"A": "2", "API_TOKEN": "given"})
    assert base_environment(config, {"A": "1", "B": "1"}) == {"A": "2", "B": "1", "API_TOKEN": "given"}


def test_nothing_is_inherited_when_told_so() -> None:
    """With env_inherit_parent off only configured variables are left."""
    assert base_environment(ExecutorConfig(env_inherit_parent=False, env={"A": "1"}), {"B": "1"}) == {"A": "1"}


def test_globs_ignore_case() -> None:
    """A glob in lower case denies a name in upper case."""
    assert inheritable({"ABC_X": "1", "B": "2"}, ["abc_?"]) == {"B": "2"}


def test_bare_names_are_found_on_the_given_path(tmp_path: Path) -> None:
    """The child's PATH decides, not ours; a program that goes away is noticed once told so."""
    program = tmp_path / "drakkar-test-tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_program(program.name, str(tmp_path)) == str(program)
    program.unlink()
    forget_programs()
    with pytest.raises(FileNotFoundError, match="drakkar-test-tool"):
        find_program(program.name, str(tmp_path))


def test_a_name_with_a_slash_is_taken_as_it_is() -> None:
    """Paths are not searched for."""
    assert find_program("./nope", "/bin") == "./nope"


def test_without_a_path_the_default_one_is_searched() -> None:
    """A program is found even when its environment has no PATH."""
    assert find_program("sh", None).endswith("/sh")


def test_an_ignored_sigchld_is_told_at_the_start() -> None:
    """The kernel would reap programs unseen: every task would fail, whatever it did."""
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert ["SIGCHLD" in problem.what for problem in startup_problems(ExecutorConfig(), {})] == [True]
    finally:
        signal.signal(signal.SIGCHLD, old)
    assert startup_problems(ExecutorConfig(), {}) == []
