"""YAML cases beside a flow: their schema, and a reader that reports all errors with their places."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import msgspec
from pydantic import Field, ValidationError, field_validator, model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.loading.validation_errors import validation_problem
from drakkar_flow.config.loading.yaml_file import read_yaml
from drakkar_flow.config.schema import similar
from drakkar_flow.errors import ProblemsError
from drakkar_flow.model.task import ErrorKind
from drakkar_flow.observe.events.base import Event

__all__ = [
    "AnswerCase",
    "Case",
    "CaseFile",
    "Cases",
    "CasesError",
    "Expectation",
    "RuleCase",
    "SinkCase",
    "StepCase",
    "expectation",
    "read_cases",
]

S = TypeVar("S", bound=Section)

_BODIES = ("text", "json", "base64", "file", "tombstone", "advance_s", "crash")


class CasesError(ProblemsError):
    """Raised if a file of cases can't be read or does not fit its schema."""

    title = "invalid cases"


class StepCase(Section):
    """One message, its value given in exactly one way; or an event between two messages."""

    text: str | None = None
    """Value as text (UTF-8)."""
    json_value: Any = Field(default=None, alias="json")
    """Value as JSON."""
    base64: str | None = None
    """Value's bytes in base64."""
    file: str | None = None
    """File whose bytes are the value, relative to the cases."""
    tombstone: bool = False
    """True for a message without a value."""
    advance_s: float | None = Field(default=None, gt=0)
    """Seconds that pass on the flow's clock, instead of a message."""
    crash: bool = False
    """Crash instead of a message: all before it is finished, the process is killed before it commits that, and a new
    one starts."""
    key: str | None = None
    """Key."""
    partition: int | None = Field(default=None, ge=0)
    """Partition; messages without one are dealt in turn."""
    topic: str = ""
    """Topic; empty takes the flow's."""
    headers: dict[str, str] = {}
    """Headers."""
    timestamp: int = -1
    """Milliseconds since the epoch."""

    @model_validator(mode="before")
    @classmethod
    def _bare_text(cls, data: Any) -> Any:
        return {"text": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        names = {"json" if name == "json_value" else name for name in self.model_fields_set}
        given = [name for name in _BODIES if name in names]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"a step of the input has exactly one of {', '.join(_BODIES)}; this one has {found}")
        if self.base64 is not None:
            base64.b64decode(self.base64, validate=True)
        return self

    def value(self, directory: Path) -> bytes | None:
        """Bytes to send; None is a tombstone."""
        if self.tombstone:
            return None
        if self.file is not None:
            return (directory / self.file).read_bytes()
        if self.base64 is not None:
            return base64.b64decode(self.base64)
        return self.text.encode() if self.text is not None else msgspec.json.encode(self.json_value)


class AnswerCase(Section):
    """Behaviour of a program."""

    stdout: str = ""
    """Output on stdout."""
    stdout_base64: str | None = None
    """Output on stdout in base64, if it is not text."""
    stderr: str = ""
    """Output on stderr."""
    stderr_base64: str | None = None
    """Output on stderr in base64, if it is not text."""
    exit_code: int = 0
    """Exit code."""
    delay_s: float = Field(default=0.0, ge=0)
    """Run time in seconds, on the flow's clock."""
    kind: ErrorKind | None = None
    """Abnormal end: timeout, signal, launch_failure, internal."""

    @model_validator(mode="after")
    def _one_output(self) -> Self:
        for name in ("stdout", "stderr"):
            encoded = getattr(self, f"{name}_base64")
            if encoded is not None and getattr(self, name):
                raise ValueError(f"write {name} or {name}_base64, not both")
            if encoded is not None:
                base64.b64decode(encoded, validate=True)
        return self

    @property
    def output(self) -> tuple[str | bytes, str | bytes]:
        """Output on stdout and stderr."""
        out, err = self.stdout_base64, self.stderr_base64
        return (
            self.stdout if out is None else base64.b64decode(out),
            self.stderr if err is None else base64.b64decode(err),
        )


class RuleCase(AnswerCase):
    """Answers for the tasks that match; the first rule that matches counts."""

    task_id: str | None = None
    """Id of the task."""
    executor: str | None = None
    """Name of the executor that the task chooses; `default` if it chooses none."""
    binary: str | None = None
    """Program."""
    args: list[str] | None = None
    """Arguments; "*" stands for any one, "..." at the end for all that follow."""
    stdin: str | None = None
    """Input of the program on stdin."""
    attempts: list[AnswerCase] = []
    """One answer for each attempt of a task; the last one stays."""


class SinkCase(Section):
    """Expected writes of a sink."""

    data: list[Any] | None = None
    """Data of every payload, as JSON."""
    payloads: list[dict[str, Any]] | None = None
    """Fields of every payload (data, key, path, table, ...); other fields are not compared."""
    count: int | None = Field(default=None, ge=0)
    """Number of payloads."""
    ordered: bool = True
    """True if the order counts."""
    match: Literal["exact", "subset", "pattern"] = "exact"
    """Comparison of data. `subset` lets it have more keys than expected. `pattern` does too, and takes each text for a
    regular expression of the whole text, or of the JSON of other values: `".*"` is anything."""

    @model_validator(mode="after")
    def _are_patterns(self) -> Self:
        for text in _texts([self.data, self.payloads]) if self.match == "pattern" else ():
            try:
                re.compile(text)
            except re.error as exc:
                raise ValueError(f"{text!r} is not a regular expression: {exc}") from None
        return self

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, data: Any) -> Any:
        return {"data": data} if isinstance(data, list) else data


class Expectation(Section):
    """Expected results of the flow; results that are not named are not compared."""

    deliveries: dict[str, SinkCase] | None = None
    """Writes by the sink's id (kafka-results); a sink that is not named must have written nothing."""
    dead_letters: int | list[dict[str, str]] = 0
    """Number of dead letters, or for each (in any order) the kind, stage, label and a part of the error."""
    committed: dict[int, int] | None = None
    """Next offset to read, by partition of the flow's topic."""
    state: dict[str, dict[str | int, Any]] | None = None
    """Final values by the step's id (stateful-count) and the key, as JSON; a step that is not named keeps none."""
    events: dict[str, int] = {}
    """Number of times each of these events was emitted."""
    failure: str = ""
    """Part of the reason why the flow stopped; empty: it did not."""

    @field_validator("events")
    @classmethod
    def _are_events(cls, events: dict[str, int]) -> dict[str, int]:
        known = tuple(kind.__name__ for kind in Event.__subclasses__())
        for name in events.keys() - set(known):
            near = " or ".join(map(repr, similar(name, known)))
            raise ValueError(f"unknown event {name!r}" + (f"; did you mean {near}?" if near else ""))
        return events


class Case(Section):
    """One run of the flow over some messages."""

    name: str = Field(min_length=1)
    """Name: the behaviour that the case shows, as a sentence."""
    input: list[StepCase] = []
    """Messages, in order, and the events between them."""
    config: dict[str, Any] = {}
    """Settings laid over the configuration of the file."""
    partitions: int = Field(default=1, ge=1)
    """Number of partitions of the topic."""
    executor: list[RuleCase] = []
    """Answers of programs; a task that no rule matches fails the case."""
    sinks: dict[str, list[str | None]] = {}
    """Errors of writes by the sink's id, one after the other (null: it works); after the last it works."""
    real: bool = False
    """True if the real programs run, in real time."""
    timeout_s: float = Field(default=20.0, gt=0)
    """Limit of the case in real seconds."""
    expect: Expectation = Expectation()
    """Expected results."""

    @model_validator(mode="after")
    def _real_time_is_not_advanced(self) -> Self:
        if self.real and any(step.advance_s is not None for step in self.input):
            raise ValueError("advance_s moves the kit's clock; with `real: true` time passes by itself")
        return self


class CaseFile(Section):
    """A file of cases, `NAME.test.yaml`."""

    flow: str = Field(min_length=1)
    """Flow: a Python file relative to this one, or a module, and after a colon its name (`scan.py:flow`)."""
    config_file: str = ""
    """Configuration, relative to this file; empty takes the one beside the flow, if there is one."""
    config: dict[str, Any] = {}
    """Settings laid over the configuration."""
    cases: list[Case] = Field(min_length=1)
    """Cases; each runs a separate flow."""


@dataclass(frozen=True)
class Cases:
    """Contents of a file, with the places of its cases."""

    path: Path
    file: CaseFile
    layer: Layer

    def where(self, index: int) -> str:
        """Return the file and line of a case."""
        return self.layer.origin(("cases", index)).rpartition(":")[0]


def expectation(**expected: Any) -> Expectation:
    """Convert the expectation of a test in Python.

    Raises:
        CasesError: the expectation is invalid; lists every error.
    """
    return _validated(Expectation, Layer(expected, {(): "check"}))


def read_cases(path: Path) -> Cases:
    """Read a file of cases.

    Raises:
        CasesError: the file is invalid; lists every error with file, line and column.
    """
    layer = read_yaml(path, os.environ, "write the path of a file of cases, NAME.test.yaml")
    problems = list(layer.problems)
    if problems:
        raise CasesError(problems)
    return Cases(path, _validated(CaseFile, layer), layer)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _validated(kind: type[S], layer: Layer) -> S:
    try:
        return kind.model_validate(layer.tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise CasesError([validation_problem(each, layer, kind) for each in details]) from None
