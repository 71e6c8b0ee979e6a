"""The whole configuration."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from drakkar_flow.config.base import Section
from drakkar_flow.config.executor import ExecutorConfig
from drakkar_flow.config.kafka import KafkaConfig
from drakkar_flow.config.observe import LoggingConfig, MetricsConfig
from drakkar_flow.config.offload import OffloadConfig
from drakkar_flow.config.runtime import RuntimeConfig
from drakkar_flow.config.sinks import DlqConfig, SinksConfig

__all__ = ["DrakkarConfig"]


class DrakkarConfig(Section):
    """Everything a worker is told; read with `load_config`."""

    worker_name_env: str = "WORKER_ID"
    """Environment variable that holds this worker's name."""
    cluster_name: str = ""
    """Name of the group of workers this one belongs to."""
    cluster_name_env: str = ""
    """Environment variable that, when set, holds the cluster name instead."""
    kafka: KafkaConfig = KafkaConfig()
    """Where records come from."""
    executor: ExecutorConfig = ExecutorConfig()
    """How external programs are run."""
    offload: OffloadConfig = OffloadConfig()
    """The threads for what a handler computes itself."""
    sinks: SinksConfig = SinksConfig()
    """Where results go."""
    dlq: DlqConfig = DlqConfig()
    """Where dead letters go."""
    runtime: RuntimeConfig = RuntimeConfig()
    """Bounds and rhythms of the running flow."""
    metrics: MetricsConfig = MetricsConfig()
    """The Prometheus endpoint."""
    logging: LoggingConfig = LoggingConfig()
    """What is logged, how and where."""
    app: dict[str, Any] = {}
    """Settings of your own; the library does not look at them."""

    @property
    def dead_letter_topic(self) -> str:
        """The topic dead letters go to: dlq.topic, or the (first) source topic followed by `_dlq`.

        >>> DrakkarConfig().dead_letter_topic
        'input-events_dlq'
        """
        return self.dlq.topic or f"{self.kafka.topics[0]}_dlq"

    @property
    def drain_timeout_s(self) -> float:
        """Seconds that records in flight get to finish at shutdown."""
        return self.runtime.drain_timeout_s or self.executor.drain_timeout_seconds

    @model_validator(mode="after")
    def _dead_letters_have_a_topic(self) -> Self:
        if not self.dlq.topic and self.kafka.topics[0].startswith("^"):
            raise ValueError("dlq.topic must be set when the source topic is a regular expression")
        if self.dlq.brokers in ("", self.kafka.brokers) and self.dead_letter_topic in self.kafka.topics:
            raise ValueError(
                f"dlq.topic {self.dead_letter_topic!r} is also a source topic: dead letters would come back"
            )
        return self
