"""Components of a flow, built from the flow and its configuration. Nothing connects here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

from pydantic import ValidationError

from drakkar_flow.config.loading.client_properties import value_problem
from drakkar_flow.config.loops import same_topic_notices, sink_loop
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.sections.kafka import KafkaConfig, KafkaSecurityConfig, client_properties, security_properties
from drakkar_flow.engine.executors import intake_of, make_executors, program_configs
from drakkar_flow.engine.group_state import group_state_settings
from drakkar_flow.errors import ConfigError, Problem
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.joins import Sides
from drakkar_flow.graph.nodes import Execute, MapAsync, Route, SinkRef
from drakkar_flow.kernel.pace import Pace
from drakkar_flow.kernel.slots import slots_of_process
from drakkar_flow.kinds.registry import SINKS
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.components import Components, SinkComponent
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.group.assignments import AssignmentHooks
from drakkar_flow.runtime.group.reader import GroupReader, GroupSettings
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.stop_signal import StopSignal
from drakkar_flow.sinks.dlq import DeadLetterQueue
from drakkar_flow.sinks.kafka.settings import KafkaSinkConfig
from drakkar_flow.sinks.registry import SPECS

__all__ = [
    "build_parts",
    "consumer_properties",
    "dead_letter_client",
    "resolve_sinks",
    "resolve_topics",
    "with_brokers",
]

_MIB = 1024 * 1024
_LEAST_IN_FLIGHT = 8
_NO_LIMIT = 1 << 60
_FIRST_IN_FLIGHT = 250  # until the rate of finished records is known
_PREFETCH_KIB = 16 * 1024  # librdkafka's read-ahead, all partitions together
_PREFETCH_RECORDS = 10_000  # of each partition; the limit above counts their data only, not what the client adds
_PREFETCH_BACKOFF_MS = 20  # pause of a full read-ahead; the default of 1 s makes the flow stutter
_BROKERS_SESSION_S = 45.0  # default of group.consumer.session.timeout.ms, which the brokers set for the new protocol
_FETCH_WAIT_MS = 100  # a fetch of empty partitions delays the next fetches; the default is 500


def resolve_topics(flow: StreamFlow, config: DrakkarConfig) -> DrakkarConfig:
    """Return the configuration with its source topics: those of the configuration, else the flow's, else the default.

    Raises:
        ConfigError: the rest of the configuration does not fit the flow's topics.
    """
    named = {"source_topic", "source_topics"} & config.kafka.model_fields_set
    if named and flow.find(Sides) is not None and set(config.kafka.topics) != set(flow.source.topics):
        what = f"flow {flow.name!r} joins the topics that it names: {', '.join(flow.source.topics)}"
        raise ConfigError([Problem("kafka.source_topics", what, "remove it")])
    if named or not flow.source.topics:
        return config
    kafka = config.kafka.model_copy(update={"source_topics": list(flow.source.topics)})
    try:
        settled = config.replaced(kafka=kafka)
        loops = same_topic_notices(
            kafka, settled.sinks, settled.dead_letter_topic, lambda place: ".".join(map(str, place))
        )
        new = [notice for notice in loops if notice not in config.notices]
        return settled.noted((*config.notices, *new), config.file)
    except ValidationError as exc:
        where = f"the topics of flow {flow.name!r}"
        problems = [Problem(where, error["msg"].removeprefix("Value error, ")) for error in exc.errors()]
        raise ConfigError(problems) from None


def _dotted(place: tuple[str | int, ...]) -> str:
    return ".".join(map(str, place))


def build_parts(
    flow: StreamFlow, config: DrakkarConfig, bus: Bus, loop_thread: EventLoopThread, ended: Callable[[], None]
) -> Components:
    """Make the components of a flow.

    Raises:
        ConfigError: with every sink that is not configured or has invalid settings.
    """
    control = StopSignal(config.drain_timeout_s, config.runtime.close_timeout_s)
    state = group_state_settings(flow, config)
    group, hooks = _group_settings(config, by_interval=state is not None), flow.hooks
    assignments = AssignmentHooks(loop_thread, bus, hooks.on_assign, hooks.on_revoke, group.drain_timeout_s)
    runtime = config.runtime
    track = Track(records_changes=state is not None)
    shards = None if flow.across is None else _shards_of(config)
    recovery = None if runtime.recovery is None else DurablePositions(_slots_of(config), shards)
    execute: Execute | None = flow.find(Execute)
    programs = program_configs(config, execute, os.environ)
    slots = sum(program.max_executors for program in programs.values()) if execute is not None else 0
    in_flight = InFlight(
        runtime.max_in_flight_records,
        int(runtime.max_in_flight_mib * _MIB),
        _pace(flow, slots, group.drain_timeout_s),
    )
    executor = make_executors(programs, bus) if execute is not None else None
    return Components(
        config=config,
        bus=bus,
        loop_thread=loop_thread,
        control=control,
        in_flight=in_flight,
        reader=GroupReader(group, in_flight, control, bus, track, assignments, positions=recovery, state=state),
        recovery=recovery,
        shards=shards,
        state_topic=None if state is None else state.topic,
        track=track,
        sinks=_sinks(flow, config),
        dead_letters=_dead_letters(config),
        executor=executor,
        intake=intake_of(executor, in_flight, config.executor) if executor is not None else None,
        ended=ended,
        programs=programs,
    )


def _slots_of(config: DrakkarConfig) -> list[str]:
    cluster = config.runtime.cluster
    return slots_of_process(0, 1) if cluster is None else slots_of_process(cluster.process_id, cluster.processes)


def _shards_of(config: DrakkarConfig) -> Shards:
    cluster = config.runtime.cluster
    place = (0, 1) if cluster is None else (cluster.process_id, cluster.processes)
    return Shards(*place, stored=config.runtime.recovery is not None)


def _pace(flow: StreamFlow, slots: int, drain_s: float) -> Pace:
    """Return the limit of records in flight by time; never below the number that keeps the flow's steps busy."""
    calls = sum(node.max_in_flight for node in flow.nodes if isinstance(node, MapAsync))
    floor = max(_LEAST_IN_FLIGHT, 2 * slots + calls)
    return Pace(drain_s, floor, start=4 * floor if slots else _FIRST_IN_FLIGHT)


def _group_settings(config: DrakkarConfig, *, by_interval: bool) -> GroupSettings:
    """Return the settings of a member; with `by_interval` it commits by the time alone, for each is a transaction."""
    kafka, runtime = config.kafka, config.runtime
    return GroupSettings(
        topics=kafka.topics,
        properties=consumer_properties(kafka),
        poll_records=kafka.max_poll_records,
        buffer_records_per_partition=runtime.buffer_records_per_partition,
        buffer_size=int(runtime.buffer_mib * _MIB),
        commit_interval_s=runtime.commit_interval_s,
        commit_max_offsets=_NO_LIMIT if by_interval else runtime.commit_max_offsets,
        metadata_size=runtime.commit_metadata_bytes,
        metadata_refresh_s=kafka.metadata_refresh_s,
        session_timeout_s=kafka.session_timeout_ms / 1000 if kafka.group_protocol == "classic" else _BROKERS_SESSION_S,
        client=client_properties(kafka),
        drain_timeout_s=min(config.drain_timeout_s, kafka.max_poll_interval_ms / 1000 * 0.8),
    )


def consumer_properties(kafka: KafkaConfig) -> dict[str, Any]:
    """Return the librdkafka properties of the consumer; those that the library controls can't be overridden."""
    properties: dict[str, Any] = {
        "queued.max.messages.kbytes": _PREFETCH_KIB,
        "queued.min.messages": _PREFETCH_RECORDS,
        "fetch.wait.max.ms": _FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": _PREFETCH_BACKOFF_MS,
        **client_properties(kafka),
        "group.id": kafka.consumer_group,
        "group.protocol": kafka.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,  # reports the end behind transaction markers and aborted records
        "auto.offset.reset": kafka.auto_offset_reset.replace("none", "error"),
        "max.poll.interval.ms": kafka.max_poll_interval_ms,
        "topic.metadata.refresh.interval.ms": int(kafka.metadata_refresh_s * 1000),
    }
    if kafka.group_instance_id:
        properties["group.instance.id"] = kafka.group_instance_id
    if kafka.group_protocol == "classic":
        properties["partition.assignment.strategy"] = "cooperative-sticky"
        properties["session.timeout.ms"] = kafka.session_timeout_ms
        properties["heartbeat.interval.ms"] = kafka.heartbeat_interval_ms
    return properties


def resolve_sinks(flow: StreamFlow, config: DrakkarConfig) -> tuple[dict[str, SinkComponent], list[Problem]]:
    """Return the sinks of a flow's route, or all configured ones, not connected, and the problems of the others."""
    route: Route = flow.find(Route) or Route()
    place = flow.place_of(route)
    configured = {kind: dict(named) for kind, named in config.sinks if isinstance(named, dict)}
    wanted = list(route.sinks) or [SinkRef(kind, name) for kind, names in configured.items() for name in names]
    problems: list[Problem] = []
    components: dict[str, SinkComponent] = {}
    for ref in wanted:
        wrong: list[Problem] = []
        part = _sink(ref, configured.get(ref.kind, {}), config, wrong)
        if part is not None:
            components[part.id] = part
        problems += [replace(problem, place=place) for problem in wrong]
    if not wanted:
        problems.append(Problem("sinks", "no sink is configured", "add one, e.g. sinks.kafka.results.topic"))
    problems += _clashes(components.values())
    if problems and config.file is not None and config.file.path is None:
        problems.append(Problem("configuration", str(config.file), "set --config or DRAKKAR_CONFIG"))
    return components, problems


def _clashes(components: Iterable[SinkComponent]) -> Iterator[Problem]:
    """Yield sinks of different kinds that take the same payload type and have the same name: routing is ambiguous."""
    first: dict[tuple[type, str], SinkComponent] = {}
    for part in components:
        other = first.setdefault((part.spec.payload_type, part.name), part)
        if other is not part:
            what = f"takes {part.spec.payload_type.__name__} under the same name as sinks.{other.spec.kind}.{part.name}"
            yield Problem(f"sinks.{part.spec.kind}.{part.name}", what, "rename one of them")


def _sinks(flow: StreamFlow, config: DrakkarConfig) -> dict[str, SinkComponent]:
    components, problems = resolve_sinks(flow, config)
    if problems:
        raise ConfigError(problems)
    return components


def _sink(
    ref: SinkRef, configured: dict[str, Any], config: DrakkarConfig, problems: list[Problem]
) -> SinkComponent | None:
    where = f"sinks.{ref.kind}.{ref.name}"
    spec = SPECS.get(ref.kind) if ref.spec is None else ref.spec
    broken = SINKS.broken().get(ref.kind)
    if broken is not None and (spec is None or spec is ref.spec):
        problems.append(Problem(where, f"{broken.where}: {broken.what}", broken.remedy))
        return None
    if spec is None:
        kinds = ", ".join(sorted(SPECS))
        problems.append(Problem(where, f"unknown kind of sink {ref.kind!r}", f"the kinds are: {kinds}"))
        return None
    settings: SinkConfig | None = configured.get(ref.name)
    if settings is None and not ref.settings:
        known = ", ".join(configured) or "none"
        remedy = f"add {where} to the configuration (there are: {known}), or give its settings in the flow"
        problems.append(Problem(where, "the flow routes to it, but it is not configured", remedy))
        return None
    given = settings.model_dump(exclude_unset=True) if settings is not None else {}
    try:
        settings = cast("SinkConfig", spec.settings_type.model_validate({**given, **ref.settings}))
    except ValidationError as exc:
        for error in exc.errors(include_url=False):
            place = ".".join([where, *(str(part) for part in error["loc"] if part != "[key]")])
            what = error["msg"].removeprefix("Value error, ")
            problems.append(Problem(place, what, f"fix the sink's settings in the flow, at {ref.at}"))
        return None
    if isinstance(settings, KafkaSinkConfig):
        values = ref.settings.get("client_config", {})  # those of the file were checked on load
        wrong = {name: what for name, value in values.items() if (what := value_problem(name, value))}
        remedy = f"fix the sink's settings in the flow, at {ref.at}"
        problems += [Problem(f"{where}.client_config.{name}", what, remedy) for name, what in wrong.items()]
    if isinstance(settings, KafkaSinkConfig) and (loop := sink_loop(config.kafka, where, settings)):
        problems.append(loop)
    timed = settings.model_copy(update={"delivery_timeout_s": config.sinks.timeout_of(settings)})
    sink = spec.make(ref.name, _with_brokers(timed, config.kafka))
    return SinkComponent(spec, ref.name, settings, sink)


def _with_brokers(settings: Any, kafka: KafkaConfig) -> Any:
    """Give a Kafka sink on the source's brokers their client settings, and their security unless it has its own."""
    if not hasattr(settings, "brokers"):
        return settings
    shared = {} if settings.brokers else kafka.client_config
    security = settings.security or (KafkaSecurityConfig() if settings.brokers else kafka.security)
    client_config = {**security_properties(security), **shared, **settings.client_config}
    return settings.model_copy(update={"brokers": settings.brokers or kafka.brokers, "client_config": client_config})


with_brokers = _with_brokers  # for checks, which connect separate clients


def dead_letter_client(config: DrakkarConfig) -> dict[str, Any]:
    """Return the librdkafka properties for the brokers of the dead letter topic, secrets in clear."""
    settings = _with_brokers(config.dlq, config.kafka)
    return {"bootstrap.servers": settings.brokers, **settings.client_config}


def _dead_letters(config: DrakkarConfig) -> DeadLetterQueue:
    settings = _with_brokers(config.dlq, config.kafka)
    return DeadLetterQueue(
        config.dead_letter_topic,
        settings.brokers,
        settings.client_config,
        include_server_detail=settings.include_server_detail,
        redact=config.redactor,
    )
