"""State in group mode: where a flow's state is stored, the the names of its topic and transactions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Literal
from uuid import uuid4
from zlib import crc32

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.kafka import client_properties
from drakkar_flow.errors import Problem
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.kernel.state_start import StatePolicy
from drakkar_flow.runtime.group.group_state import GroupStateSettings
from drakkar_flow.runtime.state_topic.restore import StateOwner
from drakkar_flow.runtime.state_topic.topic import KEY, StateTopic

__all__ = [
    "StateStore",
    "group_state_settings",
    "state_store_of",
    "state_topic_name",
    "state_topic_of",
    "state_topic_problems",
    "transactional_id_of",
]

StateStore = Literal["none", "kafka", "recovery", "memory"]
"""Place of a flow's state; `none` for a flow without state."""

_UNUSUAL = re.compile("[^a-zA-Z0-9._-]")


def state_store_of(flow: StreamFlow, config: DrakkarConfig) -> StateStore:
    """Return where the state of a flow is stored."""
    if not any(flow.state_codecs()):
        return "none"
    if config.runtime.recovery is not None:
        return "recovery"
    return "memory" if config.runtime.state.store == "memory" else "kafka"


def state_topic_name(flow: str, config: DrakkarConfig) -> str:
    """Return the name of the state topic: that of the configuration, else group, flow and `state`.

    >>> state_topic_name("count", DrakkarConfig()), state_topic_name("per user", DrakkarConfig())
    ('drakkar-workers.count.state', 'drakkar-workers.per_user-3b00a720.state')
    """
    return config.runtime.state.topic or f"{_prefix(flow, config)}.state"


def transactional_id_of(flow: str, config: DrakkarConfig, member: str = "") -> str:
    """Return the transactional id of a member: by default its static name, else one that no other process has."""
    return f"{_prefix(flow, config)}.{member or config.kafka.group_instance_id or uuid4().hex}"


def state_topic_of(flow: StreamFlow, config: DrakkarConfig) -> StateTopic:
    """Return the state topic of a flow. Nothing connects here."""
    return StateTopic(client_properties(config.kafka), state_topic_name(flow.name, config), config.kafka.topics)


def group_state_settings(flow: StreamFlow, config: DrakkarConfig) -> GroupStateSettings | None:
    """Return the settings of a flow's state in group mode; None if it has no state topic."""
    if state_store_of(flow, config) != "kafka":
        return None
    return GroupStateSettings(
        topic=state_topic_of(flow, config),
        owner=StateOwner(config.kafka.consumer_group, flow.name, dict(flow.state_codecs())),
        policy=StatePolicy(config.runtime.state.on_mismatch, config.kafka.auto_offset_reset),
        transactional_id=transactional_id_of(flow.name, config),
    )


def state_topic_problems(flow: StreamFlow, config: DrakkarConfig) -> Iterator[Problem]:
    """Yield topics of the flow that are also its state topic."""
    if state_store_of(flow, config) != "kafka":
        return
    name, remedy = state_topic_name(flow.name, config), "give the state topic another name"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in config.kafka.topics:
            if source.startswith("^") and re.match(source, name):
                what = f"the pattern {source!r} of kafka.source_topic matches the state topic {name!r}"
                yield Problem(KEY, f"{what}: the flow would read its own state", remedy)
            elif source == name:
                yield Problem(KEY, f"{name!r} is also a source topic", remedy)
    others = {f"sinks.kafka.{key}": sink.topic for key, sink in config.sinks.kafka.items()}
    for where, other in {**others, "dlq": config.dead_letter_topic}.items():
        if other == name:
            yield Problem(KEY, f"{name!r} is also the topic of {where}", remedy)


def _prefix(flow: str, config: DrakkarConfig) -> str:
    return f"{_safe(config.kafka.consumer_group)}.{_safe(flow)}"


def _safe(name: str) -> str:
    """Return a name that a topic may have; characters that it may not have are replaced, and a checksum is added."""
    safe = _UNUSUAL.sub("_", name)[:100]
    return safe if safe == name else f"{safe}-{crc32(name.encode()):08x}"
