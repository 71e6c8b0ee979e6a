"""Components: the parts of a compiled flow, made by the engine and passed to the compiler."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.delivery import SinkConfig
from drakkar_flow.config.sections.executor import ProgramConfig
from drakkar_flow.executor.base import Executor
from drakkar_flow.kernel.backoff import Backoff
from drakkar_flow.kinds.sink import Sink, SinkSpec
from drakkar_flow.model.cache import CacheStore
from drakkar_flow.observe.bus import Bus
from drakkar_flow.runtime.acknowledgement.commit import Track
from drakkar_flow.runtime.acknowledgement.in_flight import InFlight
from drakkar_flow.runtime.across.home import Away
from drakkar_flow.runtime.across.shards import Shards
from drakkar_flow.runtime.event_loop import EventLoopThread
from drakkar_flow.runtime.reader import Reader
from drakkar_flow.runtime.recovery.positions import DurablePositions
from drakkar_flow.runtime.source import ExecutorAdmission
from drakkar_flow.runtime.state_topic.topic import StateTopic
from drakkar_flow.runtime.steps.chain import Chain
from drakkar_flow.runtime.steps.deadletter import DeadLetterWriter
from drakkar_flow.runtime.steps.pending import PendingTasks
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["Components", "SinkComponent"]

_DLQ_BACKOFF = Backoff(initial_s=0.5, max_s=30.0)


@dataclass(frozen=True, slots=True)
class SinkComponent:
    """One sink instance: its kind, name and settings, and the connected sink."""

    spec: SinkSpec
    name: str
    settings: SinkConfig
    sink: Sink

    @property
    def id(self) -> str:
        """Step id of the sink."""
        return f"{self.spec.kind}-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Running components of one process; there are no globals."""

    config: DrakkarConfig
    bus: Bus
    loop_thread: EventLoopThread
    control: StopSignal
    in_flight: InFlight
    reader: Reader
    sinks: Mapping[str, SinkComponent]
    dead_letters: DeadLetterWriter
    executor: Executor | None
    intake: ExecutorAdmission | None
    ended: Callable[[], None]
    programs: Mapping[str, ProgramConfig] = field(default_factory=dict)
    """Configuration of every executor by name; empty takes the flow's configuration."""
    track: Track = field(default_factory=Track)
    pending: PendingTasks = field(default_factory=PendingTasks)
    chains: list[Chain] = field(default_factory=list)
    """Chains of all shards, in the order in which they were made."""
    task_backoff: Backoff | None = None
    """Pauses between the attempts of a task, instead of the configured ones."""
    recovery: DurablePositions | None = None
    """Positions of the recovery store in fixed mode; None in group mode."""
    shards: Shards | None = None
    """State across partitions; None in a flow without."""
    away: Away = field(default_factory=Away)
    """Records that other processes work on."""
    state_topic: StateTopic | None = None
    """Topic of the flow's state in group mode; None without state, or where another store has it."""
    cache: CacheStore | None = None
    """Cache of the worker; None if it is not enabled."""
    brake_hold_s: float | None = None
    """Seconds for which the brake holds failures back, instead of the configured ones."""
    dlq_backoff: Backoff = _DLQ_BACKOFF
    wall_clock: Callable[[], float] = time.time
    """Seconds since the epoch, for the age of values of state."""

    @property
    def steps(self) -> list[AsyncStep[Any, Any]]:
        """Async steps of all chains."""
        return [step for chain in self.chains for step in chain.steps]
