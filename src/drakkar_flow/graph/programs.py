"""Executors of a flow: programs, modes, and the kernel's limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, Literal

from drakkar_flow.graph.arguments import (
    Wrong,
    choice,
    instance,
    mapping,
    number,
    refuse,
    text,
    texts,
    whole,
)
from drakkar_flow.kinds.executor import ExecutorSpec
from drakkar_flow.kinds.registry import EXECUTORS

__all__ = ["CustomExecutor", "Limits", "Persistent", "Program", "Subprocess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Kernel limits of each program; None takes the configuration's `executor.limits` value.

    The keys are those of `executor.limits`: seconds of processor time, MiB, numbers, `nice` from -20 to 19 and an
    octal `umask` as text.

    >>> Subprocess("convert", limits=Limits(cpu_s=30, memory_mib=512, nice=10)).limits.open_files is None
    True
    """

    cpu_s: int | None = None
    memory_mib: int | None = None
    open_files: int | None = None
    processes: int | None = None
    file_size_mib: int | None = None
    core_mib: int | None = None
    nice: int | None = None
    umask: str | None = None

    def __post_init__(self) -> None:
        bounds = {
            "cpu_s": (1, None),
            "memory_mib": (1, None),
            "open_files": (4, None),
            "processes": (1, None),
            "file_size_mib": (0, None),
            "core_mib": (0, None),
            "nice": (-20, 19),
        }
        octal = isinstance(self.umask, str | None) and re.fullmatch("[0-7]{3,4}", self.umask or "000")
        refuse(
            "Limits",
            *(whole(name, getattr(self, name), least, most) for name, (least, most) in bounds.items()),
            () if octal else (f"umask is {self.umask!r}; write an octal number of 3 or 4 digits as text: '027'",),
        )


@dataclass(frozen=True, slots=True)
class Subprocess:
    """Runs each task as a process of an executor of the configuration; None takes the configured value.

    Without a `name` it is the default executor, the configuration's `executor`; with one it is
    `executors.<name>`, which need not be configured, and runs the tasks with `executor="<name>"`.
    `ok_exit_codes` are the exit codes that count as success.

    >>> grep, sha = Subprocess("grep", ok_exit_codes=[0, 1]), Subprocess("sha256sum", max_executors=2, name="sha")
    >>> grep.max_executors, sha.max_executors
    (None, 2)
    """

    binary: str | PathLike[str] | None = None
    max_executors: int | None = None
    timeout_s: float | None = None
    limits: Limits = Limits()
    ok_exit_codes: Sequence[int | str] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        refuse("Subprocess", whole("max_executors", self.max_executors, 1), *_common(self))
        object.__setattr__(self, "binary", _plain(self.binary))


@dataclass(frozen=True, slots=True)
class Persistent:
    """Runs tasks in long-lived children; None takes the configuration's `executor.persistent` value.

    `settings` are other keys of that section, e.g. `{"recycle_after_requests": 10_000}`. `name` and `ok_exit_codes`
    are those of `Subprocess`.

    >>> Persistent("jq", ["-c", "--unbuffered", ".x"], protocol="lines").children is None
    True
    """

    binary: str | PathLike[str] | None = None
    args: Sequence[str | PathLike[str]] | None = None
    protocol: Literal["worker", "lines"] | None = None
    answer: Literal["line", "marker"] | None = None
    children: int | None = None
    max_in_flight_per_child: int | None = None
    timeout_s: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    ok_exit_codes: Sequence[int | str] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        refuse(
            "Persistent",
            texts("args", self.args),
            choice("protocol", self.protocol, ("worker", "lines")),
            choice("answer", self.answer, ("line", "marker")),
            whole("children", self.children, 1),
            whole("max_in_flight_per_child", self.max_in_flight_per_child, 1),
            mapping("settings", self.settings),
            *_common(self),
        )
        object.__setattr__(self, "binary", _plain(self.binary))
        if self.args is not None:
            object.__setattr__(self, "args", [fspath(arg) for arg in self.args])


@dataclass(frozen=True, slots=True)
class CustomExecutor:
    """Runs tasks by the executor of a plug-in; None takes the configured value.

    `kind` is the plug-in's spec, which thereby becomes known to the configuration, or the name of a kind that an
    installed package brings. `settings` are keys of its section. `name` and `ok_exit_codes` are those of `Subprocess`.

    >>> CustomExecutor("callable", {"target": "math:sqrt"}, max_executors=2).kind_name
    'callable'
    """

    kind: ExecutorSpec | str
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_executors: int | None = None
    timeout_s: float | None = None
    ok_exit_codes: Sequence[int | str] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        refuse(
            "CustomExecutor",
            instance("kind", self.kind, ExecutorSpec | str, "the ExecutorSpec of the kind, or its name"),
            mapping("settings", self.settings),
            whole("max_executors", self.max_executors, 1),
            *_of_all(self),
        )
        if isinstance(self.kind, ExecutorSpec):
            EXECUTORS.add(self.kind)

    @property
    def kind_name(self) -> str:
        """The kind's name."""
        return self.kind if isinstance(self.kind, str) else self.kind.kind


Program = Subprocess | Persistent | CustomExecutor


def _common(program: Subprocess | Persistent) -> Iterator[Wrong]:
    """Checks of the common arguments of both kinds of programs."""
    if not isinstance(program.binary, PathLike):
        yield text("binary", program.binary, optional=True)
    yield instance("limits", program.limits, Limits, "limits=Limits(...)")
    yield from _of_all(program)


def _of_all(program: Program) -> Iterator[Wrong]:
    """The checks of the arguments that all executors take."""
    yield number("timeout_s", program.timeout_s)
    if not isinstance(program.name, str) or re.fullmatch(r"[A-Za-z0-9_-]*", program.name) is None:
        yield iter([f"name is {program.name!r}; write a text of characters a-z, A-Z, 0-9, '-' and '_'"])
    elif program.name == "default":
        yield iter(["name is 'default'; leave it out, for that is the executor without a name"])
    codes = program.ok_exit_codes
    if codes is not None and (isinstance(codes, str) or not isinstance(codes, Sequence) or not codes):
        yield iter([f"ok_exit_codes is {codes!r}; write a list of exit codes: [0, 1]"])
    else:
        yield from (whole("ok_exit_codes", code, 0, 255) for code in codes or () if not isinstance(code, str))


def _plain(binary: str | PathLike[str] | None) -> str | None:
    return None if binary is None else fspath(binary)
