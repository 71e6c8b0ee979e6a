"""Case runner: runs the cases of a file, each with a separate flow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drakkar_flow.config.loading.environ import PREFIXES
from drakkar_flow.config.loading.find import find_config
from drakkar_flow.config.loading.load import load
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.entrypoint import stream_of
from drakkar_flow.errors import DrakkarFlowError, SinkError
from drakkar_flow.testing.cases import AnswerCase, Case, Cases, RuleCase, StepCase
from drakkar_flow.testing.compare import differences
from drakkar_flow.testing.executor import Answer, ScriptedExecutor
from drakkar_flow.testing.harness import FlowHarness
from drakkar_flow.testing.outcome import Outcome
from drakkar_flow.testing.parts_of import sinks_of
from drakkar_flow.testing.sinks import MemorySink

__all__ = ["CaseResult", "FindFlow", "run_cases"]

FindFlow = Callable[[str], tuple[Any, Path | None]]
"""Returns a new flow for its name, and the file it comes from."""


@dataclass(frozen=True)
class CaseResult:
    """Result of a case: `problems` is empty if the case passed; `where` is its file and line."""

    file: str
    name: str
    where: str
    problems: list[str]
    duration_s: float


def run_cases(cases: Cases, find: FindFlow, wanted: str = "") -> Iterator[CaseResult]:
    """Run the cases whose name contains `wanted`; yields each result as soon as the case is over.

    Raises:
        DrakkarFlowError: the flow can't be found or the configuration is invalid.
    """
    for index, case in enumerate(cases.file.cases):
        if wanted.lower() not in case.name.lower():
            continue
        began = time.monotonic()
        flow, config = _prepare(cases, case, find)
        try:
            problems = differences(case.expect, _outcome(case, cases.path.parent, flow, config))
        except DrakkarFlowError:
            raise
        except (AssertionError, OSError) as exc:
            problems = str(exc).splitlines() or [repr(exc)]
        yield CaseResult(str(cases.path), case.name, cases.where(index), problems, time.monotonic() - began)


def _prepare(cases: Cases, case: Case, find: FindFlow) -> tuple[Any, DrakkarConfig]:
    directory = cases.path.parent
    place, colon, name = cases.file.flow.partition(":")
    is_file = place.endswith(".py")
    flow, file = find(f"{directory / place if is_file else place}{colon}{name}")
    named = directory / cases.file.config_file if cases.file.config_file else None
    variables = {key: value for key, value in os.environ.items() if not key.startswith(PREFIXES)}
    overrides = _merged(cases.file.config, case.config)
    return flow, load(find_config(named, variables, file), overrides=overrides, environ=variables).config


def _outcome(case: Case, directory: Path, flow: Any, config: DrakkarConfig) -> Outcome:
    executor = ScriptedExecutor(strict=True)
    for rule in case.executor:
        fits = executor.on(
            task_id=rule.task_id, binary=rule.binary, args=rule.args, stdin=rule.stdin, executor=rule.executor
        )
        fits.gives(*_answers(rule))
    known = sinks_of(stream_of(flow), config, ())
    if unknown := case.sinks.keys() - known.keys():
        raise AssertionError(f"sinks: unknown sink {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    sinks = [_failing(sink_id, errors) for sink_id, errors in case.sinks.items()]
    with FlowHarness(
        flow, config=config, executor=executor, sinks=sinks, partitions=case.partitions, real_programs=case.real
    ) as kit:
        crashes = sum(step.crash for step in case.input)
        if crashes:
            kit.hold_commits()
        for step in case.input:
            if step.crash:
                crashes -= 1
                kit.wait_acknowledged(timeout_s=case.timeout_s)
                kit.crash()
                kit.restart(hold_commits=crashes > 0)
            elif step.advance_s is not None:
                kit.clock.advance(step.advance_s)
            else:
                _send(kit, step, directory)
        return kit.finish(case.timeout_s)


def _send(kit: FlowHarness, step: StepCase, directory: Path) -> None:
    kit.send(
        step.value(directory),
        key=step.key,
        partition=step.partition,
        topic=step.topic,
        headers=step.headers or None,
        timestamp=step.timestamp,
    )


def _failing(sink_id: str, errors: list[str | None]) -> MemorySink:
    kind, _, name = sink_id.partition("-")
    return MemorySink(name, kind=kind, script=[SinkError(error) if error is not None else None for error in errors])


def _answers(rule: RuleCase) -> list[Answer]:
    given: list[AnswerCase] = rule.attempts or [rule]
    return [
        Answer(
            stdout=each.output[0],
            stderr=each.output[1],
            exit_code=each.exit_code,
            delay_s=each.delay_s,
            kind=each.kind,
        )
        for each in given
    ]


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
