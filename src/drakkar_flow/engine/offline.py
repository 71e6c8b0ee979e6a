"""Offline checks: problems that prevent a flow from running, as far as they show without a network."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

from drakkar_flow.config.loading.load import Loaded
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.engine.build import consumer_properties, resolve_sinks, resolve_topics, with_brokers
from drakkar_flow.engine.executors import program_configs
from drakkar_flow.engine.group_state import state_topic_problems
from drakkar_flow.engine.odd_numbers import odd_numbers
from drakkar_flow.engine.unused import missing_cache, unused_sinks
from drakkar_flow.errors import ConfigError, Problem, ProblemsError
from drakkar_flow.executor.environment import startup_problems
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.nodes import Arrange, Execute, Route
from drakkar_flow.graph.places import place_of
from drakkar_flow.graph.signatures import doubtful_hooks, function_problems
from drakkar_flow.kinds.registry import EXECUTORS
from drakkar_flow.librdkafka import UNSERVED
from drakkar_flow.runtime.components import SinkComponent
from drakkar_flow.runtime.recovery.directory import KEY, directory_of
from drakkar_flow.sinks.kafka.client import producer_config
from drakkar_flow.sinks.registry import OWN
from drakkar_flow.storage.directory import network_filesystem

__all__ = ["Finding", "configuration_findings", "flow_findings", "source_problems"]

_DEFAULT_OF_PY_DRAKKAR: Final = {"source_topic": "input-events", "consumer_group": "drakkar-workers"}

_OF_MEMBERS: Final = frozenset({"group_instance_id", "group_protocol", "startup_align_enabled"})
"""Settings of `kafka` that concern the members of a consumer group only."""

Where = Callable[[tuple[str | int, ...]], str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check: a code (`flow`, `hook`, `sink`, …) and the problem; only errors prevent a run.

    >>> print(Finding("sink", Problem("sinks.kafka.a", "configured but not used"), is_error=False))
    [sink] sinks.kafka.a: configured but not used
    """

    code: str
    problem: Problem
    is_error: bool = True

    def __str__(self) -> str:
        return f"[{self.code}] {self.problem.placed}"

    def to_json(self) -> dict[str, str]:
        """Return the finding as JSON-compatible data."""
        problem = self.problem
        return {
            "level": "error" if self.is_error else "warning",
            "code": self.code,
            "place": problem.place,
            "where": problem.where,
            "what": problem.what,
            "remedy": problem.remedy,
        }


def source_problems(flow: StreamFlow, config: DrakkarConfig) -> list[Problem]:
    """Return missing settings that have defaults only in the testing kit: topic and group."""
    given = config.kafka.model_fields_set
    missing = []
    if not flow.source.topics and not {"source_topic", "source_topics"} & given:
        missing.append(("source_topic", "no source topic is set", 'set it, or name the topic in KafkaSource("...")'))
    if "consumer_group" not in given:
        missing.append(("consumer_group", "no consumer group is set", "set it to a name that only this job uses"))
    problems = [
        Problem(f"kafka.{key}", what, f"{remedy} (py-drakkar's default: {_DEFAULT_OF_PY_DRAKKAR[key]})")
        for key, what, remedy in missing
    ]
    if config.runtime.recovery is None and flow.across is not None:
        step = next(step for step, node in flow.steps() if node is flow.across)
        what = f"{step} keeps state across partitions, which a consumer group can't share"
        remedy = "write `recovery: {}`: one process, or a cluster, then reads all partitions"
        problems.append(Problem("runtime.recovery", what, remedy))
    return problems


def flow_findings(flow: StreamFlow) -> Iterator[Finding]:
    """Yield the errors of the flow's graph and of its handler's hooks."""
    owner = flow.hooks.owner
    hooks = type(owner).__name__ if owner is not None else ""
    for problem in flow.problems():
        yield Finding("hook" if hooks and problem.where.partition(".")[0] == hooks else "flow", problem)
    if owner is None:
        yield from (Finding("hook", problem) for problem in function_problems(flow.steps(), flow.hooks))
        return
    doubtful = list(doubtful_hooks(owner))
    yield from (Finding("hook", problem, is_error=False) for problem in doubtful)
    for text in flow.hooks.warnings:
        if text not in [problem.placed for problem in doubtful]:
            yield Finding("hook", Problem("", text, place=place_of(type(owner))), is_error=False)


def configuration_findings(flow: StreamFlow, loaded: Loaded) -> Iterator[Finding]:
    """Yield the errors and warnings of a loaded configuration for the flow that it belongs to."""
    where = loaded.layer.where
    yield from (Finding("config", notice, is_error=False) for notice in loaded.notices)
    sure = flow.hooks.on_startup is None  # the hook may set missing values
    yield from (Finding("source", problem, is_error=sure) for problem in source_problems(flow, loaded.config))
    try:
        config = resolve_topics(flow, loaded.config)
    except ConfigError as exc:
        yield from (Finding("source", problem) for problem in exc.problems)
        return
    components: Collection[SinkComponent] = ()
    if flow.find(Route) is not None:
        resolved, problems = resolve_sinks(flow, config)
        components = resolved.values()
        yield from (Finding("sink", problem, is_error=sure) for problem in problems)
        yield from _sink_findings(flow, config, components, where)
    yield from _client_findings(config, components)
    yield from _program_findings(flow, config)
    yield from _directory_findings(config)
    yield from _recovery_findings(flow, config)
    yield from (Finding("state", problem) for problem in state_topic_problems(flow, config))
    for path, what, remedy in odd_numbers(config):
        yield Finding("numbers", Problem(where(path), what, remedy), is_error=False)


def _client_findings(config: DrakkarConfig, components: Iterable[SinkComponent]) -> Iterator[Finding]:
    """Yield properties that librdkafka refuses: a client is made with them, without a connection."""
    kafka, nowhere = config.kafka, {"bootstrap.servers": "", "log_level": 0}
    security = kafka.security
    for key in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location"):
        file = getattr(security, key)
        if file and not os.access(file, os.R_OK):
            what = f"{file!r} can't be read" if Path(file).exists() else f"file {file!r} not found"
            yield Finding("file", Problem(f"kafka.security.{key}", what, "set the path of a readable PEM file"))
    producers: dict[str, Any] = {
        f"sinks.kafka.{part.name}": part.settings for part in components if part.spec.kind == "kafka"
    }
    makes: dict[str, Callable[[], Any]] = {
        "kafka": partial(Consumer, {**consumer_properties(kafka), **nowhere}, logger=UNSERVED)
    }
    own: dict[str, Any] = {**producers, "dlq": config.dlq}
    for where, settings in own.items():
        whole = with_brokers(settings, kafka)
        linger_ms = getattr(whole, "linger_ms", 2.0)
        properties = producer_config(whole.brokers, whole.client_config, linger_ms=linger_ms)
        makes[where] = partial(Producer, {**properties, **nowhere}, logger=UNSERVED)
    reported = set()
    for where, make in makes.items():
        try:
            make()
        except (KafkaException, TypeError, ValueError) as exc:
            said = (exc.args[0].str() if isinstance(exc, KafkaException) else str(exc)).strip()
            said = re.sub("^Failed to create [a-z]+: ", "", said)
            if said in reported and not own[where].client_config:  # the sink shares the source's properties
                continue
            reported.add(said)
            remedy = "see librdkafka's CONFIGURATION.md for the properties"
            yield Finding("kafka", Problem(f"{where}.client_config", said, remedy))


def _sink_findings(
    flow: StreamFlow, config: DrakkarConfig, components: Iterable[SinkComponent], where: Where
) -> Iterator[Finding]:
    for part in components:
        client = part.spec.client
        if client and find_spec(client) is None:
            package = f"drakkar-flow[{part.spec.kind}]" if part.spec.kind in OWN else client
            remedy = f'install it: pip install "{package}"'
            yield Finding(
                "package", Problem(f"sinks.{part.spec.kind}.{part.name}", f"package {client} is missing", remedy)
            )
    for problem in (*unused_sinks(flow, config), *missing_cache(flow, config)):
        place = where(tuple(problem.where.split(".", 2)))
        yield Finding("sink", replace(problem, where=place), is_error=False)


def _program_findings(flow: StreamFlow, config: DrakkarConfig) -> Iterator[Finding]:
    execute: Execute | None = flow.find(Execute)
    if execute is None:
        return
    try:
        configs = program_configs(config, execute)
    except ProblemsError as exc:
        yield from (Finding("program", problem) for problem in exc.problems)
        return
    for name, programs in configs.items():
        section = f"executors.{name}" if name else "executor"
        if programs.mode in EXECUTORS.usable():
            continue  # a plug-in's executor has its own settings
        for problem in startup_problems(programs, os.environ):
            yield Finding("program", replace(problem, where=problem.where.replace("executor", section, 1)))
        if programs.binary_path is None and programs.mode == "persistent":
            problem = Problem(f"{section}.binary_path", "no program is set for the persistent children", "set it")
            yield Finding("program", problem)
    ours = [programs for programs in configs.values() if programs.mode not in EXECUTORS.usable()]
    if ours and all(programs.binary_path is None for programs in ours) and not _names_programs(flow):
        remedy = "set it, or give each task a binary_path"
        problem = Problem("executor.binary_path", "no program is set, and the flow's file names none", remedy)
        yield Finding("program", problem, is_error=False)


def _names_programs(flow: StreamFlow) -> bool:
    """Return True if tasks may name their own program, judged by the source of the file that makes them."""
    arrange: Arrange | None = flow.find(Arrange)
    try:
        source = inspect.getsource(inspect.getmodule(arrange.fn)) if arrange is not None else ""  # type: ignore[arg-type]
    except (OSError, TypeError):
        return True
    return any(word in source for word in ("binary_path", "executor=", "precomputed"))


def _directory_findings(config: DrakkarConfig) -> Iterator[Finding]:
    wanted = [(f"sinks.filesystem.{name}.base_path", Path(s.base_path)) for name, s in config.sinks.filesystem.items()]
    wanted += [(f"sinks.sqlite.{name}.path", Path(s.path).parent) for name, s in config.sinks.sqlite.items()]
    if config.logging.output not in ("stderr", "stdout") and "{" not in config.logging.output:
        wanted.append(("logging.output", Path(config.logging.output).parent))
    for key, directory in wanted:
        if what := _unwritable(directory):
            yield Finding("directory", Problem(key, what, "set a directory that this user can write"))


def _recovery_findings(flow: StreamFlow, config: DrakkarConfig) -> Iterator[Finding]:
    """Yield problems of a recovery store's directory, and settings of group members that it makes useless."""
    recovery = config.runtime.recovery
    if recovery is None:
        return
    directory = directory_of(recovery, flow.name)
    what = _unwritable(directory)
    if not what and (kind := network_filesystem(directory)):
        what = f"{directory} is on a network filesystem ({kind})"
    if what:
        yield Finding("directory", Problem(KEY, what, "set a directory on a local disk that this user can write"))
    why = "has no effect with runtime.recovery: this process alone reads all partitions"
    for key in sorted(_OF_MEMBERS & config.kafka.model_fields_set):
        yield Finding("recovery", Problem(f"kafka.{key}", why, "remove one of the two"), is_error=False)


def _unwritable(directory: Path) -> str:
    """Return the reason why a directory, created if missing, is not writable; empty if it is writable."""
    there = directory.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f"{there} is not a directory"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} is not writable"
